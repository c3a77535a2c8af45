// The rows and tables of jsq analyze: statistics, results (models, measured errors, trials, bounds) and
// curves. One list of columns serves JSON and CSV; text and Markdown show them in several narrower tables.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "jsq/largest.hpp"
#include "jsq/rate_distortion.hpp"
#include "jsq/statistics.hpp"
#include "noise_study.hpp"
#include "report.hpp"
#include "transform_report.hpp"

namespace jsq::tools {

/// One tensor, a whole dump, or all inputs together.
struct Subject {
  std::string input;   ///< "" for all inputs together
  std::string tensor;  ///< of a whole dump: its tensor's name where it has only one
  bool is_tensor = false;
  std::string dtype;  ///< "mixed" when a dump's tensors differ
  std::vector<uint64_t> shape;
  size_t tensors = 1;
  StatisticsFigures figures;
  LargestFigures largest;
  Json results = Json::array();
  Json curve = Json::array();
  Json transforms = Json::array();
};

/// What one source model allows at the size and at the error of a result.
struct BoundAt {
  double nmse = 0;   ///< the least at the result's bits per element
  double bytes = 0;  ///< the least at the result's nmse
};
struct BoundsAt {
  BoundAt pooled, tensors, scales;
  double shannon_nmse = 0;  ///< of the pooled source
};
BoundsAt bounds_at(const RateDistortionBounds& bounds, double bits_per_element, double nmse);

/// One row of the results: an allocator (or the method as given) at one target.
struct ResultLine {
  std::string input, tensor;
  bool is_tensor = false;
  std::string target;
  std::string allocator;
  std::optional<ModelNoise> model;
  std::optional<CodedNoise> coded;  ///< of a tensor: its blocks' bytes, its distortion and its trials
  std::optional<BoundsAt> bounds;
  std::string problem;
};

/// One point of a curve.
struct CurvePoint {
  std::string input;
  std::string target;
  uint64_t elements = 0;
  std::optional<CodedNoise> coded;
  std::optional<BoundsAt> bounds;
  std::string problem;
};

/// What was asked for decides which tables there are.
struct ReportParts {
  bool models = false, results = false, trials = false, bound = false, curve = false, transforms = false;
  bool several_inputs = false, per_tensor = false;
  std::string method;
};

/// All columns, for JSON and CSV.
Table statistics_table(const std::vector<Subject>& subjects);
Table results_table(const std::vector<ResultLine>& lines);
Table curve_table(const std::vector<CurvePoint>& points);

/// The report on standard output, in the format that was asked for.  \throws BrokenPipe, Error write_failed.
void print_report(const GlobalOptions& global, const ReportParts& parts, const std::vector<Subject>& subjects,
                  const std::vector<ResultLine>& lines, const std::vector<CurvePoint>& points,
                  const std::vector<TransformLine>& transforms);

}  // namespace jsq::tools

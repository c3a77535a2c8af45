// One cell of a comparison: a method at a target on a dump, encoded to memory and decoded again. Here are the
// quantities that every form of the report shows, each described once, and the measurement that fills them
// in.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "jsq/compress.hpp"
#include "jsq/rate_distortion.hpp"
#include "report.hpp"

namespace jsq::tools {

/// What is told of a cell, in the order of the columns.
enum class Quantity : uint8_t {
  file_ratio,
  bits_per_element,
  payload_ratio,
  hprime,
  nmse,
  cosine,
  sign_agreement,
  max_error,
  bias,
  bound_db,
  bound_factor,
  encode_speed,
  decode_speed,
};
constexpr size_t quantity_count = 13;

struct QuantityInfo {
  const char* key;    ///< in JSON, CSV, --sort and --fail-if
  const char* title;  ///< of its column
  bool larger_is_better;
  std::string (*show)(double);
  size_t width;  ///< columns that its texts usually take
};
/// By the number of the quantity.
extern const std::array<QuantityInfo, quantity_count> quantity_infos;
/// The quantity of a key.
std::optional<Quantity> quantity_of_key(std::string_view key);

/// A target and what it counts.
struct ComparedTarget {
  Target target;
  RatioKind kind = RatioKind::file;
};
/// "ratio=32"; "ratio=32 payload" where the papers' accounting is asked for.
std::string to_string(const ComparedTarget& target);
/// "file", "payload".
const char* accounting_name(RatioKind kind);

/// The figures of a tensor, or of a whole dump.
struct Figures {
  std::string tensor;  ///< name; "" for the whole dump
  uint64_t elements = 0, input_bytes = 0;
  uint64_t file_bytes = 0;                    ///< of the frame; of a tensor: of its blocks
  std::array<double, quantity_count> values;  ///< NaN where there is none

  Figures();
  double operator[](Quantity quantity) const { return values[size_t(quantity)]; }
  double& operator[](Quantity quantity) { return values[size_t(quantity)]; }
};

/// A cell that has been measured, or has turned out to be out of reach.
struct Outcome {
  std::string input;   ///< as it was given
  std::string method;  ///< as it was given
  ComparedTarget target;
  bool reached = false;
  bool measured =
      false;  ///< there are figures: at the target, or where it is out of reach at the nearest point
  std::string problem;  ///< why the target was not reached
  Figures whole;
  std::vector<Figures> tensors;  ///< in the dump's order
};

struct CellRequest {
  const InputDump* input = nullptr;
  std::string input_name;
  MethodSpec method;
  ComparedTarget target;
  unsigned repeat = 1;
  uint64_t seed = 0;
  unsigned threads = 0;
  Backend backend = Backend::cpu;
  std::function<void(uint64_t done, uint64_t total)> progress;
};

/// Encodes, decodes and measures. A target out of reach is no error: the outcome says so, and has the figures
/// of the nearest point.  \throws Error as compress does otherwise.
Outcome measure_cell(const CellRequest& request);

/// The bound that outcomes of a dump are held to: the rate-distortion function with a distribution for each
/// tensor.
class ComparisonBound {
 public:
  /// \param tensors also that of each tensor alone.  Reads the dump.
  ComparisonBound(const InputDump& input, bool tensors, unsigned threads);

  /// Sets the distances of the outcome's figures: in decibels of NMSE at the same bytes, and the factor in
  /// bytes at the same NMSE.
  void judge(Outcome& outcome) const;
  /// The least NMSE in so many bytes.
  double nmse_at(double bytes) const;

 private:
  static void judge(Figures& figures, const RateDistortion& bound);

  RateDistortion whole_;
  std::vector<RateDistortion> tensors_;
};

/// The outcomes that no other outcome of the same input beats: no smaller and nowhere more exact (NMSE). Of
/// equal ones the first stays.
std::vector<bool> pareto_front(const std::vector<Outcome>& outcomes);

/// Best first by one quantity; cells that are out of reach, then cells without it, come last in the order
/// they had.
void sort_outcomes(std::vector<Outcome>& outcomes, Quantity quantity);

}  // namespace jsq::tools

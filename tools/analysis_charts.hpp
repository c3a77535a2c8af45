// The pictures of jsq analyze: magnitudes with the thresholds of the widths, noise and widths of every layer,
// and the curve.
#pragma once

#include <string>
#include <vector>

#include "analysis_report.hpp"
#include "plot.hpp"

namespace jsq::tools {

/// What there is of one dump to draw. Without a study, magnitudes alone.
struct DumpPicture {
  std::string input;
  std::vector<std::string> tensors;
  Summary summary;
  std::vector<NoiseStudy> studies;  ///< one for each target
  std::vector<CurvePoint> curve;
};

std::vector<Chart> charts_of(const DumpPicture& dump);

}  // namespace jsq::tools

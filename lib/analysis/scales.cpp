// Sums of magnitudes along a tensor's axes.
#include "jsq/scales.hpp"

#include <cmath>
#include <limits>

namespace jsq {

ScaleSums::ScaleSums(const TensorInfo& info)
    : elements_(info.elements()),
      walk_(info),
      rows_(walk_.rows()),
      columns_(walk_.columns()),
      runs_(walk_.runs()),
      run_members_(walk_.runs()) {}

void ScaleSums::add(std::span<const float> values) {
  for (float value : values) {
    const double magnitude = std::isfinite(value) ? std::abs(double(value)) : 0;
    total_ += magnitude;
    if (!rows_.empty()) rows_[walk_.row_index()] += magnitude;
    if (!columns_.empty()) columns_[walk_.column_index()] += magnitude;
    if (!runs_.empty()) {
      const uint64_t run = walk_.run_index();
      runs_[run] += magnitude;
      ++run_members_[run];
    }
    walk_.next();
  }
}

ScaleMeans ScaleSums::means() const {
  ScaleMeans means{rows_, columns_, runs_, elements_ == 0 ? 0 : total_ / double(elements_)};
  for (double& row : means.rows) row *= double(rows_.size()) / double(elements_);
  for (double& column : means.columns) column *= double(columns_.size()) / double(elements_);
  for (size_t r = 0; r < runs_.size(); ++r) means.runs[r] /= double(run_members_[r]);
  return means;
}

double scale_spread(std::span<const double> scales) noexcept {
  double count = 0, mean = 0, squares = 0;
  for (double scale : scales) {
    if (!(scale > 0)) continue;
    const double octaves = std::log2(scale), step = octaves - mean;
    count += 1;
    mean += step / count;
    squares += step * (octaves - mean);
  }
  return count < 2 ? std::numeric_limits<double>::quiet_NaN() : std::sqrt(squares / count);
}

}  // namespace jsq

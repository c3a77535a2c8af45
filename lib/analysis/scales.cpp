// Sums of magnitudes along a tensor's axes.
#include "jsq/scales.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/axis_sums.hpp"
#include "kernels/element/summary.hpp"

namespace jsq {

ScaleSums::ScaleSums(const TensorInfo& info) : elements_(info.elements()), walk_(info) {
  const std::vector<element::Axis> all = axes();
  for (size_t a = 0; a < all.size(); ++a) sums_[a].resize(all[a].indices);
}

/// Of rows, columns and runs; those that the tensor lacks have no index.
std::vector<element::Axis> ScaleSums::axes() const {
  std::vector<element::Axis> axes(3);
  if (walk_.rows() > 0) axes[0] = {walk_.rows(), walk_.row_length(), walk_.row_period()};
  if (walk_.columns() > 0) axes[1] = {walk_.columns(), walk_.column_length(), walk_.column_period()};
  if (walk_.runs() > 0) axes[2] = {walk_.runs(), ScaleWalk::run_length(), elements_};
  return axes;
}

void ScaleSums::add(std::span<const float> values) {
  const std::vector<element::Axis> all = axes();
  for (size_t at = 0; at < values.size(); at += element::sum_chunk) {
    const auto chunk = values.subspan(at, std::min(element::sum_chunk, values.size() - at));
    for (size_t a = 0; a < all.size(); ++a)
      if (all[a].indices > 0) cpu::add_to_axis(all[a], added_, chunk, sums_[a]);
    total_ += cpu::sum_of_part(chunk);
    added_ += chunk.size();
  }
}

ScaleMeans ScaleSums::means() const {
  ScaleMeans means{sums_[0], sums_[1], sums_[2], elements_ == 0 ? 0 : total_ / double(elements_)};
  for (double& row : means.rows) row *= double(means.rows.size()) / double(elements_);
  for (double& column : means.columns) column *= double(means.columns.size()) / double(elements_);
  const element::Axis runs = axes()[2];
  for (size_t r = 0; r < means.runs.size(); ++r) means.runs[r] /= double(runs.length_of(r));
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

// Reads dumps into the histograms of the three source models: all elements, tensor by tensor, and by the
// scales of rows and columns.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <memory>

#include "jsq/rate_distortion.hpp"
#include "jsq/scales.hpp"

namespace jsq {

namespace {

constexpr uint32_t bins = 4080;  // 0x7f800000 >> 19: the finite magnitudes
constexpr size_t block_elements = 65536;

class Counter {
 public:
  void add(float value) {
    const uint32_t bits = std::bit_cast<uint32_t>(value) & 0x7fffffff;
    if (bits == 0) {
      zeros_ += 1;
      return;
    }
    if ((bits >> 19) >= bins) return;
    members_[bits >> 19] += 1;
    energy_[bits >> 19] += double(value) * double(value);
  }
  void add(const MagnitudeHistogram& histogram) {
    zeros_ += histogram.zeros;
    for (const MagnitudeHistogram::Bin& bin : histogram.bins) {
      members_[bin.index] += bin.members;
      energy_[bin.index] += bin.energy;
    }
  }
  MagnitudeHistogram histogram() const {
    MagnitudeHistogram result;
    result.zeros = zeros_;
    for (uint32_t b = 0; b < bins; ++b)
      if (members_[b] > 0) result.bins.push_back({b, members_[b], energy_[b]});
    return result;
  }

 private:
  double zeros_ = 0;
  std::array<double, bins> members_{}, energy_{};
};

template <class Visit>
void for_each_block(const GradientSource& source, size_t tensor, std::vector<float>& scratch,
                    const Visit& visit) {
  const uint64_t elements = source.tensors()[tensor].elements();
  for (uint64_t first = 0; first < elements; first += block_elements)
    visit(source.read(tensor, first, size_t(std::min<uint64_t>(block_elements, elements - first)), scratch));
}

/// The scales in half octaves: rows and runs in units of g, columns relative to the tensor where rows carry
/// its own scale.
ScaleMeans half_octaves(ScaleMeans means) {
  const double column_unit = means.rows.empty() ? 1 : means.all;
  for (double& row : means.rows) row = 2 * std::log2(row);
  for (double& column : means.columns) column = 2 * std::log2(column / column_unit);
  for (double& run : means.runs) run = 2 * std::log2(run);
  return means;
}

/// One counter for each half octave that occurs.
class ScaleClasses {
 public:
  Counter& of(double half_octaves) {
    // Rows and columns of zeros have no logarithm; they share a class.
    const int index = half_octaves > -limit && half_octaves < limit ? int(std::lrint(half_octaves)) : -limit;
    auto& counter = counters_[size_t(index) + size_t(limit)];
    if (!counter) counter = std::make_unique<Counter>();
    return *counter;
  }
  std::vector<MagnitudeHistogram> histograms() const {
    std::vector<MagnitudeHistogram> result;
    for (const auto& counter : counters_)
      if (counter) result.push_back(counter->histogram());
    return result;
  }

 private:
  static constexpr int limit = 600;  // |g| is within 2^-150 and 2^128
  std::array<std::unique_ptr<Counter>, 2 * limit + 1> counters_;
};

void count_by_scales(std::span<const float> values, const ScaleMeans& scales, ScaleWalk& walk,
                     ScaleClasses& classes) {
  for (float value : values) {
    double half_octaves = 0;
    if (!scales.rows.empty()) half_octaves += scales.rows[walk.row_index()];
    if (!scales.columns.empty()) half_octaves += scales.columns[walk.column_index()];
    if (!scales.runs.empty()) half_octaves += scales.runs[walk.run_index()];
    classes.of(half_octaves).add(value);
    walk.next();
  }
}

}  // namespace

MagnitudeHistogram magnitude_histogram(std::span<const float> values) {
  const auto counter = std::make_unique<Counter>();
  for (float value : values) counter->add(value);
  return counter->histogram();
}

RateDistortionBounds rate_distortion_bounds(const std::vector<InputDump>& inputs, unsigned threads) {
  const auto pooled = std::make_unique<Counter>();
  std::vector<MagnitudeHistogram> tensors;
  ScaleClasses classes;
  std::vector<float> scratch;
  for (const InputDump& input : inputs) {
    const size_t count = input.all ? input.source->tensors().size() : input.tensors.size();
    for (size_t i = 0; i < count; ++i) {
      const size_t tensor = input.all ? i : input.tensors[i];
      const TensorInfo& info = input.source->tensors()[tensor];
      const auto counter = std::make_unique<Counter>();
      ScaleSums sums(info);
      for_each_block(*input.source, tensor, scratch, [&](std::span<const float> values) {
        for (float value : values) counter->add(value);
        sums.add(values);
      });
      const ScaleMeans scales = half_octaves(sums.means());
      ScaleWalk walk(info);
      for_each_block(*input.source, tensor, scratch,
                     [&](std::span<const float> values) { count_by_scales(values, scales, walk, classes); });
      tensors.push_back(counter->histogram());
      pooled->add(tensors.back());
    }
  }
  return {RateDistortion({pooled->histogram()}, threads), RateDistortion(std::move(tensors), threads),
          RateDistortion(classes.histograms(), threads)};
}

}  // namespace jsq

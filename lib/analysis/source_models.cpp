// Reads dumps into the histograms of the three source models: all elements, tensor by tensor, and by the
// scales of rows and columns.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <memory>

#include "jsq/rate_distortion.hpp"

namespace jsq {

namespace {

constexpr uint32_t bins = 4080;  // 0x7f800000 >> 19: the finite magnitudes
constexpr size_t block_elements = 65536;
constexpr uint64_t smallest_matrix = 1024, fewest_sharers = 16, run_elements = 256;

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

/// Goes through a tensor's elements in storage order and knows each one's row, column and run.
class Walk {
 public:
  explicit Walk(const TensorInfo& info) : elements_(info.elements()), fortran_(info.fortran_order) {
    if (info.shape.size() < 2 || elements_ < smallest_matrix) return;
    rows_ = info.shape[0];
    columns_ = info.shape[1];
    const uint64_t rest = elements_ / (rows_ * columns_);
    // Three nested loops, the last the fastest.
    middle_ = columns_;
    inner_ = fortran_ ? rows_ : rest;
    use_rows_ = columns_ * rest >= fewest_sharers;
    use_columns_ = rows_ * rest >= fewest_sharers;
  }
  bool use_rows() const noexcept { return use_rows_; }
  bool use_columns() const noexcept { return use_columns_; }
  bool use_runs() const noexcept { return !use_rows_ && !use_columns_; }
  uint64_t rows() const noexcept { return use_rows_ ? rows_ : 0; }
  uint64_t columns() const noexcept { return use_columns_ ? columns_ : 0; }
  /// A last run that is too short belongs to the one before.
  uint64_t runs() const noexcept {
    if (!use_runs() || elements_ == 0) return 0;
    const uint64_t whole = elements_ / run_elements;
    return std::max<uint64_t>(1, whole + (elements_ % run_elements >= fewest_sharers ? 1 : 0));
  }

  void rewind() noexcept { a_ = b_ = c_ = at_ = 0; }
  uint64_t row() const noexcept { return fortran_ ? c_ : a_; }
  uint64_t column() const noexcept { return b_; }
  uint64_t run() const noexcept { return std::min(at_ / run_elements, runs() - 1); }
  void next() noexcept {
    ++at_;
    if (++c_ < inner_) return;
    c_ = 0;
    if (++b_ < middle_) return;
    b_ = 0;
    ++a_;
  }

 private:
  uint64_t elements_;
  bool fortran_;
  uint64_t rows_ = 0, columns_ = 0, middle_ = 1, inner_ = 1;
  bool use_rows_ = false, use_columns_ = false;
  uint64_t a_ = 0, b_ = 0, c_ = 0, at_ = 0;
};

template <class Visit>
void for_each_element(const GradientSource& source, size_t tensor, std::vector<float>& scratch,
                      const Visit& visit) {
  const uint64_t elements = source.tensors()[tensor].elements();
  for (uint64_t first = 0; first < elements; first += block_elements) {
    const size_t count = size_t(std::min<uint64_t>(block_elements, elements - first));
    for (float value : source.read(tensor, first, count, scratch)) visit(value);
  }
}

/// Sums of |g| over the elements that share a row, a column or a run; then twice the binary logarithm of
/// their means, rows and runs in units of g, columns relative to the tensor.
struct Scales {
  std::vector<double> rows, columns, runs;
  std::vector<uint64_t> run_members;
};

Scales scales_of(const GradientSource& source, size_t tensor, Walk& walk, std::vector<float>& scratch,
                 Counter& counter) {
  Scales scales;
  scales.rows.resize(walk.rows());
  scales.columns.resize(walk.columns());
  scales.runs.resize(walk.runs());
  scales.run_members.resize(walk.runs());
  double total = 0;
  walk.rewind();
  for_each_element(source, tensor, scratch, [&](float value) {
    counter.add(value);
    const double magnitude = std::isfinite(value) ? std::abs(double(value)) : 0;
    total += magnitude;
    if (walk.use_rows()) scales.rows[walk.row()] += magnitude;
    if (walk.use_columns()) scales.columns[walk.column()] += magnitude;
    if (walk.use_runs()) {
      scales.runs[walk.run()] += magnitude;
      ++scales.run_members[walk.run()];
    }
    walk.next();
  });
  const double elements = double(source.tensors()[tensor].elements());
  // Columns alone carry the tensor's own scale.
  const double column_unit = walk.use_rows() ? total / elements : 1;
  for (double& row : scales.rows) row = 2 * std::log2(row * double(scales.rows.size()) / elements);
  for (double& column : scales.columns)
    column = 2 * std::log2(column * double(scales.columns.size()) / elements / column_unit);
  for (size_t r = 0; r < scales.runs.size(); ++r)
    scales.runs[r] = 2 * std::log2(scales.runs[r] / double(scales.run_members[r]));
  return scales;
}

/// One counter for each half octave that occurs.
class ScaleClasses {
 public:
  Counter& of(double half_octaves) {
    // Rows and columns of zeros have no logarithm; they share a class.
    const int index = half_octaves > -limit && half_octaves < limit ? int(std::lrint(half_octaves)) : -limit;
    auto& counter = counters_[size_t(index + limit)];
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

void count_by_scales(const GradientSource& source, size_t tensor, Walk& walk, const Scales& scales,
                     std::vector<float>& scratch, ScaleClasses& classes) {
  walk.rewind();
  for_each_element(source, tensor, scratch, [&](float value) {
    double half_octaves = 0;
    if (walk.use_rows()) half_octaves += scales.rows[walk.row()];
    if (walk.use_columns()) half_octaves += scales.columns[walk.column()];
    if (walk.use_runs()) half_octaves += scales.runs[walk.run()];
    classes.of(half_octaves).add(value);
    walk.next();
  });
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
      Walk walk(input.source->tensors()[tensor]);
      const auto counter = std::make_unique<Counter>();
      const Scales scales = scales_of(*input.source, tensor, walk, scratch, *counter);
      count_by_scales(*input.source, tensor, walk, scales, scratch, classes);
      tensors.push_back(counter->histogram());
      pooled->add(tensors.back());
    }
  }
  return {RateDistortion({pooled->histogram()}, threads), RateDistortion(std::move(tensors), threads),
          RateDistortion(classes.histograms(), threads)};
}

}  // namespace jsq

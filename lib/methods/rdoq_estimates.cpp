#include "lib/methods/rdoq_estimates.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/context_passes.hpp"
#include "kernels/element/float_bits.hpp"
#include "lib/methods/rdoq_scales.hpp"
#include "lib/methods/rdoq_training.hpp"
#include "lib/packers/scale_field.hpp"

namespace jsq {
namespace {

/// Calls visit(place in a table, magnitude in steps) for every class and key.
template <class Visit>
void for_each_key(Visit visit) {
  for (size_t k = 0; k < context_classes; ++k)
    for (uint32_t key = 0; key < cost_keys; ++key)
      visit(k * cost_keys + key, ContextClass(k),
            element::magnitude_of_key(((key + cpu::first_cost_key) << cpu::cost_shift) +
                                      (1u << (cpu::cost_shift - 1))));
}

}  // namespace

std::vector<float> make_row_costs(const ContextCoder& coder, const RdQuantizer& quantizer) {
  std::vector<float> costs(context_classes * cost_keys);
  for_each_key([&](size_t place, ContextClass k, float x) {
    const int32_t level = quantizer.level(x, k);
    const double value = double(coder.values().points(coder.use(k), uint32_t(level))) / 256;
    costs[place] = float((x - value) * (x - value) + quantizer.lambda() * quantizer.bits(level, k));
  });
  return costs;
}

CodingCosts::CodingCosts(const ContextCoder& coder, const RdQuantizer& quantizer)
    : coder_(coder),
      lambda_(quantizer.lambda()),
      costs_(make_row_costs(coder, quantizer)),
      bits_(context_classes * cost_keys) {
  for_each_key([&](size_t place, ContextClass k, float x) {
    bits_[place] = float(quantizer.bits(quantizer.level(x, k), k));
  });
}

/// Lines under one layout, with scales relative to the step.
struct CodingCosts::Scaled {
  size_t lines = 0, length = 0, inner = 1;  ///< lines of `length` numbers, `inner` of them for each row
  const std::vector<uint16_t>* keys = nullptr;
  ScaleLayout layout = one_scale;
  std::vector<int16_t> rows, columns, frequencies;
};

double CodingCosts::side_bits(const Scaled& scaled, const CostSample& sample) const {
  SideWriter columns, rows;
  ScaleCodec codec;
  if (scaled.layout == row_and_column_scales) codec.write(columns, scaled.columns, true);
  codec.write(rows, scaled.rows, false);
  return 4 + double(columns.bits_q16()) / 65536 * sample.columns_each +
         double(rows.bits_q16()) / 65536 * (scaled.layout == one_scale ? 1 : sample.rows_each);
}

/// The sum of all numbers' entries.
double CodingCosts::sum(const Scaled& scaled, const std::vector<float>& entries) const {
  const bool by_column = scaled.layout == row_and_column_scales;
  // Where each column's entries begin, for every scale that a line has.
  std::vector<std::vector<uint32_t>> bases;
  const auto [least, most] = std::minmax_element(scaled.rows.begin(), scaled.rows.end());
  int lowest = *least, highest = *most;
  if (!scaled.frequencies.empty()) {
    const auto [finest, coarsest] = std::minmax_element(scaled.frequencies.begin(), scaled.frequencies.end());
    lowest += *finest;
    highest += *coarsest;
  }
  if (by_column) bases.resize(size_t(highest - lowest) + 1);
  double total = 0;
  for (size_t i = 0; i < scaled.lines; ++i) {
    const int row = scaled.rows[scaled.layout == one_scale ? 0 : i / scaled.inner],
              scale = row + (scaled.frequencies.empty() ? 0 : scaled.frequencies[i % scaled.inner]);
    const uint16_t* const keys = scaled.keys->data() + i * scaled.length;
    if (!by_column) {
      total += cpu::sum_costs(entries.data() + coder_.class_of(scale) * cost_keys, keys, scaled.length);
      continue;
    }
    std::vector<uint32_t>& of_columns = bases[size_t(scale - lowest)];
    if (of_columns.empty()) {
      of_columns.resize(scaled.length);
      for (size_t c = 0; c < scaled.length; ++c)
        of_columns[c] = uint32_t(coder_.class_of(scale + scaled.columns[c])) * cost_keys;
    }
    total += cpu::sum_costs(entries.data(), of_columns.data(), keys, scaled.length);
  }
  return total;
}

CodingCost CodingCosts::of(const CostSample& sample, double step, std::optional<ScaleLayout>& layout) const {
  CodingCost best;
  const MatrixF& lines = *sample.lines;
  const size_t inner = sample.inner;
  const auto n = size_t(lines.rows()), length = size_t(lines.cols()), rows = n / inner;
  if (n == 0 || length == 0) return best;
  std::vector<uint16_t> keys(n * length);
  const float inverse = float(1 / step);
  cpu::fill_cost_keys(lines.data(), keys.size(), inverse, keys.data());
  std::vector<double> of_lines(n), of_rows(rows), weights(inner, 1.0);
  for (size_t i = 0; i < n; ++i)
    of_rows[i / inner] += of_lines[i] = cpu::row_magnitude(lines.data() + i * length, length);
  Scaled scaled{n, length, inner, &keys, one_scale, {}, {}, {}};
  if (sample.frequencies) {
    std::vector<double> shares(inner);
    for (size_t i = 0; i < n; ++i)
      if (of_rows[i / inner] > 0) shares[i % inner] += of_lines[i] / of_rows[i / inner];
    scaled.frequencies = relative_octaves(shares);
    for (size_t k = 0; k < inner; ++k) weights[k] = octave_weight(scaled.frequencies[k]);
    std::fill(of_rows.begin(), of_rows.end(), 0.0);
    for (size_t i = 0; i < n; ++i) of_rows[i / inner] += of_lines[i] * weights[i % inner];
  }
  const int octaves = stored_step(step).step_octaves();
  int most = 0;
  for (int16_t b : scaled.frequencies) most = std::max<int>(most, b);
  const auto scale_of = [&](double magnitude, size_t count) {
    return int16_t(std::clamp(half_octaves(float(magnitude / double(count))) - octaves,
                              std::max(least_scale, coder_.model().lowest - 1 - most), most_scale));
  };
  const std::optional<ScaleLayout> given = layout;
  const double each = sample.rows_each * sample.columns_each;
  double least = HUGE_VAL;
  Scaled chosen;
  double chosen_side = 0;
  const auto consider = [&](ScaleLayout tried) {
    scaled.layout = tried;
    const double side = side_bits(scaled, sample), cost = sum(scaled, costs_) * each + lambda_ * side;
    if (cost >= least) return;
    least = cost;
    chosen = scaled;
    chosen_side = side;
  };
  // Bits are asked for of the layout alone that is taken.
  const auto taken = [&] {
    if (least == HUGE_VAL) return best;
    layout = chosen.layout;
    best.bits = sum(chosen, bits_) * each + chosen_side;
    best.error = least - lambda_ * best.bits;
    return best;
  };
  double all = 0;
  for (double row : of_rows) all += row;
  if (!given || given == one_scale) {
    scaled.rows = {scale_of(all, n * length)};
    consider(one_scale);
  }
  if (!given || given == row_scales) {
    scaled.rows.clear();
    for (double row : of_rows) scaled.rows.push_back(scale_of(row, inner * length));
    consider(row_scales);
  }
  if (!sample.columns || (given && given != row_and_column_scales)) return taken();
  std::vector<double> of_columns(length);
  for (size_t i = 0; i < n; ++i) {
    if (!(of_rows[i / inner] > 0)) continue;
    const double weight = weights[i % inner] / of_rows[i / inner];
    const float* const line = lines.data() + i * length;
    cpu::add_magnitudes(line, length, weight, of_columns.data());
  }
  scaled.columns = relative_octaves(of_columns);
  std::vector<float> column_weights;
  for (int16_t b : scaled.columns) {
    column_weights.push_back(float(octave_weight(b)));
    most = std::max<int>(most, b);
  }
  std::fill(of_rows.begin(), of_rows.end(), 0.0);
  for (size_t i = 0; i < n; ++i)
    of_rows[i / inner] += weights[i % inner] * cpu::weighted_row_magnitude(lines.data() + i * length,
                                                                           column_weights.data(), length);
  scaled.rows.clear();
  for (double row : of_rows) scaled.rows.push_back(scale_of(row, inner * length));
  consider(row_and_column_scales);
  return taken();
}

}  // namespace jsq

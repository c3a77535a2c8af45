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

constexpr uint32_t first_cost_key = (127u - 10) << (23 - cost_shift);

/// Calls visit(place in a table, magnitude in steps) for every class and key.
template <class Visit>
void for_each_key(Visit visit) {
  for (size_t k = 0; k < context_classes; ++k)
    for (uint32_t key = 0; key < cost_keys; ++key)
      visit(k * cost_keys + key, ContextClass(k),
            element::magnitude_of_key(((key + first_cost_key) << cost_shift) + (1u << (cost_shift - 1))));
}

}  // namespace

uint32_t cost_key(float x) {
  const uint32_t key = element::magnitude_key(x) >> cost_shift;
  return std::min(std::max(key, first_cost_key) - first_cost_key, cost_keys - 1);
}

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
    : coder_(coder), lambda_(quantizer.lambda()), costs_(make_row_costs(coder, quantizer)) {
  bits_.resize(costs_.size());
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

double CodingCosts::side_bits(const Scaled& scaled) const {
  SideWriter side;
  ScaleCodec codec;
  side.nibble(scaled.layout);
  if (scaled.layout == row_and_column_scales) codec.write(side, scaled.columns, true);
  codec.write(side, scaled.rows, false);
  return double(side.bits_q16()) / 65536;
}

/// The table's entries of all numbers.
double CodingCosts::sum(const std::vector<float>& table, const Scaled& scaled) const {
  const bool by_column = scaled.layout == row_and_column_scales;
  const auto [least, most] = by_column ? std::minmax_element(scaled.columns.begin(), scaled.columns.end())
                                       : std::pair(scaled.columns.begin(), scaled.columns.begin());
  std::vector<const float*> entries(by_column ? size_t(*most - *least) + 1 : 1);
  double total = 0;
  for (size_t i = 0; i < scaled.lines; ++i) {
    const int row = scaled.rows[scaled.layout == one_scale ? 0 : i / scaled.inner],
              scale = row + (scaled.frequencies.empty() ? 0 : scaled.frequencies[i % scaled.inner]);
    for (size_t b = 0; b < entries.size(); ++b)
      entries[b] = table.data() + coder_.class_of(scale + int(b) + (by_column ? *least : 0)) * cost_keys;
    const uint16_t* const keys = scaled.keys->data() + i * scaled.length;
    double line = 0;
    if (by_column)
      for (size_t c = 0; c < scaled.length; ++c)
        line += double(entries[size_t(scaled.columns[c] - *least)][keys[c]]);
    else
      for (size_t c = 0; c < scaled.length; ++c) line += double(entries[0][keys[c]]);
    total += line;
  }
  return total;
}

CodingCost CodingCosts::of(const MatrixF& lines, size_t inner, bool frequencies, bool columns,
                           double step) const {
  CodingCost best;
  const auto n = size_t(lines.rows()), length = size_t(lines.cols()), rows = n / inner;
  if (n == 0 || length == 0) return best;
  std::vector<uint16_t> keys(n * length);
  const float inverse = float(1 / step);
  for (size_t i = 0; i < keys.size(); ++i) keys[i] = uint16_t(cost_key(lines.data()[i] * inverse));
  std::vector<double> of_lines(n), of_rows(rows), weights(inner, 1.0);
  for (size_t i = 0; i < n; ++i)
    of_rows[i / inner] += of_lines[i] = cpu::row_magnitude(lines.data() + i * length, length);
  Scaled scaled{n, length, inner, &keys, one_scale, {}, {}, {}};
  if (frequencies) {
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
  double least = HUGE_VAL;
  const auto consider = [&](ScaleLayout layout) {
    scaled.layout = layout;
    const double side = side_bits(scaled), cost = sum(costs_, scaled) + lambda_ * side;
    if (cost >= least) return;
    least = cost;
    best.bits = sum(bits_, scaled) + side;
    best.error = cost - lambda_ * best.bits;
  };
  double all = 0;
  for (double row : of_rows) all += row;
  scaled.rows = {scale_of(all, n * length)};
  consider(one_scale);
  scaled.rows.clear();
  for (double row : of_rows) scaled.rows.push_back(scale_of(row, inner * length));
  consider(row_scales);
  if (!columns) return best;
  std::vector<double> of_columns(length);
  for (size_t i = 0; i < n; ++i) {
    if (!(of_rows[i / inner] > 0)) continue;
    const double weight = weights[i % inner] / of_rows[i / inner];
    const float* const line = lines.data() + i * length;
    for (size_t c = 0; c < length; ++c) of_columns[c] += double(std::abs(line[c])) * weight;
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
  return best;
}

}  // namespace jsq

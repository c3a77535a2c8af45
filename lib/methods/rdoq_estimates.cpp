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
    : coder_(coder), lambda_(quantizer.lambda()), entries_(context_classes * cost_keys) {
  const std::vector<float> costs = make_row_costs(coder, quantizer);
  for_each_key([&](size_t place, ContextClass k, float x) {
    entries_[place] = {costs[place], float(quantizer.bits(quantizer.level(x, k), k))};
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

/// The entries of all numbers.
void CodingCosts::sum(const Scaled& scaled, double& cost, double& bits) const {
  const bool by_column = scaled.layout == row_and_column_scales;
  const auto [least, most] = by_column ? std::minmax_element(scaled.columns.begin(), scaled.columns.end())
                                       : std::pair(scaled.columns.begin(), scaled.columns.begin());
  std::vector<const Entry*> entries(by_column ? size_t(*most - *least) + 1 : 1);
  std::vector<uint16_t> offsets(by_column ? scaled.length : 0);
  for (size_t c = 0; c < offsets.size(); ++c) offsets[c] = uint16_t(scaled.columns[c] - *least);
  cost = bits = 0;
  for (size_t i = 0; i < scaled.lines; ++i) {
    const int row = scaled.rows[scaled.layout == one_scale ? 0 : i / scaled.inner],
              scale = row + (scaled.frequencies.empty() ? 0 : scaled.frequencies[i % scaled.inner]);
    for (size_t b = 0; b < entries.size(); ++b)
      entries[b] = entries_.data() + coder_.class_of(scale + int(b) + (by_column ? *least : 0)) * cost_keys;
    const uint16_t* const keys = scaled.keys->data() + i * scaled.length;
    // Two chains: the additions of one would wait for each other.
    float costs[2] = {}, lengths[2] = {};
    const auto add = [&](size_t chain, const Entry& entry) {
      costs[chain] += entry.cost;
      lengths[chain] += entry.bits;
    };
    if (by_column)
      for (size_t c = 0; c < scaled.length; ++c) add(c & 1, entries[offsets[c]][keys[c]]);
    else
      for (size_t c = 0; c < scaled.length; ++c) add(c & 1, entries[0][keys[c]]);
    cost += double(costs[0]) + double(costs[1]);
    bits += double(lengths[0]) + double(lengths[1]);
  }
}

CodingCost CodingCosts::of(const CostSample& sample, double step, std::optional<ScaleLayout>& layout) const {
  CodingCost best;
  const MatrixF& lines = *sample.lines;
  const size_t inner = sample.inner;
  const auto n = size_t(lines.rows()), length = size_t(lines.cols()), rows = n / inner;
  if (n == 0 || length == 0) return best;
  std::vector<uint16_t> keys(n * length);
  const float inverse = float(1 / step);
  for (size_t i = 0; i < keys.size(); ++i) keys[i] = uint16_t(cost_key(lines.data()[i] * inverse));
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
  const auto consider = [&](ScaleLayout tried) {
    scaled.layout = tried;
    double cost = 0, bits = 0;
    sum(scaled, cost, bits);
    const double side = side_bits(scaled, sample);
    if (cost * each + lambda_ * side >= least) return;
    least = cost * each + lambda_ * side;
    best.bits = bits * each + side;
    best.error = least - lambda_ * best.bits;
    layout = tried;
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
  if (!sample.columns || (given && given != row_and_column_scales)) return best;
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

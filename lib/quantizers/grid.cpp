#include "lib/quantizers/grid.hpp"

#include <vector>

#include "kernels/cpu/dither.hpp"
#include "kernels/cpu/error_sums.hpp"

namespace jsq {
namespace {

void keep_finite(std::span<float> values) {
  for (float& value : values) value = element::kept_finite(value);
}

/// Sum of term(i) over n elements: 16 lanes by index, folded by halving.
template <class Term>
double lane_sum(size_t n, Term term) {
  constexpr size_t lanes = 16;
  double lane[lanes] = {};
  for (size_t i = 0; i < n; ++i) lane[i % lanes] += term(i);
  for (size_t half = lanes / 2; half > 0; half /= 2)
    for (size_t l = 0; l < half; ++l) lane[l] += lane[l + half];
  return lane[0];
}

/// Rounds to the pairs +-2^-steps .. +-1 of the scale.
double pair_levels(std::span<const float> values, float scale, uint32_t steps,
                   std::span<const float> uniforms, std::span<int32_t> levels, cpu::Expected expected) {
  const auto s = int32_t(steps);
  for (size_t i = 0; i < values.size(); ++i)
    levels[i] = uniforms.empty() ? element::pair_level_nearest(values[i], scale, s)
                                 : element::pair_level(values[i], scale, s, uniforms[i]);
  if (expected == cpu::Expected::nothing) return 0;
  return lane_sum(values.size(), [&](size_t i) { return element::pair_error(values[i], scale, s); });
}

void pair_values(std::span<const int32_t> levels, float scale, uint32_t steps, std::span<float> values) {
  for (size_t i = 0; i < levels.size(); ++i)
    values[i] = element::pair_value(levels[i], scale, int32_t(steps));
}

/// Rounds (g / scale) / (2 workers) to powers of two.
double shared_levels(const element::GridRule& rule, std::span<const float> values, float scale,
                     std::span<const float> uniforms, std::span<int32_t> levels, cpu::Expected expected) {
  static thread_local std::vector<float> shares;
  shares.resize(values.size());
  for (size_t i = 0; i < values.size(); ++i) shares[i] = element::shared_share(rule, values[i], scale);
  return element::grid_error_unit(rule, scale) *
         cpu::mirrored_levels(shares, element::shared_exponents(rule), uniforms, levels, expected);
}

/// scale x (2 workers x 2^-E).
void shared_values(const element::GridRule& rule, std::span<const int32_t> levels, float scale,
                   std::span<float> values) {
  cpu::mirrored_values(levels, element::shared_exponents(rule), values);
  for (float& value : values) value = element::kept_finite(scale * (element::shared_parts(rule) * value));
}

}  // namespace

LevelRange Grid::range() const {
  int32_t last = 0;
  switch (kind) {
    case GridKind::uniform:
      last = int32_t(steps * workers);
      break;
    case GridKind::exponential:
      last = int32_t(steps) + 1;
      break;
    case GridKind::natural:
      last = element::last_natural_level(exponents);
      break;
    case GridKind::exponential_pairs:
      return {-int32_t(steps) - 1, int32_t(steps)};
    case GridKind::uniform_undivided:
    case GridKind::shared_exponential:
      last = int32_t(steps);
      break;
  }
  return {-last, last};
}

double Grid::quantize(std::span<const float> values, float scale, std::span<const float> uniforms,
                      std::span<int32_t> levels, cpu::Expected expected) const {
  switch (kind) {
    case GridKind::uniform:
      return cpu::uniform_levels(values, scale, float(steps), uniforms, levels, expected);
    case GridKind::exponential:
      return cpu::exponential_levels(values, scale, int32_t(steps), uniforms, levels, expected);
    case GridKind::natural:
      return cpu::mirrored_levels(values, exponents, uniforms, levels, expected);
    case GridKind::exponential_pairs:
      return pair_levels(values, scale, steps, uniforms, levels, expected);
    case GridKind::uniform_undivided:
      return cpu::uniform_levels(values, scale, element::undivided_steps(rule()), uniforms, levels, expected);
    case GridKind::shared_exponential:
      return shared_levels(rule(), values, scale, uniforms, levels, expected);
  }
  return 0;
}

void Grid::quantize_by_words(std::span<const float> values, std::span<const uint32_t> words,
                             std::span<int32_t> levels) const {
  cpu::mirrored_levels_of_words(values, exponents, words, levels);
}

void Grid::dequantize(std::span<const int32_t> levels, float scale, std::span<float> values) const {
  switch (kind) {
    case GridKind::uniform:
      cpu::uniform_values(levels, scale, float(steps), values);
      if (workers > 1) keep_finite(values);
      return;
    case GridKind::exponential:
      cpu::exponential_values(levels, scale, int32_t(steps), values);
      return;
    case GridKind::natural:
      cpu::mirrored_values(levels, exponents, values);
      return;
    case GridKind::exponential_pairs:
      pair_values(levels, scale, steps, values);
      return;
    case GridKind::uniform_undivided:
      cpu::uniform_values(levels, scale, element::undivided_steps(rule()), values);
      keep_finite(values);
      return;
    case GridKind::shared_exponential:
      shared_values(rule(), levels, scale, values);
      return;
  }
}

}  // namespace jsq

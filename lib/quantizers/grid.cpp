#include "lib/quantizers/grid.hpp"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <vector>

#include "kernels/cpu/dither.hpp"
#include "kernels/cpu/error_sums.hpp"

namespace jsq {
namespace {

void keep_finite(std::span<float> values) {
  for (float& value : values) value = std::clamp(value, -FLT_MAX, FLT_MAX);
}

/// The number of steps from 0 to the scale, which need not be whole.
float undivided_steps(const Grid& grid) {
  return float(grid.steps) / float(grid.workers);
}

/// The shared exponential grid as a natural one: +-2^-E, E = 1..steps.
element::ExponentRange shared_exponents(const Grid& grid) {
  return {-int32_t(grid.steps), -1};
}

/// Rounds to the pairs +-2^-steps .. +-1 of the scale. Between the two of the smallest pair, x = f 2^-steps
/// goes to the one of its own sign with probability (1 + f) / 2. Levels skip zero: 0, 1, ... are the positive
/// ones, -1, -2, ... the negative ones.
double pair_levels(std::span<const float> values, float scale, uint32_t steps,
                   std::span<const float> uniforms, std::span<int32_t> levels) {
  const auto s = int32_t(steps);
  const double smallest = double(scale) * double(element::power_of_two(-s));
  double error = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const float g = values[i];
    const element::GridPlace place = element::exponential_place(g, scale, s);
    const float u = uniforms.empty() ? 0.0f : uniforms[i];
    bool negative = g < 0;
    int32_t index = place.level;
    if (place.level == 0) {
      index = 1;
      if (u >= 0.5f * (1.0f + place.fraction)) negative = !negative;
      error += element::rounding_error(double(g), -smallest, smallest, smallest);
    } else {
      index += (uniforms.empty() ? place.fraction >= 0.5f : u < place.fraction) ? 1 : 0;
      error += element::exponential_error(g, scale, s);
    }
    levels[i] = negative ? -index : index - 1;
  }
  if (scale > 0) return error;
  std::fill(levels.begin(), levels.end(), 0);
  return 0;
}

void pair_values(std::span<const int32_t> levels, float scale, uint32_t steps, std::span<float> values) {
  for (size_t i = 0; i < levels.size(); ++i)
    values[i] = element::exponential_value(levels[i] >= 0 ? levels[i] + 1 : levels[i], scale, int32_t(steps));
}

/// Rounds (g / scale) / (2 workers) to powers of two.
double shared_levels(const Grid& grid, std::span<const float> values, float scale,
                     std::span<const float> uniforms, std::span<int32_t> levels) {
  static thread_local std::vector<float> shares;
  shares.assign(values.size(), 0.0f);
  const auto parts = float(2 * grid.workers);
  for (size_t i = 0; scale > 0 && i < values.size(); ++i) shares[i] = values[i] / scale / parts;
  const double unit = double(scale) * double(parts);
  return unit * unit * cpu::mirrored_levels(shares, shared_exponents(grid), uniforms, levels);
}

/// scale x (2 workers x 2^-E).
void shared_values(const Grid& grid, std::span<const int32_t> levels, float scale, std::span<float> values) {
  cpu::mirrored_values(levels, shared_exponents(grid), values);
  const auto parts = float(2 * grid.workers);
  for (float& value : values) value = scale * (parts * value);
  keep_finite(values);
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
                      std::span<int32_t> levels) const {
  switch (kind) {
    case GridKind::uniform:
      return cpu::uniform_levels(values, scale, float(steps), uniforms, levels);
    case GridKind::exponential:
      return cpu::exponential_levels(values, scale, int32_t(steps), uniforms, levels);
    case GridKind::natural:
      return cpu::mirrored_levels(values, exponents, uniforms, levels);
    case GridKind::exponential_pairs:
      return pair_levels(values, scale, steps, uniforms, levels);
    case GridKind::uniform_undivided:
      return cpu::uniform_levels(values, scale, undivided_steps(*this), uniforms, levels);
    case GridKind::shared_exponential:
      return shared_levels(*this, values, scale, uniforms, levels);
  }
  return 0;
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
      cpu::uniform_values(levels, scale, undivided_steps(*this), values);
      keep_finite(values);
      return;
    case GridKind::shared_exponential:
      shared_values(*this, levels, scale, values);
      return;
  }
}

}  // namespace jsq

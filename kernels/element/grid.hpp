// One element on any of the grids of dithering methods: its level, what the level stands for, and what
// rounding is expected to lose. Each grid's own mathematics is in dither.hpp and natural.hpp; here are the
// grids that are made of them, and the choice among all.
#pragma once

#include <cstdint>

#include "kernels/element/dither.hpp"
#include "kernels/element/natural.hpp"

namespace jsq::element {

/// The numbers are those of the wire format.
enum class GridKind : uint8_t {
  uniform = 0,             ///< scale x level / steps
  exponential = 1,         ///< scale x {0, 2^-steps, ..., 1/2, 1}
  natural = 2,             ///< 0 and the powers of two of a range of exponents, without a scale
  exponential_pairs = 3,   ///< scale x {+-2^-steps, ..., +-1/2, +-1}: no zero
  uniform_undivided = 4,   ///< scale x level x workers / steps: a grid that need not end at the scale
  shared_exponential = 5,  ///< scale x 2 workers x {0, 2^-steps, ..., 1/2}
};

struct GridRule {
  GridKind kind = GridKind::uniform;
  uint32_t steps = 1;       ///< of all grids but the natural one
  uint32_t workers = 1;     ///< whose messages may be added: the range of uniform grids leaves them room
  ExponentRange exponents;  ///< of the natural grid
};

/// The largest finite number of the value's sign in the place of an infinity.
JSQ_HD float kept_finite(float value) {
  constexpr float most = 0x1.fffffep127f;
  return value < -most ? -most : most < value ? most : value;
}

/// The number of steps from 0 to the scale of an undivided grid, which need not be whole.
JSQ_HD float undivided_steps(const GridRule& rule) {
  return float(rule.steps) / float(rule.workers);
}

// The pairs +-2^-s .. +-1 of the scale. Between the two of the smallest pair, x = f 2^-s goes to the one of
// its own sign with probability (1 + f) / 2. Levels skip zero: 0, 1, ... are the positive ones, -1, -2, ...
// the negative ones.

JSQ_HD int32_t pair_level_at(float g, GridPlace place, bool up, float u) {
  const bool smallest = place.level == 0;
  const bool crosses = smallest && u >= 0.5f * (1.0f + place.fraction);
  const bool negative = (g < 0) != crosses;
  const int32_t index = smallest ? 1 : place.level + (up ? 1 : 0);
  return negative ? -index : index - 1;
}
JSQ_HD int32_t pair_level(float g, float scale, int32_t s, float u) {
  const GridPlace place = exponential_place(g, scale, s);
  return scale > 0 ? pair_level_at(g, place, u < place.fraction, u) : 0;
}
JSQ_HD int32_t pair_level_nearest(float g, float scale, int32_t s) {
  const GridPlace place = exponential_place(g, scale, s);
  return scale > 0 ? pair_level_at(g, place, place.fraction >= 0.5f, 0.0f) : 0;
}
JSQ_HD float pair_value(int32_t level, float scale, int32_t s) {
  return exponential_value(level >= 0 ? level + 1 : level, scale, s);
}
/// Expected squared error of stochastic rounding of `g`.
JSQ_HD double pair_error(float g, float scale, int32_t s) {
  if (!(scale > 0)) return 0;
  if (exponential_place(g, scale, s).level > 0) return exponential_error(g, scale, s);
  const double smallest = double(scale) * double(power_of_two(-s));
  return rounding_error(double(g), -smallest, smallest, smallest);
}

// The shared exponential grid: (g / scale) / (2 workers) on a natural grid of +-2^-E, E = 1..steps.

JSQ_HD float shared_parts(const GridRule& rule) {
  return float(2 * rule.workers);
}
JSQ_HD ExponentRange shared_exponents(const GridRule& rule) {
  return {-int32_t(rule.steps), -1};
}
JSQ_HD float shared_share(const GridRule& rule, float g, float scale) {
  return scale > 0 ? g / scale / shared_parts(rule) : 0.0f;
}

/// The level of `g` on the grid of one scale; `u` is its uniform number.
JSQ_HD int32_t grid_level(const GridRule& rule, float g, float scale, float u) {
  const auto s = int32_t(rule.steps);
  switch (rule.kind) {
    case GridKind::uniform:
      return uniform_level(g, scale, float(rule.steps), u);
    case GridKind::exponential:
      return exponential_level(g, scale, s, u);
    case GridKind::natural:
      return mirrored_level(natural_level(g, rule.exponents, u), last_natural_level(rule.exponents));
    case GridKind::exponential_pairs:
      return pair_level(g, scale, s, u);
    case GridKind::uniform_undivided:
      return uniform_level(g, scale, undivided_steps(rule), u);
    case GridKind::shared_exponential:
      return mirrored_level(natural_level(shared_share(rule, g, scale), shared_exponents(rule), u), s);
  }
  return 0;
}
/// The nearest level.
JSQ_HD int32_t grid_level_nearest(const GridRule& rule, float g, float scale) {
  const auto s = int32_t(rule.steps);
  switch (rule.kind) {
    case GridKind::uniform:
      return uniform_level_nearest(g, scale, float(rule.steps));
    case GridKind::exponential:
      return exponential_level_nearest(g, scale, s);
    case GridKind::natural:
      return mirrored_level(natural_level_nearest(g, rule.exponents), last_natural_level(rule.exponents));
    case GridKind::exponential_pairs:
      return pair_level_nearest(g, scale, s);
    case GridKind::uniform_undivided:
      return uniform_level_nearest(g, scale, undivided_steps(rule));
    case GridKind::shared_exponential:
      return mirrored_level(natural_level_nearest(shared_share(rule, g, scale), shared_exponents(rule)), s);
  }
  return 0;
}

/// What a level stands for; never beyond the largest finite number.
JSQ_HD float grid_value(const GridRule& rule, int32_t level, float scale) {
  const auto s = int32_t(rule.steps);
  switch (rule.kind) {
    case GridKind::uniform:
      return kept_finite(uniform_value(level, scale, float(rule.steps)));
    case GridKind::exponential:
      return exponential_value(level, scale, s);
    case GridKind::natural:
      return natural_value(mirrored_level(level, last_natural_level(rule.exponents)), rule.exponents);
    case GridKind::exponential_pairs:
      return pair_value(level, scale, s);
    case GridKind::uniform_undivided:
      return kept_finite(uniform_value(level, scale, undivided_steps(rule)));
    case GridKind::shared_exponential: {
      const float share = natural_value(mirrored_level(level, s), shared_exponents(rule));
      return kept_finite(scale * (shared_parts(rule) * share));
    }
  }
  return 0;
}

/// Expected squared error of stochastic rounding of `g`, in units of grid_error_unit.
JSQ_HD double grid_error(const GridRule& rule, float g, float scale) {
  const auto s = int32_t(rule.steps);
  switch (rule.kind) {
    case GridKind::uniform:
      return uniform_error(g, scale, float(rule.steps));
    case GridKind::exponential:
      return exponential_error(g, scale, s);
    case GridKind::natural:
      return natural_error(g, rule.exponents);
    case GridKind::exponential_pairs:
      return pair_error(g, scale, s);
    case GridKind::uniform_undivided:
      return uniform_error(g, scale, undivided_steps(rule));
    case GridKind::shared_exponential:
      return natural_error(shared_share(rule, g, scale), shared_exponents(rule));
  }
  return 0;
}
JSQ_HD double grid_error_unit(const GridRule& rule, float scale) {
  if (rule.kind != GridKind::shared_exponential) return 1;
  const double unit = double(scale) * double(shared_parts(rule));
  return unit * unit;
}

}  // namespace jsq::element

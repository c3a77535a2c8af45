// Dithered rounding of one element to a grid inside [-scale, scale]: the uniform grid of QSGD, TernGrad and
// standard dithering, and the exponential grid of NUQSGD. A level is a
// signed index into the grid, 0 is zero. Natural compression, whose grid has no scale, is in natural.hpp.
//
// Stochastic rounding goes up when the uniform is below the fraction. Uniforms are multiples of 2^-24, so
// going up has the probability `fraction` rounded up to such a multiple: exactly unbiased for fractions of at
// most 24 bits, and within 2^-24 of a step otherwise.
#pragma once

#include <cstdint>

#include "kernels/element/float_bits.hpp"
#include "kernels/element/hostdevice.hpp"

namespace jsq::element {

/// floor(y) + [u < y - floor(y)].  \pre 0 <= y < 2^24.
JSQ_HD int32_t round_stochastic(float y, float u) {
  const int32_t whole = int32_t(y);
  return whole + (u < y - float(whole) ? 1 : 0);
}

/// The integer nearest to y, ties away from zero.  \pre 0 <= y < 2^24.
JSQ_HD int32_t round_nearest(float y) {
  const int32_t whole = int32_t(y);
  return whole + (y - float(whole) >= 0.5f ? 1 : 0);
}

/// `level` with the sign of `g`.
JSQ_HD int32_t with_sign_of(float g, int32_t level) {
  const int32_t sign = bits_as<int32_t>(g) >> 31;  // 0 or -1
  return (level ^ sign) - sign;
}

/// |g| in units of `scale`, at most 1; 0 when scale is 0.
JSQ_HD float share_of_scale(float g, float scale) {
  const bool scaled = scale > 0.0f;
  const float share = magnitude_of_key(magnitude_key(g)) / (scaled ? scale : 1.0f);
  const float within = share < 1.0f ? share : 1.0f;
  return scaled ? within : 0.0f;
}

// The uniform grid 0, scale/s, ..., scale and its mirror image. `s` is the number of steps, 1 <= s < 2^24; it
// need not be whole, then the last level is ceil(s). Magnitudes above the scale are taken as the scale.

/// Where |g| lies on the grid, in steps: (|g| / scale) * s.
JSQ_HD float uniform_position(float g, float scale, float s) {
  return share_of_scale(g, scale) * s;
}

JSQ_HD int32_t uniform_level(float g, float scale, float s, float u) {
  return with_sign_of(g, round_stochastic(uniform_position(g, scale, s), u));
}
JSQ_HD int32_t uniform_level_nearest(float g, float scale, float s) {
  return with_sign_of(g, round_nearest(uniform_position(g, scale, s)));
}

/// scale * (level / s): the quotient first, so that nothing overflows near the largest float. Level 0 is +0.
JSQ_HD float uniform_value(int32_t level, float scale, float s) {
  return scale * (float(level) / s);
}

/// Expected squared error of stochastic rounding of `g`: (scale/s)^2 f (1-f), f the fraction of its position,
/// and the square of what lies above the scale. The grid is taken as exact; uniform_value rounds it to f32.
JSQ_HD double uniform_error(float g, float scale, float s) {
  const float y = uniform_position(g, scale, s);
  const double f = double(y - float(int32_t(y)));
  const double step = double(scale) / double(s);
  const double beyond = double(magnitude_of_key(magnitude_key(g))) - double(scale);
  const double above = beyond > 0.0 ? beyond : 0.0;
  return step * step * (f * (1.0 - f)) + above * above;
}

// The exponential grid 0, 2^-s, ..., 1/2, 1 times the scale and its mirror image, 0 <= s <= 126: level k >= 1
// stands for scale * 2^(k - 1 - s). Magnitudes above the scale are taken as the scale.

/// 2^exponent; -127 gives 0.  \pre -127 <= exponent <= 127.
JSQ_HD float power_of_two(int32_t exponent) {
  return bits_as<float>(uint32_t(exponent + 127) << 23);
}

/// The level at or below a magnitude, and how far the magnitude lies on the way to the level above.
struct GridPlace {
  int32_t level = 0;
  float fraction = 0;  ///< in [0, 1)
};

JSQ_HD GridPlace exponential_place(float g, float scale, int32_t s) {
  const float share = share_of_scale(g, scale);
  const uint32_t key = magnitude_key(share);
  const bool below_first = share < power_of_two(-s);
  const float of_first = share * power_of_two(s);
  const float of_octave = bits_as<float>(0x3f800000u | (key & 0x7fffffu)) - 1.0f;
  const int32_t octave = int32_t(key >> 23) - 126 + s;
  return {below_first ? 0 : octave, below_first ? of_first : of_octave};
}

JSQ_HD int32_t exponential_level(float g, float scale, int32_t s, float u) {
  const GridPlace place = exponential_place(g, scale, s);
  return with_sign_of(g, place.level + (u < place.fraction ? 1 : 0));
}
/// The nearest level, ties away from zero.
JSQ_HD int32_t exponential_level_nearest(float g, float scale, int32_t s) {
  const GridPlace place = exponential_place(g, scale, s);
  return with_sign_of(g, place.level + (place.fraction >= 0.5f ? 1 : 0));
}

/// The value of a level: the scale times an exact power of two (rounded once where that is subnormal). Level
/// 0 is +0. \pre |level| <= s + 1.
JSQ_HD float exponential_value(int32_t level, float scale, int32_t s) {
  const int32_t index = level < 0 ? -level : level;
  const float power = power_of_two(index - 1 - s);
  const float magnitude = scale * (index > 0 ? power : 0.0f);
  return level < 0 ? -magnitude : magnitude;
}

/// Expected squared error of unbiased rounding of `magnitude` to `low` or `high`: (x - low)(high - x); above
/// `top`, the end of the grid, the squared distance to it.
JSQ_HD double rounding_error(double magnitude, double low, double high, double top) {
  const double between = (magnitude - low) * (high - magnitude);
  const double beyond = magnitude - top;
  const double inside =
      between > 0.0 ? between : 0.0;  // f32 may have placed it across a grid point, by its last bit
  const double outside = beyond * beyond;
  return beyond > 0.0 ? outside : inside;
}

/// Expected squared error of stochastic rounding of `g` on the exponential grid.
JSQ_HD double exponential_error(float g, float scale, int32_t s) {
  const int32_t level = exponential_place(g, scale, s).level;
  const double first = double(scale) * double(power_of_two(-s));
  const double power = double(power_of_two(level - 1 - s));
  const double point = double(scale) * power;
  const double low = level > 0 ? point : 0.0;
  const double high = level > 0 ? point + point : first;
  return rounding_error(double(magnitude_of_key(magnitude_key(g))), low, high, double(scale));
}

}  // namespace jsq::element

// Natural compression of one element: rounding to a signed power of two, without a scale. And
// the sum of two such codes without decoding them, the reduction of exponential dithering.
//
// A level is a signed index into the powers of two 2^lowest .. 2^highest: level k >= 1 stands for 2^(lowest +
// k - 1), 0 for zero. A code, as a reduction adds them, counts from the other end: code E >= 1 stands for
// 2^-E.
#pragma once

#include <cstdint>

#include "kernels/element/dither.hpp"
#include "kernels/element/float_bits.hpp"
#include "kernels/element/hostdevice.hpp"

namespace jsq::element {

/// The exponents a level can have; -149 is that of the smallest float.  \pre -149 <= lowest <= highest <=
/// 127.
struct ExponentRange {
  int32_t lowest = -149;
  int32_t highest = 127;
};

/// The level of the largest power of two.
JSQ_HD int32_t last_natural_level(ExponentRange range) {
  return range.highest - range.lowest + 1;
}

/// The level at or below |x| if there were no highest exponent, and the way to the next: mantissa / 2^23, or
/// |x| / 2^lowest below the first level. Subnormals are taken by value.
JSQ_HD GridPlace natural_place(float x, ExponentRange range) {
  const int32_t key = int32_t(magnitude_key(x));
  const int32_t subnormal = bits_as<int32_t>(float(key)) - (149 << 23);  // |x| = key x 2^-149
  const int32_t normalised = key < 0x00800000 ? subnormal : key;
  const int32_t above = (normalised >> 23) - 127 - range.lowest;  // exponent - lowest
  const bool below_first = above < 0;
  // A fraction below 2^-24 goes up for u = 0 alone, so clamping the exponent at -126 changes nothing.
  const int32_t exponent = below_first ? (above > -126 ? above : -126) : 0;
  const float significand =
      bits_as<float>((uint32_t(exponent + 127) << 23) | (uint32_t(normalised) & 0x7fffffu));
  const float of_octave = significand - 1.0f;
  const float fraction = below_first ? significand : of_octave;
  return {below_first ? 0 : above + 1, key == 0 ? 0.0f : fraction};
}

/// Rounds x to a neighbouring power of two, or below 2^lowest to zero or 2^lowest: without bias up to
/// 2^highest, where magnitudes saturate. Zero of either sign is level 0.
JSQ_HD int32_t natural_level(float x, ExponentRange range, float u) {
  const GridPlace place = natural_place(x, range);
  const int32_t level = place.level + (u < place.fraction ? 1 : 0), last = last_natural_level(range);
  return with_sign_of(x, level < last ? level : last);
}
/// The nearest level, ties away from zero.
JSQ_HD int32_t natural_level_nearest(float x, ExponentRange range) {
  const GridPlace place = natural_place(x, range);
  const int32_t level = place.level + (place.fraction >= 0.5f ? 1 : 0), last = last_natural_level(range);
  return with_sign_of(x, level < last ? level : last);
}

/// The value of a level, exactly +-2^(lowest + |level| - 1); +0 for level 0.
/// \pre |level| <= last_natural_level.
JSQ_HD float natural_value(int32_t level, ExponentRange range) {
  const int32_t index = level < 0 ? -level : level;
  const int32_t exponent = range.lowest + index - 1;
  const int32_t half = exponent >> 1;  // the product of two normal powers is exact even where it is subnormal
  const float power = power_of_two(half) * power_of_two(exponent - half);
  const float magnitude = index > 0 ? power : 0.0f;
  return level < 0 ? -magnitude : magnitude;
}

// With the exponents of f32's normal numbers, which the paper sends, a level is the exponent's field, and
// what is below 2^-126 goes up in proportion like a mantissa: to round up is to carry from the bits below the
// field.

constexpr int32_t lowest_normal_exponent = -126;

/// The magnitude of natural_level(x, range, uniform_of_word(word)).
/// \pre x is finite, range.lowest = lowest_normal_exponent.
JSQ_HD int32_t normal_index(float x, ExponentRange range, uint32_t word) {
  const uint32_t doubled = bits_as<uint32_t>(x) << 1;  // 24 bits below the exponent, as many as a uniform has
  const uint32_t rest = 0xffffffu - (word >> 8);
  const auto index = int32_t((doubled + rest) >> 24), last = last_natural_level(range);
  return index < last ? index : last;
}
/// natural_value(level, range) of such a range.
JSQ_HD float normal_value(int32_t level) {
  const auto index = uint32_t(level < 0 ? -level : level);
  return bits_as<float>(index << 23 | (uint32_t(level) & 0x80000000u));
}

/// Expected squared error of stochastic rounding of x, which is a normal number in double.
JSQ_HD double natural_error(float x, ExponentRange range) {
  const double magnitude = double(magnitude_of_key(magnitude_key(x)));
  const double first = double(natural_value(1, range)),
               top = double(natural_value(last_natural_level(range), range));
  const double power = bits_as<double>(bits_as<uint64_t>(magnitude) & 0x7ff0000000000000u);
  const double low = magnitude < first ? 0.0 : power, high = magnitude < first ? first : power + power;
  return rounding_error(magnitude, low, high, top);
}

/// Turns levels into codes and codes into levels: index k of 1..last becomes last + 1 - k with its sign; 0
/// stays 0. With exponents -max..-1, so last = max, level k becomes the code E of the same value 2^-E.
JSQ_HD int32_t mirrored_level(int32_t level, int32_t last) {
  const int32_t index = level < 0 ? -level : level;
  const int32_t mirrored = index > 0 ? last + 1 - index : 0;
  return level < 0 ? -mirrored : mirrored;
}

struct CodeSum {
  int32_t code = 0;
  bool saturated = false;  ///< the sum rounded up to 2^0, which no code stands for, and was cut to 2^-1
};

/// A code whose expectation over u is the sum of two codes, up to the granularity of 2^-24 of the uniforms
/// and except where it saturates (exponential dithering keeps every partial sum of a power of two of workers
/// within reach). With 2^-E the larger magnitude and d >= 0 the difference of the exponents: equal signs give
/// E - 1 with probability 2^-d, else E; opposite signs give E + 1 with probability 2^(1-d), else E, and
/// nothing when d = 0. A sum is never smaller than the smaller summand unless it is zero, so codes stay
/// within those of the summands at that end.
JSQ_HD CodeSum exponential_add(int32_t a, int32_t b, float u) {
  const int32_t magnitude_a = a < 0 ? -a : a, magnitude_b = b < 0 ? -b : b;
  const bool a_is_larger = magnitude_a <= magnitude_b;
  const int32_t larger = a_is_larger ? a : b;
  const int32_t exponent = a_is_larger ? magnitude_a : magnitude_b;
  const int32_t difference = (a_is_larger ? magnitude_b : magnitude_a) - exponent;
  const bool same_sign = (a ^ b) >= 0;
  const int32_t halvings = same_sign ? difference : difference - 1;
  const int32_t within = halvings < 126 ? halvings : 126;  // below 2^-24 only u = 0 moves the sum
  const bool moves = u < power_of_two(-within);
  const int32_t stepped = moves ? exponent + (same_sign ? -1 : 1) : exponent;
  const int32_t kept = stepped > 1 ? stepped : 1;
  const int32_t magnitude = difference == 0 && !same_sign ? 0 : kept;
  const int32_t sum = larger < 0 ? -magnitude : magnitude;
  const bool both = (a != 0) & (b != 0), saturated = both & (stepped < 1);
  return {both ? sum : a + b, saturated};
}

}  // namespace jsq::element

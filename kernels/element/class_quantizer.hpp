// Quantizers inside a width class: float <-> code word of exactly `width` bits, given the class's
// magnitude range [low, high]. All arithmetic is f32, so that every processor gives the same bits.
//
//   cell    sign + index of one of 2^(w-1) equal cells of [low, high]; decodes to the cell's centre
//   (deterministic) offmag  sign + one of 2^(w-1) magnitudes equispaced on [low, high]; stochastic rounding,
//   unbiased mid     one of 2^w points equispaced on [-high, high], no zero; stochastic rounding, unbiased
//   sym     two's complement level in {-s..s}, s = 2^(w-1)-1, of step high/s; stochastic rounding, unbiased
//
// With nearest rounding (u = 0.5) the three stochastic ones become deterministic and biased.
#pragma once

#include <cstdint>

#include "kernels/element/float_bits.hpp"
#include "kernels/element/hostdevice.hpp"

namespace jsq::element {

enum class ClassQuantizer : uint8_t { cell = 0, mid = 1, offmag = 2, sym = 3 };

/// One class: its magnitude range and what its quantizer derives from it (make_class_scale).
struct ClassScale {
  float low = 0;      ///< smallest magnitude of the class
  float high = 0;     ///< largest magnitude of the class
  float step = 0;     ///< distance of neighbouring points; for mid half of it
  float divisor = 1;  ///< step, or 1 when the class has a single point
};

/// The scale of a class of `width` bits on [low, high].
JSQ_HD ClassScale make_class_scale(ClassQuantizer quantizer, uint32_t width, float low, float high) {
  ClassScale scale;
  scale.low = low;
  scale.high = high;
  const uint32_t half = 1u << (width - 1);
  float span = high, intervals = 0;
  switch (quantizer) {
    case ClassQuantizer::cell:
      span = high - low;
      intervals = float(half);
      break;
    case ClassQuantizer::offmag:
      span = high - low;
      intervals = float(half - 1);
      break;
    case ClassQuantizer::mid:
      intervals = float(2 * half - 1);
      break;
    case ClassQuantizer::sym:
      intervals = float(half - 1);
      break;
  }
  scale.step = intervals > 0.0f ? span / intervals : 0.0f;
  scale.divisor = scale.step > 0.0f ? scale.step : 1.0f;
  return scale;
}

/// floor(y) + [u < fraction(y)], clamped to [0, last].  \pre y >= 0.
JSQ_HD uint32_t round_stochastic(float y, float u, uint32_t last) {
  if (!(y < float(last))) return last;
  const uint32_t whole = uint32_t(y);
  const float fraction = y - float(whole);
  return whole + (u < fraction ? 1u : 0u);
}

/// The code word of `g` (|g| in the class's range) in `width` bits; `u` in [0,1) is the rounding uniform.
JSQ_HD uint32_t quantize_in_class(ClassQuantizer quantizer, uint32_t width, const ClassScale& scale, float g,
                                  float u) {
  const float magnitude = magnitude_of_key(magnitude_key(g));
  const uint32_t negative = bits_as<uint32_t>(g) >> 31;
  const uint32_t half = 1u << (width - 1);
  switch (quantizer) {
    case ClassQuantizer::cell: {
      const float y = (magnitude - scale.low) / scale.divisor;
      const uint32_t index = y < float(half - 1) ? uint32_t(y) : half - 1;
      return negative * half + index;
    }
    case ClassQuantizer::offmag: {
      const float y = (magnitude - scale.low) / scale.divisor;
      return negative * half + round_stochastic(y, u, half - 1);
    }
    case ClassQuantizer::mid: {
      const float y = (g / scale.divisor + float(2 * half - 1)) * 0.5f;
      return round_stochastic(y > 0.0f ? y : 0.0f, u, 2 * half - 1);
    }
    case ClassQuantizer::sym: {
      const uint32_t level = round_stochastic(magnitude / scale.divisor, u, half - 1);
      return negative && level > 0 ? 2 * half - level : level;
    }
  }
  return 0;
}

/// The value a code word stands for; never beyond the class's range.  \pre code < 2^width.
JSQ_HD float dequantize_in_class(ClassQuantizer quantizer, uint32_t width, const ClassScale& scale,
                                 uint32_t code) {
  const uint32_t half = 1u << (width - 1);
  const uint32_t index = code & (half - 1);
  bool negative = code >= half;
  float magnitude = 0;
  switch (quantizer) {
    case ClassQuantizer::cell:
      magnitude = scale.low + (float(index) + 0.5f) * scale.step;
      break;
    case ClassQuantizer::offmag:
      magnitude = scale.low + float(index) * scale.step;
      break;
    case ClassQuantizer::mid:
      negative = !negative;
      magnitude = float(negative ? 2 * half - 1 - 2 * code : 2 * code - (2 * half - 1)) * scale.step;
      break;
    case ClassQuantizer::sym:
      magnitude = float(negative ? 2 * half - code : index) * scale.step;
      break;
  }
  if (magnitude > scale.high) magnitude = scale.high;
  return negative ? -magnitude : magnitude;
}

/// The mean of an element's squared error over the rounding uniform: between its two points, a share of the
/// way that makes the mean right; nothing to take a mean of where both are one.
JSQ_HD double expected_error_in_class(ClassQuantizer quantizer, uint32_t width, const ClassScale& scale,
                                      float value) {
  constexpr float rounds_up = 0, rounds_down = 0x1.fffffep-1f;
  const double g = value;
  const double down = dequantize_in_class(quantizer, width, scale,
                                          quantize_in_class(quantizer, width, scale, value, rounds_down));
  const double up = dequantize_in_class(quantizer, width, scale,
                                        quantize_in_class(quantizer, width, scale, value, rounds_up));
  double share = up == down ? 0.0 : (g - down) / (up - down);
  share = share < 0.0 ? 0.0 : 1.0 < share ? 1.0 : share;
  return (1 - share) * (down - g) * (down - g) + share * (up - g) * (up - g);
}

/// Splits a code word into a sign bit and a magnitude index of width - 1 bits, so that equal magnitudes share
/// a symbol whatever the quantizer; join_code is its inverse.
JSQ_HD uint32_t magnitude_of_code(ClassQuantizer quantizer, uint32_t width, uint32_t code) {
  const uint32_t half = 1u << (width - 1);
  switch (quantizer) {
    case ClassQuantizer::cell:
    case ClassQuantizer::offmag:
      return code & (half - 1);
    case ClassQuantizer::mid:
      return code >= half ? code - half : half - 1 - code;
    case ClassQuantizer::sym:
      return code < half ? code : (2 * half - code) & (half - 1);
  }
  return 0;
}
JSQ_HD uint32_t sign_of_code(ClassQuantizer quantizer, uint32_t width, uint32_t code) {
  const uint32_t top = code >> (width - 1);
  return quantizer == ClassQuantizer::mid ? 1u - top : top;
}
JSQ_HD uint32_t join_code(ClassQuantizer quantizer, uint32_t width, uint32_t negative, uint32_t magnitude) {
  const uint32_t half = 1u << (width - 1);
  switch (quantizer) {
    case ClassQuantizer::cell:
    case ClassQuantizer::offmag:
      return negative * half + magnitude;
    case ClassQuantizer::mid:
      return negative ? half - 1 - magnitude : half + magnitude;
    case ClassQuantizer::sym:
      return negative && magnitude > 0 ? 2 * half - magnitude : magnitude;
  }
  return 0;
}

}  // namespace jsq::element

// Quantizers inside a width class (methods.md 1.5): float <-> code word of exactly `width` bits, given the class's
// magnitude range [low, high]. All arithmetic is f32, so that every processor gives the same bits.
//
//   cell    sign + index of one of 2^(w-1) equal cells of [low, high]; decodes to the cell's centre (deterministic)
//   offmag  sign + one of 2^(w-1) magnitudes equispaced on [low, high]; stochastic rounding, unbiased
//   mid     one of 2^w points equispaced on [-high, high]; stochastic rounding, unbiased
//   sym     two's complement level in {-s..s}, s = 2^(w-1)-1, of step high/s; stochastic rounding, unbiased
//
// With nearest rounding (u = 0.5) the three stochastic ones become deterministic and biased.
#pragma once

#include <cstdint>

#include "kernels/element/float_bits.hpp"
#include "kernels/element/hostdevice.hpp"

namespace jsq::element {

enum class ClassQuantizer : uint8_t { cell = 0, mid = 1, offmag = 2, sym = 3 };

/// One class: its width in bits (1..8) and what its quantizer needs, derived from the range by make_class_scale.
struct ClassScale {
  float low = 0;       ///< smallest magnitude of the class
  float high = 0;      ///< largest magnitude of the class
  float step = 0;      ///< distance of neighbouring reconstruction points
  float inverse = 0;   ///< 1 / step, or 0 when the class has a single point
  uint32_t points = 1; ///< number of magnitude points (cell, offmag), of points (mid), or s (sym)
};

/// The scale of a class of `width` bits on [low, high].
JSQ_HD ClassScale make_class_scale(ClassQuantizer quantizer, uint32_t width, float low, float high) {
  ClassScale scale;
  scale.low = low;
  scale.high = high;
  const uint32_t half = 1u << (width - 1);
  float span = high - low;
  float intervals = float(half);
  scale.points = half;
  switch (quantizer) {
    case ClassQuantizer::cell: break;
    case ClassQuantizer::offmag: intervals = float(half - 1); break;
    case ClassQuantizer::mid:
      scale.points = 2 * half;
      span = 2.0f * high;
      // 2 * high may overflow for magnitudes near the top of the range; halve before scaling instead.
      if (!(span < magnitude_of_key(first_nonfinite_key))) span = magnitude_of_key(first_nonfinite_key - 1);
      intervals = float(2 * half - 1);
      break;
    case ClassQuantizer::sym:
      scale.points = half - 1;
      span = high;
      intervals = float(half - 1);
      break;
  }
  scale.step = intervals > 0.0f ? span / intervals : 0.0f;
  const float inverse = 1.0f / scale.step;
  scale.inverse = scale.step > 0.0f && inverse < magnitude_of_key(first_nonfinite_key) ? inverse : 0.0f;
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
JSQ_HD uint32_t quantize_in_class(ClassQuantizer quantizer, uint32_t width, const ClassScale& scale, float g, float u) {
  const float magnitude = magnitude_of_key(magnitude_key(g));
  const uint32_t negative = bits_as<uint32_t>(g) >> 31;
  const uint32_t half = 1u << (width - 1);
  switch (quantizer) {
    case ClassQuantizer::cell: {
      const float y = (magnitude - scale.low) * scale.inverse;
      const uint32_t index = y < float(half - 1) ? uint32_t(y) : half - 1;
      return negative * half + index;
    }
    case ClassQuantizer::offmag: {
      const float y = (magnitude - scale.low) * scale.inverse;
      return negative * half + round_stochastic(y, u, half - 1);
    }
    case ClassQuantizer::mid: {
      const float y = (g + scale.high) * scale.inverse;
      return round_stochastic(y > 0.0f ? y : 0.0f, u, 2 * half - 1);
    }
    case ClassQuantizer::sym: {
      const uint32_t level = round_stochastic(magnitude * scale.inverse, u, half - 1);
      return negative && level > 0 ? 2 * half - level : level;
    }
  }
  return 0;
}

/// The value a code word stands for.  \pre code < 2^width.
JSQ_HD float dequantize_in_class(ClassQuantizer quantizer, uint32_t width, const ClassScale& scale, uint32_t code) {
  const uint32_t half = 1u << (width - 1);
  const uint32_t index = code & (half - 1);
  const bool negative = code >= half;
  switch (quantizer) {
    case ClassQuantizer::cell: {
      const float value = scale.low + (float(index) + 0.5f) * scale.step;
      return negative ? -value : value;
    }
    case ClassQuantizer::offmag: {
      const float value = scale.low + float(index) * scale.step;
      return negative ? -value : value;
    }
    case ClassQuantizer::mid: return float(code) * scale.step - scale.high;
    case ClassQuantizer::sym: {
      if (!negative) return float(index) * scale.step;
      return -(float(2 * half - code) * scale.step);
    }
  }
  return 0.0f;
}

/// Splits a code word into a sign bit and a magnitude index of width - 1 bits, so that equal magnitudes share a symbol
/// whatever the quantizer; join_code is its inverse.
JSQ_HD uint32_t magnitude_of_code(ClassQuantizer quantizer, uint32_t width, uint32_t code) {
  const uint32_t half = 1u << (width - 1);
  switch (quantizer) {
    case ClassQuantizer::cell:
    case ClassQuantizer::offmag: return code & (half - 1);
    case ClassQuantizer::mid: return code >= half ? code - half : half - 1 - code;
    case ClassQuantizer::sym: return code < half ? code : (2 * half - code) & (half - 1);
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
    case ClassQuantizer::offmag: return negative * half + magnitude;
    case ClassQuantizer::mid: return negative ? half - 1 - magnitude : half + magnitude;
    case ClassQuantizer::sym: return negative && magnitude > 0 ? 2 * half - magnitude : magnitude;
  }
  return 0;
}

}  // namespace jsq::element

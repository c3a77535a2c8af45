// What encoder and decoder of sparse methods agree on: the magnitude keys of exact values in their formats,
// and the class coder of positions with signs or code words.
#pragma once

#include <algorithm>
#include <cfloat>

#include "kernels/element/float_bits.hpp"
#include "lib/methods/sparse.hpp"

namespace jsq {

constexpr uint32_t most_sparse_steps = 1u << 20;

inline bool is_exact(SparseValues values) {
  return values <= SparseValues::bf16;
}

/// The magnitude bits of a value in its format.
inline uint32_t key_of(SparseValues format, float value) {
  switch (format) {
    case SparseValues::f16:
      return element::f32_to_f16_saturating(value) & 0x7fffu;
    case SparseValues::bf16:
      return element::f32_to_bf16_saturating(value) & 0x7fffu;
    default:
      return element::magnitude_key(value);
  }
}
/// The format of exact values.
inline element::StoredFloat stored_format(SparseValues values) {
  return values == SparseValues::f16    ? element::StoredFloat::f16
         : values == SparseValues::bf16 ? element::StoredFloat::bf16
                                        : element::StoredFloat::whole;
}
inline uint32_t largest_key(SparseValues format) {
  return element::largest_key(stored_format(format));
}
inline float value_of_key(SparseValues format, uint32_t key, bool negative) {
  return element::value_of_key(stored_format(format), key, negative);
}
inline bool is_negative(float value) {
  return element::bits_as<uint32_t>(value) >> 31 != 0;
}

inline float finite(float value) {
  return std::clamp(value, -FLT_MAX, FLT_MAX);
}

inline bool scale_has_low(element::ClassQuantizer quantizer) {
  return quantizer == element::ClassQuantizer::cell || quantizer == element::ClassQuantizer::offmag;
}

/// Two classes: dropped, and kept with code words of `width` bits.
inline void set_classes(ClassCoder& coder, uint32_t width) {
  coder.plan.classes = 2;
  coder.plan.width[1] = width;
  coder.model.classes = 2;
  coder.model.width = {0, uint8_t(width)};
}

/// A coder of positions and signs: one bit a kept element, which decodes to 1 or -1.
inline void set_signs(ClassCoder& coder) {
  set_classes(coder, 1);
  coder.plan.scale[1] = element::make_class_scale(element::ClassQuantizer::cell, 1, 1, 1);
}

}  // namespace jsq

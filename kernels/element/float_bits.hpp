// Bits of floating-point numbers: magnitude keys, and correctly rounded conversions between f16, bf16, f32
// and f64. Order by magnitude in jsq means the unsigned key bits(abs(g)).
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/element/hostdevice.hpp"

namespace jsq::element {

template <class To, class From>
JSQ_HD To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof(To));
  return to;
}

constexpr uint32_t magnitude_mask = 0x7fffffffu;
constexpr uint32_t first_nonfinite_key = 0x7f800000u;  ///< the key of infinity; NaN keys are above it

/// bits(abs(g)): unsigned, ordered as the magnitudes are.
JSQ_HD uint32_t magnitude_key(float g) {
  return bits_as<uint32_t>(g) & magnitude_mask;
}
JSQ_HD float magnitude_of_key(uint32_t key) {
  return bits_as<float>(key);
}

/// IEEE binary16 -> f32, exact.
JSQ_HD float f16_to_f32(uint16_t h) {
  const uint32_t sign = uint32_t(h & 0x8000u) << 16;
  const uint32_t magnitude = h & 0x7fffu;
  if (magnitude >= 0x7c00u) return bits_as<float>(sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13));
  if (magnitude >= 0x400u) return bits_as<float>(sign | ((magnitude << 13) + 0x38000000u));
  const float subnormal = float(magnitude) * 0x1p-24f;
  return bits_as<float>(sign | bits_as<uint32_t>(subnormal));
}

/// f32 -> binary16, round to nearest even; finite values saturate at 65504 instead of becoming infinite.
/// Infinities stay; a NaN keeps its top payload bits and is made quiet.
JSQ_HD uint16_t f32_to_f16_saturating(float value) {
  const uint32_t bits = bits_as<uint32_t>(value);
  const uint16_t sign = uint16_t((bits >> 16) & 0x8000u);
  const uint32_t key = bits & magnitude_mask;
  if (key > 0x7f800000u) return uint16_t(sign | 0x7e00u | ((key >> 13) & 0x3ffu));
  if (key == 0x7f800000u) return uint16_t(sign | 0x7c00u);
  if (key >= 0x477ff000u) return uint16_t(sign | 0x7bffu);  // rounds to 65520 or more
  if (key < 0x38800000u) {                                  // below 2^-14: subnormal half, unit 2^-24
    // Adding 0.5 places the unit of the result at 2^-24 with the hardware's own rounding to nearest even.
    const float shifted = bits_as<float>(key) + 0.5f;
    return uint16_t(sign | uint16_t(bits_as<uint32_t>(shifted) - 0x3f000000u));
  }
  const uint32_t rounded = key + 0xfffu + ((key >> 13) & 1u) - 0x38000000u;
  return uint16_t(sign | uint16_t(rounded >> 13));
}

JSQ_HD float bf16_to_f32(uint16_t b) {
  return bits_as<float>(uint32_t(b) << 16);
}

/// f32 -> bfloat16, round to nearest even; finite values saturate at the largest finite bfloat16. NaN is made
/// quiet.
JSQ_HD uint16_t f32_to_bf16_saturating(float value) {
  const uint32_t bits = bits_as<uint32_t>(value);
  const uint32_t key = bits & magnitude_mask;
  if (key > 0x7f800000u) return uint16_t((bits >> 16) | 0x40u);
  if (key == 0x7f800000u) return uint16_t(bits >> 16);
  const uint32_t rounded = (key + 0x7fffu + ((key >> 16) & 1u)) >> 16;
  const uint16_t sign = uint16_t((bits >> 16) & 0x8000u);
  return uint16_t(sign | (rounded > 0x7f7fu ? 0x7f7fu : rounded));
}

/// The element types narrower than f32 that a decoded value may be stored in.
enum class StoredFloat : uint8_t { whole = 0, f16 = 1, bf16 = 2 };
/// A decoded value as an element of that type will hold it.
JSQ_HD float round_to_stored(StoredFloat stored, float value) {
  if (stored == StoredFloat::f16) return f16_to_f32(f32_to_f16_saturating(value));
  if (stored == StoredFloat::bf16) return bf16_to_f32(f32_to_bf16_saturating(value));
  return value;
}

}  // namespace jsq::element

// Levels coded with the scale that is predicted for each element (SPEC.md, "Context streams"): classes of
// contexts, symbols of levels, and the numbers that levels stand for. Integers up to the last conversion.
#pragma once

#include <cstdint>

#include "kernels/element/float_bits.hpp"
#include "kernels/element/hostdevice.hpp"

namespace jsq::element {

constexpr uint32_t context_symbols = 32;  ///< symbol 0, then +1 -1 +2 -2 .., then the escape
constexpr uint32_t escape_symbol = 31;
constexpr int lowest_context = -16, highest_context = 60;
/// Contexts as elements carry them: 0 below the lowest of the set, otherwise c - lowest + 1.
constexpr uint32_t context_classes = uint32_t(highest_context - lowest_context) + 2;

/// Contexts above the highest take its class.
JSQ_HD constexpr uint32_t context_class(int context, int lowest) {
  if (context < lowest) return 0;
  return uint32_t((context > highest_context ? highest_context : context) - lowest + 1);
}

/// Magnitude of a symbol below the escape, and whether it is negative.
JSQ_HD constexpr uint32_t symbol_magnitude(uint32_t symbol) {
  return (symbol + 1) / 2;
}
JSQ_HD constexpr bool symbol_is_negative(uint32_t symbol) {
  return symbol % 2 == 0 && symbol != 0;
}

constexpr uint32_t largest_level = 0x7ffffff0;

/// What a level of this magnitude stands for, in 1/256 step. `offsets`: of the levels 1, 2 and more, in 1/32
/// step; null for none. `quantizer`: 1 for the shifted one of dependent levels.
JSQ_HD int64_t level_points(uint32_t magnitude, uint32_t quantizer, const int8_t* offsets) {
  if (magnitude == 0) return 0;
  const int64_t whole = int64_t(magnitude) * 256 - 128 * int64_t(quantizer);
  if (offsets == nullptr) return whole;
  const int64_t moved = whole + 8 * offsets[(magnitude < 3 ? magnitude : 3) - 1];
  return moved < 0 ? 0 : moved;
}
/// Points times the step's mantissa, in `unit`, a power of two.
JSQ_HD float value_of_points(int64_t units, double unit, bool negative) {
  constexpr double most = 0x1.fffffep127;
  const double exact = double(units) * unit, magnitude = exact < most ? exact : most;
  return float(negative ? -magnitude : magnitude);
}
/// Of levels that name binary32 values: the value of key (magnitude - 1 + base) << shift.
JSQ_HD float exact_value(uint32_t magnitude, bool negative, uint32_t base, uint32_t shift) {
  if (magnitude == 0) return 0;
  const uint64_t key = (uint64_t(magnitude) - 1 + base) << shift;
  return bits_as<float>(uint32_t(key < 0x7f7fffff ? key : 0x7f7fffff) | (negative ? 0x80000000u : 0u));
}

}  // namespace jsq::element

// One bit a value, the most significant of a byte first: the signs of values, and values of one magnitude
// from their signs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace jsq::cpu {

/// Bit 7 - i % 8 of bytes[i / 8] <- whether values[i] < 0, so that zeros of either sign count as positive;
/// the bits behind the last value are 0. Returns how many are negative. \pre (values.size() + 7) / 8 bytes.
size_t pack_signs(std::span<const float> values, uint8_t* bytes);

/// values[i] <- -magnitude where the bit of i is set, otherwise magnitude.
void values_of_signs(const uint8_t* bytes, float magnitude, std::span<float> values);

}  // namespace jsq::cpu

// The signs of levels as a bit stream: one bit for each level that is not zero, 1 = negative, the first
// level's the most significant bit of the first byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace jsq::cpu {

/// Writes the bits, and zeros behind the last one up to a whole byte. \pre `out` has room for a bit a level
/// and eight bytes more.
void pack_level_signs(std::span<const int32_t> levels, char* out);

/// levels[i] <- magnitudes[i] with the sign of its bit. Returns how many bits that took; bits beyond the end
/// of `signs` are zeros.
uint64_t restore_level_signs(std::span<const uint8_t> magnitudes, std::string_view signs,
                             std::span<int32_t> levels);

}  // namespace jsq::cpu

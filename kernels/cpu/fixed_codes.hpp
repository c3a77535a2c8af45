// Levels as codes of one width, level - low, the most significant bit first: the fixed layout of level
// blocks, eight levels at a time, which are whole bytes whatever the width.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace jsq::cpu {

constexpr uint32_t most_code_bits = 16;

/// The bitwise or of all levels, and of all codes.
struct CodedBits {
  uint32_t levels = 0, codes = 0;
};

/// Codes of `levels` into exactly levels.size() / 8 * width bytes.
/// \pre levels.size() is a multiple of 8, width 1..most_code_bits; codes beyond it spoil their neighbours.
CodedBits pack_codes(std::span<const int32_t> levels, int32_t low, uint32_t width, uint8_t* bytes);

/// The inverse; returns the largest code.
uint32_t unpack_codes(const uint8_t* bytes, uint32_t width, int32_t low, std::span<int32_t> levels);

}  // namespace jsq::cpu

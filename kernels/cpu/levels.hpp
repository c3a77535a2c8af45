// Passes over quantization levels, what their packers have in common: bounds, tallies, which are zero,
// magnitude tokens.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace jsq::cpu {

/// The least and the greatest level; both 0 of none.
struct LevelBounds {
  int32_t least = 0;
  int32_t greatest = 0;
};
LevelBounds level_bounds(std::span<const int32_t> levels);

/// Tables that count_levels counts into, so that equal neighbours do not wait for each other's store.
constexpr size_t level_tables = 4;

/// Adds one to tables[k symbols + level - low] for every level, in some table k below level_tables.
/// \pre every level in low..low + symbols - 1; the tables hold level_tables * symbols counts.
void count_levels(std::span<const int32_t> levels, int32_t low, size_t symbols, uint32_t* tables);

/// Bit i % 64 of word i / 64, the lowest first: whether level i is not zero, and whether it is negative. Bits
/// behind the last level are 0. \pre (levels.size() + 63) / 64 words each.
void level_masks(std::span<const int32_t> levels, uint64_t* nonzero, uint64_t* negative);

/// The magnitude itself below `direct`, otherwise offset + its binary length, which is the exponent of the
/// exact float; the choice is a mask, so that loops become vectors.  \pre magnitude < 2^14
inline uint32_t magnitude_token(uint32_t magnitude, uint32_t direct, uint32_t offset) {
  const uint32_t length = (std::bit_cast<uint32_t>(float(int32_t(magnitude))) >> 23) - 126;
  const uint32_t is_small = 0u - uint32_t(magnitude < direct);
  return (magnitude & is_small) | ((offset + length) & ~is_small);
}
/// tokens[i] = magnitude_token of |levels[i]|.
void magnitude_tokens(std::span<const int32_t> levels, uint32_t direct, uint32_t offset, uint16_t* tokens);

}  // namespace jsq::cpu

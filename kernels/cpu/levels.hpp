// Passes over quantization levels, what their packers have in common: bounds, tallies, which are zero,
// magnitude tokens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/element/level_layout.hpp"

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

using element::magnitude_token;
/// tokens[i] = magnitude_token of |levels[i]|.
void magnitude_tokens(std::span<const int32_t> levels, uint32_t direct, uint32_t offset, uint16_t* tokens);

}  // namespace jsq::cpu

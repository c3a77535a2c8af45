// Levels by the thresholds of an element's class, in one pass from values to symbols and decoded values.
#pragma once

#include <cstddef>
#include <cstdint>

namespace jsq::cpu {

/// Cells that a class has here at most.
constexpr size_t level_cells = 16;

/// What the elements of one class become. Cell 0 is zero.
struct LevelCells {
  alignas(64) float start[level_cells];  ///< the least |value| scale of a cell, ascending; infinite beyond
                                         ///< the last
  uint32_t twice_level[level_cells];     ///< 2 |level|
  float magnitude[level_cells];          ///< decoded
  uint32_t last;                         ///< the last cell that there is
  float limit;                           ///< elements from here on are listed instead
};

struct LeveledCount {
  size_t listed = 0;
  bool nonzero = false;  ///< whether a symbol that is not listed is other than 0
};

/// Symbol ids 32 classes[i] + symbol, where symbols are 0, then those of +1, -1, +2, -2 .., and decoded
/// values. An element whose |values[i]| * scale is `limit` of its class or more is in `positions`, ascending,
/// with the symbol and value of zero. No value is NaN.  \pre cells of every class that is met; `count`
/// positions are writable The same at every SIMD level: one multiplication and comparisons.
LeveledCount level_elements(const float* values, const uint8_t* classes, size_t count, float scale,
                            const LevelCells* cells, uint16_t* ids, float* decoded, uint32_t* positions);

}  // namespace jsq::cpu

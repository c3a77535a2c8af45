// The inner loops of decoding four streams of eight lanes side by side: a step of one waits for its table
// while the others take theirs.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/element/rans.hpp"

namespace jsq::cpu {

constexpr size_t rans_together = 4;

/// Bytes behind the end of each stream that must be there and zero.
constexpr size_t rans_padding = 128;

/// A stream in the middle of its symbols: the next one is on lane 0.
struct EightLanes {
  uint32_t states[8];
  const char* next;  ///< word
  const char* end;
  bool overrun = false;  ///< words beyond the end, which are zeros, were taken
};

/// For each g < groups the next `each` symbols, a multiple of eight up to 32, of stream k with table
/// tables[k][g] of 4096 slots, behind each other in symbols[k]. The same symbols at every SIMD level.
void decode_groups_of_four(const element::RansSlot* slots, EightLanes* streams, const uint8_t* const* tables,
                           size_t groups, size_t each, uint8_t* const* symbols);

/// symbols[k][0..8 eights) of stream k, each with the table of the same index.
void decode_symbols_of_four(const element::RansSlot* slots, EightLanes* streams, const uint8_t* const* tables,
                            size_t eights, uint8_t* const* symbols);

/// symbols[k][0..count) of stream k, the first with tables[0] and every other with the table of the symbol
/// before it.
void decode_following_of_four(const element::RansSlot* slots, EightLanes* streams, const uint8_t* tables,
                              size_t count, uint8_t* const* symbols);

}  // namespace jsq::cpu

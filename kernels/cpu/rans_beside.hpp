// The inner loops of decoding several streams side by side: a step of one waits for its table while the
// others take theirs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/element/rans.hpp"

namespace jsq::cpu {

/// At most so many; there may be half of them, too.
constexpr size_t rans_together = 8;

/// Bytes behind the end of each stream that must be there and zero.
constexpr size_t rans_padding = 128;

/// A stream in the middle of its symbols: the next one is on lane 0.
struct EightLanes {
  uint32_t states[8];  ///< of which a stream of fewer lanes has the first
  const char* next;    ///< word
  const char* end;
  bool overrun = false;  ///< words beyond the end, which are zeros, were taken
};

/// A table by its symbols, which registers hold: where each begins, and how many slots it has. Those that
/// have none at the end begin where the slots end.
struct SymbolStarts {
  alignas(64) uint16_t start[element::rans_max_symbols];
  uint16_t frequency[element::rans_max_symbols];
};
SymbolStarts make_symbol_starts(std::span<const uint32_t, element::rans_max_symbols> frequencies);

/// The tables of a model, in both forms.
struct RansTables {
  const element::RansSlot* slots;  ///< 4096 of each
  const SymbolStarts* starts;
};

/// For each g < groups the next `each` symbols, a multiple of eight up to 32, of stream k with table
/// tables[k][g], behind each other in symbols[k]. `streams`: four or eight, of so many `lanes`: one, two,
/// four or eight, which alone have vector loops. The same symbols at every SIMD level.
void decode_groups_beside(const RansTables& with, uint32_t lanes, std::span<EightLanes> streams,
                          const uint8_t* const* tables, size_t groups, size_t each, uint8_t* const* symbols);

/// symbols[k][0..8 eights) of stream k, each with the table of the same index.
void decode_symbols_beside(const RansTables& with, uint32_t lanes, std::span<EightLanes> streams,
                           const uint8_t* const* tables, size_t eights, uint8_t* const* symbols);

/// symbols[k][0..count) of stream k, the first with tables[0] and every other with the table of the symbol
/// before it.
void decode_following_beside(const RansTables& with, uint32_t lanes, std::span<EightLanes> streams,
                             const uint8_t* tables, size_t count, uint8_t* const* symbols);

}  // namespace jsq::cpu

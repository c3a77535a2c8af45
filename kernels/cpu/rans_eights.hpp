// The inner loop of encoding with eight lanes: eight symbols, one a lane, in one vector step.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/element/rans.hpp"

namespace jsq::cpu {

/// Division by a symbol's frequency f of any state below 2^20 f, exact without looking at the remainder:
/// (x multiplier + addend) >> shift. The multiplier is rounded up, or down with itself as the addend
/// (Robison, "N-bit unsigned division via N-bit multiply-add", 2005).
struct ExactDivision {
  uint32_t multiplier = 0, addend = 0, shift = 0;
};
ExactDivision exact_division(uint32_t frequency);

/// Room that must lie in front of the words that encode_eights writes.
constexpr size_t eights_slack = 8;

/// Codes ids[0..8 groups), last to first, symbol i on states[i mod 8], as element::rans_push would one by
/// one. Words go in front of `end`; returns the first. \pre 8 groups + eights_slack words in front of `end`
/// are writable; every id's symbol has a frequency above 0. The same words at every SIMD level.
uint16_t* encode_eights(const uint16_t* ids, size_t groups, const element::RansSymbol* table,
                        uint32_t* states, uint16_t* end);

/// The same with sixteen lanes: ids[0..16 groups), symbol i on states[i mod 16].  \pre the table has a
/// multiple of sixteen symbols
uint16_t* encode_sixteens(const uint16_t* ids, size_t groups, const element::RansSymbol* table,
                          uint32_t* states, uint16_t* end);

/// A stream of eight lanes that is being encoded: its words so far begin at `first`.
struct EncodingLanes {
  uint32_t states[8];
  uint16_t* first;
};
constexpr size_t encoded_together = 4;

/// Neighbours of a table, as registers take them: start and frequency, this in the upper half; reciprocals.
constexpr size_t grouped_symbols = 32;
struct alignas(64) SymbolGroup {
  uint32_t intervals[grouped_symbols] = {}, reciprocals[grouped_symbols] = {};
};
std::vector<SymbolGroup> symbol_groups(std::span<const element::RansSymbol> symbols);

/// The same symbols in both forms.
struct SymbolTable {
  const element::RansSymbol* symbols;
  const SymbolGroup* groups;
};

/// The same as encode_eights of ids[k][0..16 pairs) on each of `encoded_together` streams, which take turns:
/// a step of one is a chain of multiplications. Fastest where neighbours are of one or two groups.
void encode_eights_beside(const uint16_t* const* ids, size_t pairs, const SymbolTable& table,
                          EncodingLanes* streams);

/// The same as encode_eights for a table of at most element::rans_max_symbols symbols, which registers can
/// hold: about twice as fast with AVX-512.
uint16_t* encode_eights_small(const uint16_t* ids, size_t groups, const element::RansSymbol* table,
                              size_t symbols, uint32_t* states, uint16_t* end);

}  // namespace jsq::cpu

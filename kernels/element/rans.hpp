// One step of the range asymmetric numeral system coder (Duda, arXiv:1311.2540) as jsq uses it: 32-bit
// states, 16-bit renormalisation words, static 12-bit frequencies. Interleaving and streams are elsewhere.
#pragma once

#include <cstdint>

#include "kernels/element/hostdevice.hpp"

namespace jsq::element {

constexpr uint32_t rans_precision_bits = 12;
constexpr uint32_t rans_total = 1u << rans_precision_bits;  ///< the frequencies of a table sum to this
constexpr uint32_t rans_lower_bound = 1u << 16;  ///< states live in [2^16, 2^32); encoding starts here
constexpr uint32_t rans_max_symbols = 16;        ///< largest alphabet of a table

/// One slot of a decode table: symbol, frequency - 1 and offset of the slot in the symbol's interval, in 4 +
/// 12 + 12 bits.
struct RansSlot {
  uint32_t packed;
};
JSQ_HD RansSlot make_rans_slot(uint32_t symbol, uint32_t frequency, uint32_t offset) {
  return {symbol | ((frequency - 1) << 4) | (offset << 16)};
}
JSQ_HD uint32_t rans_slot_symbol(RansSlot slot) {
  return slot.packed & 15u;
}

/// State after the symbol of `slot` is removed, before renormalisation.
JSQ_HD uint32_t rans_advance(uint32_t state, RansSlot slot) {
  const uint32_t frequency = ((slot.packed >> 4) & 4095u) + 1;
  return frequency * (state >> rans_precision_bits) + (slot.packed >> 16);
}

/// A symbol's interval, with a reciprocal so that encoding needs no division.
struct RansSymbol {
  uint16_t start = 0;
  uint16_t frequency = 0;   ///< 0: the symbol cannot be coded
  uint32_t reciprocal = 0;  ///< floor((2^32 - 1) / frequency)
};
JSQ_HD constexpr RansSymbol make_rans_symbol(uint32_t start, uint32_t frequency) {
  return {uint16_t(start), uint16_t(frequency), frequency ? 0xffffffffu / frequency : 0u};
}
/// True when a word must be emitted before coding with `frequency`.
JSQ_HD bool rans_needs_word(uint32_t state, uint32_t frequency) {
  return (state >> 20) >= frequency;
}
/// State after coding a symbol: 4096 q + r + start, where state = q frequency + r. The reciprocal times the
/// state falls short of q by at most one, and the remainder tells.  \pre !rans_needs_word(state,
/// symbol.frequency)
JSQ_HD uint32_t rans_push(uint32_t state, const RansSymbol& symbol) {
  const uint32_t quotient = uint32_t((uint64_t(state) * symbol.reciprocal) >> 32);
  const uint32_t remainder = state - quotient * symbol.frequency;
  const uint32_t one_short = remainder >= symbol.frequency ? rans_total - symbol.frequency : 0u;
  return (quotient << rans_precision_bits) + remainder + symbol.start + one_short;
}

}  // namespace jsq::element

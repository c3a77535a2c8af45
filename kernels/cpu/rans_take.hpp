// One symbol of an interleaved stream of the entropy coder, read where it lies.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/element/rans.hpp"

namespace jsq::cpu {

/// The next symbol of a state; two bytes behind `next` are there in any case. `seldom`: words are taken so
/// seldom that a branch is guessed right; otherwise there is none.
template <bool seldom = false>
inline uint32_t take_symbol(uint32_t& state, const element::RansSlot* table, const char*& next) {
  const element::RansSlot slot = table[state & (element::rans_total - 1)];
  const uint32_t x = element::rans_advance(state, slot);
  uint16_t word;
  std::memcpy(&word, next, sizeof word);
  const uint32_t needs = x < element::rans_lower_bound;
  if constexpr (seldom) {
    state = needs ? x << 16 | word : x;
    next = needs ? next + sizeof word : next;
  } else {
    state = x << 16 * needs | (word & (0u - needs));
    next += sizeof word * needs;
  }
  return element::rans_slot_symbol(slot);
}

}  // namespace jsq::cpu

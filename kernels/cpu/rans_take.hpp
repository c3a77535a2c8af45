// One symbol of an interleaved stream of the entropy coder, read where it lies.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/element/rans.hpp"

namespace jsq::cpu {

/// The next symbol of a state; two bytes behind `next` are there in any case. Whether a word is taken nobody
/// can predict, so that the compiler had better choose than branch.
inline uint32_t take_symbol(uint32_t& state, const element::RansSlot* table, const char*& next) {
  const element::RansSlot slot = table[state & (element::rans_total - 1)];
  const uint32_t x = element::rans_advance(state, slot);
  uint16_t word;
  std::memcpy(&word, next, sizeof word);
  const bool needs = __builtin_expect_with_probability(x < element::rans_lower_bound, 1, 0.5);
  state = needs ? x << 16 | word : x;
  next = needs ? next + sizeof word : next;
  return element::rans_slot_symbol(slot);
}

}  // namespace jsq::cpu

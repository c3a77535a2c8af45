// Dependent levels: a state machine of eight states, driven by the parities of the levels so far, says which
// of two quantizers the next level belongs to. The quantizer of even states has its points at whole steps,
// that of odd states half a step nearer to zero, so that together they are twice as dense as either, while
// levels take the bits of one. SPEC.md, "Dependent levels", is the definition; the search for the best path
// is quantizers/trellis_quantizer. Source: Schwarz, Nguyen, Marpe and Wiegand, "Hybrid video coding with
// trellis-coded quantization", DCC 2019.
#pragma once

#include <array>
#include <cstdint>

namespace jsq {

constexpr uint32_t dependent_states = 8;

/// [state][parity of the level]: the next state.
constexpr std::array<std::array<uint8_t, 2>, dependent_states> next_state = {
    {{0, 2}, {5, 7}, {1, 3}, {6, 4}, {2, 0}, {4, 6}, {3, 1}, {7, 5}}};

/// 0, or 1 for the shifted quantizer.
constexpr uint32_t quantizer_of(uint32_t state) {
  return state & 1;
}

}  // namespace jsq

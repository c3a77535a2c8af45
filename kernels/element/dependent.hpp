// Dependent levels: a state machine of eight states, driven by the parities of the levels so far, says which
// of two quantizers the next level belongs to. The quantizer of even states has its points at whole steps,
// that of odd states half a step nearer to zero, so that together they are twice as dense as either, while
// levels take the bits of one. SPEC.md, "Dependent levels", is the definition; the search for the best path
// is lib/quantizers/trellis_quantizer. Source: Schwarz, Nguyen, Marpe and Wiegand, "Hybrid video coding with
// trellis-coded quantization", DCC 2019.
#pragma once

#include <cstdint>

#include "kernels/element/hostdevice.hpp"

namespace jsq::element {

constexpr uint32_t dependent_states = 8;

/// The state after a level of this parity: four bits for each state and parity.
JSQ_HD constexpr uint32_t next_dependent_state(uint32_t state, uint32_t parity) {
  return uint32_t(0x5713640246317520u >> (4 * (2 * state + parity))) & 7;
}

/// 0, or 1 for the shifted quantizer.
JSQ_HD constexpr uint32_t quantizer_of(uint32_t state) {
  return state & 1;
}

}  // namespace jsq::element

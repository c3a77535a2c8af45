// The state machine of dependent levels as a table, for searches.
#pragma once

#include <array>
#include <cstdint>

#include "kernels/element/dependent.hpp"

namespace jsq {

using element::dependent_states;
using element::quantizer_of;

/// [state][parity of the level]: the next state.
constexpr auto next_state = [] {
  std::array<std::array<uint8_t, 2>, dependent_states> next{};
  for (uint32_t state = 0; state < dependent_states; ++state)
    for (uint32_t parity = 0; parity < 2; ++parity)
      next[state][parity] = uint8_t(element::next_dependent_state(state, parity));
  return next;
}();

}  // namespace jsq

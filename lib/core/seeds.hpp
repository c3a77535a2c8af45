// Seeds of steps and workers, derived from the user's by Philox so that no two streams overlap. Step 0 and
// worker 0 keep the seed that they are derived from.
#pragma once

#include <cstdint>

#include "kernels/element/philox.hpp"

namespace jsq {

inline uint64_t derived_seed(uint64_t seed, uint64_t number, uint32_t kind) {
  if (number == 0) return seed;
  const element::PhiloxBlock block = element::philox4x32_10(
      {{uint32_t(number), uint32_t(number >> 32), kind, uint32_t(element::RandomPurpose::worker)}},
      uint32_t(seed), uint32_t(seed >> 32));
  return block.word[0] | uint64_t(block.word[1]) << 32;
}

/// What all workers share in a step; stored in the frame.
inline uint64_t step_seed(uint64_t seed, uint64_t step) {
  return derived_seed(seed, step, 1);
}
/// What one worker rounds with in a step.
inline uint64_t stream_seed(uint64_t shared, uint32_t worker) {
  return derived_seed(shared, worker, 2);
}

/// What the addition number `edge` of a reduction tree rounds with.
inline uint64_t transit_seed(uint64_t shared, uint32_t edge) {
  return derived_seed(shared, uint64_t(edge) + 1, 3);
}

}  // namespace jsq

// What CUB does for jsq. The only door to it: its headers are slow to compile, and no other file includes
// them.
#pragma once

#include "kernels/cuda/memory.hpp"

namespace jsq::cuda {

/// Sorts `count` keys below 2^31 and lists the different ones, ascending, with how often each occurs. `keys`
/// is used as room; `different` and `counts` hold `count` entries. Returns how many differ. Device memory
/// throughout.
uint32_t count_sorted_keys(uint32_t* keys, uint32_t count, uint32_t* different, uint32_t* counts,
                           const Stream& stream);

}  // namespace jsq::cuda

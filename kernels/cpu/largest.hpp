// Sums over a chunk's largest elements, and counts of single magnitudes.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/element/largest.hpp"

namespace jsq::cpu {

/// Sums over `values` (at most sum_chunk). Adds 1 to counts[keys_of_bin b + low bits of the key] for every
/// element of bin cuts.bins[b].
element::LargestSums largest_of_chunk(std::span<const float> values, const element::LargestCuts& cuts,
                                      std::span<uint64_t> counts);

}  // namespace jsq::cpu

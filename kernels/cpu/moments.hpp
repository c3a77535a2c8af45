// Moments of a chunk about its own mean, and sums over neighbours.
#pragma once

#include <span>

#include "kernels/element/moments.hpp"

namespace jsq::cpu {

/// \param sums  of the same values (at most sum_chunk), which are at least one.
element::ChunkMoments moments_of_chunk(std::span<const float> values, const element::ChunkSums& sums);

}  // namespace jsq::cpu

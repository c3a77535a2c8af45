// Sums of magnitudes along a tensor's axes.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/element/axis.hpp"

namespace jsq::cpu {

/// Sum of the finite magnitudes of a part, in the order of sum_lanes.
double sum_of_part(std::span<const float> values);

/// Adds the magnitudes of a chunk, the elements from `first` on of the tensor, to the sums of their indices.
/// \pre `first` is a multiple of sum_chunk, and the chunk has at most as many elements.
void add_to_axis(const element::Axis& axis, uint64_t first, std::span<const float> chunk,
                 std::span<double> sums);

}  // namespace jsq::cpu

// PowerSGD's and ACP-SGD's collectives: factors are linear in the gradient while the other factor is shared,
// so that workers add them as f32. The first round agrees on a power of two that keeps factors in range.
#pragma once

#include "lib/collectives/endpoint.hpp"
#include "lib/methods/low_rank.hpp"

namespace jsq {

/// From the seed's start factor. \pre the tensor is a matrix.
std::unique_ptr<Endpoint> make_low_rank_endpoint(LowRankAlgorithm algorithm, uint64_t rank,
                                                 unsigned iterations, const EndpointContext& context,
                                                 std::span<const float> values);

}  // namespace jsq

// signSGD's majority vote (Bernstein et al., ICLR 2019): signs are added, and the sum's sign comes back.
#pragma once

#include "lib/collectives/endpoint.hpp"

namespace jsq {

/// What an even split decodes to.
enum class TieRule : uint8_t { zero, plus, random };

/// Zero counts as positive. `scaled`: the vote has the mean over the workers of their mean magnitudes;
/// otherwise 1.
std::unique_ptr<Endpoint> make_vote_endpoint(bool scaled, TieRule tie, const EndpointContext& context,
                                             std::span<const float> values);

}  // namespace jsq

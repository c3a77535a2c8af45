// What error feedback is measured against: a worker whose messages lose nothing.
#pragma once

#include <vector>

#include "jsq/compress.hpp"
#include "jsq/export.hpp"
#include "jsq/state.hpp"

namespace jsq {

/// What a worker would send in a step if nothing were lost: its gradients, or with momentum what the momentum
/// makes of them (DGC's velocity, Signum's mean), by the feedback of `options`; clipped where they clip.
/// `kept` has what that needs from step to step; start with a fresh state. Non-finite values stay.
/// \throws Error usage for tensors of other sizes than before.
JSQ_API std::vector<std::vector<float>> uncompressed_step(const CompressOptions& options, State& kept,
                                                          const std::vector<GradientView>& gradients);

}  // namespace jsq

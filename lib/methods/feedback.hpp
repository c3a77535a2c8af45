// What a worker does around a compressor in a sequence of steps: before it, the
// gradient becomes what is coded; after it, what was not sent is kept. Element-wise, so that a caller may cut
// arrays where it likes.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "jsq/compress.hpp"
#include "jsq/state.hpp"

namespace jsq {

struct FeedbackRule {
  Feedback kind = Feedback::none;
  double momentum =
      0.9;  ///< m of the masked rule (u <- m u + g), beta of momentum (m <- beta m + (1 - beta) g)
  bool nesterov = false;  ///< masked: u <- m (u + g), v <- v + u + g
  /// Masked: the largest L2 norm of all gradients of a step together, before anything else; 0: none.
  double clip = 0;
};

/// The rule of `options`: its feedback, or what the method's paper prescribes, with the numbers of the
/// method's options.
FeedbackRule feedback_rule(const CompressOptions& options);

/// What gradients of this energy (sum of squares over all tensors) are multiplied by before they are added.
float clipping_factor(const FeedbackRule& rule, double energy);

/// Coded values of one tensor and the arrays as they are before the compressor runs.
struct FeedbackStep {
  std::vector<float> coded;
  std::vector<float> u, v;  ///< masked: the new u and v
};
/// Non-finite gradients stay non-finite in `coded` (so that their policy holds) and count as zero in the
/// arrays.
FeedbackStep before_coding(const FeedbackRule& rule, const State& state, const std::string& tensor,
                           std::span<const float> gradient, float factor = 1);
/// Keeps in `state` what `decoded` leaves.
void after_coding(const FeedbackRule& rule, State& state, const std::string& tensor, FeedbackStep step,
                  std::span<const float> decoded);

}  // namespace jsq

// The mean of n workers' gradients as a method's collective gives it: messages added in the code domain along
// a binary tree where the method allows that, otherwise gathered, decoded and averaged.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "jsq/compress.hpp"
#include "jsq/export.hpp"

namespace jsq {

struct AggregateOptions {
  MethodSpec method;
  Target target = {TargetKind::native, 0};  ///< of each worker's frame, where messages are gathered
  Rounding rounding = Rounding::automatic;
  uint64_t seed = 0;
  uint64_t step = 0;
  unsigned threads = 0;
};

struct AggregateReport {
  bool code_domain = false;    ///< messages were added; otherwise decoded one by one
  uint64_t message_bytes = 0;  ///< what a worker sends of its own, all rounds; the largest worker's
  uint64_t reduced_bytes =
      0;  ///< added messages as they come back, all rounds; gathered: the other workers' messages
  uint64_t saturated = 0;  ///< sums that the code cannot hold and that were cut
  Distortion distortion;   ///< of the mean against the true mean (in double, rounded to f32)
};

/// One addition of a reduction tree: the message of worker `from` is added to that of `into`.
struct TreeEdge {
  uint32_t into = 0, from = 0;
};
/// The reduction order of n workers: at stride 1, 2, 4, ... worker i with i mod 2 stride = 0 takes that of i
/// + stride, if there is one. n - 1 edges, for any n.
JSQ_API std::vector<TreeEdge> reduction_tree(uint32_t workers);

/// `workers`: one gradient each, of info.elements() finite values. Deterministic: the same mean for any
/// thread count. \throws Error usage, non_finite, unreachable_target.
JSQ_API AggregateReport aggregate(const TensorInfo& info, const std::vector<std::span<const float>>& workers,
                                  const AggregateOptions& options, std::span<float> mean);

}  // namespace jsq

// The mean of n workers' gradients as a method's collective gives it: messages added in the code domain along
// a binary tree where the method allows that, otherwise gathered, decoded and averaged. One worker's side of
// it is a class of its own, so that processes which really exchange messages do what one process does alone.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "jsq/compress.hpp"
#include "jsq/export.hpp"

namespace jsq {

enum class Collective : uint8_t {
  automatic,  ///< allreduce where the method adds messages, otherwise allgather
  allreduce,  ///< messages are added on their way
  allgather,  ///< every worker gets every frame
};

struct AggregateOptions {
  MethodSpec method;
  Target target = {TargetKind::native, 0};  ///< of each worker's frame, where messages are gathered
  Rounding rounding = Rounding::automatic;
  Collective collective = Collective::automatic;
  uint64_t seed = 0;
  uint64_t step = 0;
  unsigned threads = 0;
};

struct AggregateReport {
  bool code_domain = false;    ///< messages were added; otherwise decoded one by one
  uint64_t message_bytes = 0;  ///< what a worker sends of its own, all rounds; the largest worker's
  uint64_t reduced_bytes =
      0;  ///< added messages as they come back, all rounds; gathered: the other workers' messages
  std::vector<uint64_t> worker_bytes;  ///< what each worker sends of its own, all rounds
  uint64_t saturated = 0;              ///< sums that the code cannot hold and that were cut
  uint64_t overflowed = 0;             ///< values of workers that the message cannot hold and that were cut
  Distortion distortion;               ///< of the mean against the true mean (in double, rounded to f32)
};

/// One addition of a reduction tree: the message of worker `from` is added to that of `into`.
struct TreeEdge {
  uint32_t into = 0, from = 0;
};
/// The reduction order of n workers: at stride 1, 2, 4, ... worker i with i mod 2 stride = 0 takes that of i
/// + stride, if there is one. n - 1 edges, for any n.
JSQ_API std::vector<TreeEdge> reduction_tree(uint32_t workers);

/// One of `workers` workers. In each round, in order: message(), the exchange, and receive() of what came of
/// it. An exchange that adds messages along the reduction tree, with the edges' numbers, gives the same bytes
/// wherever it happens.
class JSQ_API AggregateWorker {
 public:
  /// `gradients` must outlive it; every worker has the same tensors.  \throws Error usage (the method adds no
  /// messages but allreduce was asked for, or it cannot hold the sum of so many workers), unreachable_target,
  /// non_finite.
  AggregateWorker(const std::vector<GradientView>& gradients, const AggregateOptions& options,
                  uint32_t worker, uint32_t workers);
  AggregateWorker(AggregateWorker&&) noexcept;
  ~AggregateWorker();

  /// Messages are added; otherwise there is one round, whose messages are frames for mean_of_frames().
  bool code_domain() const noexcept;
  uint32_t rounds() const noexcept;
  /// In the code domain the same number of bytes for every worker.
  std::string message(uint32_t round);
  /// Whether any order of additions gives the same bytes in this round.
  bool any_order(uint32_t round) const;
  /// into <- into + from. `edge` is the addition's number in the reduction tree. Returns how many sums were
  /// cut.  \pre message(round) was called.  \throws Error damaged.
  uint64_t add(uint32_t round, std::string& into, std::string_view from, uint32_t edge) const;
  void receive(uint32_t round, std::string_view sum);
  /// Values that the messages so far could not hold.
  uint64_t overflowed() const;
  /// After the last round, in the code domain: the mean of all workers, tensor after tensor.
  void mean(std::span<float> out) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The mean of the workers' frames, tensor after tensor, added in their order in double.
/// \throws Error damaged.
JSQ_API void mean_of_frames(const std::vector<std::string>& frames, std::span<float> mean, unsigned threads);

/// The mean of gradients, added in the workers' order in double and rounded to f32.
JSQ_API void true_mean(const std::vector<std::span<const float>>& workers, std::span<float> mean);

/// `workers`: one gradient each, the tensors one after another, of finite values. Deterministic: the same
/// mean for any thread count. \throws Error usage, non_finite (naming worker and tensor), unreachable_target.
JSQ_API AggregateReport aggregate(const std::vector<TensorInfo>& tensors,
                                  const std::vector<std::span<const float>>& workers,
                                  const AggregateOptions& options, std::span<float> mean);
/// The same for one tensor.
JSQ_API AggregateReport aggregate(const TensorInfo& info, const std::vector<std::span<const float>>& workers,
                                  const AggregateOptions& options, std::span<float> mean);

}  // namespace jsq

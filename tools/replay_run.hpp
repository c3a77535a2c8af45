// One method through a sequence of steps: each worker codes with its own state, what it sends is decoded, and
// the mean of the workers is held against what they would have sent without compression. A run can be saved
// and gone on with; its figures are then those of an uninterrupted one, to the bit.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "jsq/compress.hpp"
#include "jsq/schedule.hpp"
#include "jsq/state.hpp"
#include "sequence.hpp"

namespace jsq::tools {

/// A method with everything that decides what it sends.
struct ReplayPlan {
  CompressOptions coding;  ///< state, worker and progress are set by the run
  Schedule schedule;
  uint64_t length = 0;  ///< steps of the schedule

  /// What the workers keep: "none", "plain", "momentum:0.9" (DGC's) or "mean" (Signum's), also where that was
  /// left to the method.
  std::string feedback() const;
  /// Tells the plan from others, in states and messages.
  std::string name() const;
};

struct ReplayStep {
  uint64_t number = 0;        ///< from the first step of the sequence on, over all runs that a state joins
  std::string name;           ///< as the dump calls it
  uint64_t budget_bytes = 0;  ///< of each worker's frame where a schedule sets it; 0 otherwise
  uint64_t file_bytes = 0;    ///< of all workers' frames
  Distortion error;           ///< of the mean of what was decoded, against that of what would have been sent
  double coded_nmse = 0;      ///< of what the method was given: with the residual
  double residual_norm = 0;   ///< root mean square over the workers; NaN without feedback
  double sum_error = 0;       ///< |sum g - sum g^| / |sum g| of all steps so far
};

struct ReplayTotal {
  uint64_t steps = 0, file_bytes = 0;
  Distortion error;  ///< summed over the steps
  double residual_norm = 0, sum_error = 0;
};

class ReplayRun {
 public:
  /// \throws Error usage: the schedule does not fit the target or the sequence.
  ReplayRun(ReplayPlan plan, const Sequence& sequence);

  const ReplayPlan& plan() const noexcept { return plan_; }
  const std::vector<ReplayStep>& steps() const noexcept { return steps_; }
  ReplayTotal total() const;

  /// Codes step `step` of the sequence.  \throws Error as compress does, naming step and worker.
  void advance(size_t step);

  /// The tensors that the run keeps in a state, under names that begin with `prefix`.
  std::vector<TensorInfo> kept_tensors(const std::string& prefix) const;
  void save(State& state, const std::string& prefix) const;
  /// \pre the state has kept_tensors(prefix).  \throws Error damaged.
  void load(const State& state, const std::string& prefix);

 private:
  struct Worker {
    State state;  ///< of the method
    State kept;   ///< of the uncompressed worker
  };
  void code(size_t step, size_t worker, std::vector<double>& sent, std::vector<double>& decoded);
  double residual_norm() const;

  ReplayPlan plan_;
  const Sequence& sequence_;
  std::vector<uint64_t> budgets_;  ///< empty where the target stands as it is
  std::vector<Worker> workers_;
  std::vector<double> sent_sum_, decoded_sum_;  ///< over steps and workers
  std::vector<ReplayStep> steps_;
  uint64_t steps_done_ = 0, file_bytes_ = 0;  ///< of earlier runs too
  Distortion error_, coded_;                  ///< of all steps; of what the workers coded in the last one
  double sum_error_ = 0;
};

}  // namespace jsq::tools

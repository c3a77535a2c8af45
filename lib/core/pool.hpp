// Tensors that share one budget, seen as one population: pool indices run through the tensors in order.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "jsq/compress.hpp"
#include "kernels/cuda/device.hpp"
#include "kernels/cuda/user_memory.hpp"
#include "lib/allocators/population.hpp"

namespace jsq {

/// One tensor of a pool.
struct PoolTensor {
  const GradientSource* source = nullptr;
  size_t tensor = 0;  ///< index in the source
  const TensorInfo* info = nullptr;
  uint32_t number = 0;          ///< index in the archive: the tensor number of random streams
  uint64_t first = 0;           ///< pool index of its first element
  bool drop_nonfinite = false;  ///< non-finite elements read as zero
  std::span<const std::vector<uint64_t>> layers =
      {};  ///< shapes of what a flat vector joins, in order; empty where not known
};

/// What the summary pass learns of one tensor.
struct TensorStatistics {
  uint64_t nan = 0, positive_infinite = 0, negative_infinite = 0;
  uint64_t first_nonfinite = UINT64_MAX;    ///< storage index
  double energy = 0, sum = 0, sum_abs = 0;  ///< of finite elements; sums of chunks, left to right
  uint32_t max_key = 0;                     ///< of finite elements
  uint64_t nonfinite() const { return nan + positive_infinite + negative_infinite; }
};

/// When a pool counts the histogram of its magnitudes: with the rest of its summary, which then takes half as
/// long again, or in a pass of its own when someone asks, so not at all for methods that rank nothing. For
/// estimates, with a summary of some chunks at even distances that stand for those beside them: at least
/// 2^21 elements.
enum class HistogramPass : uint8_t { with_summary, when_asked, of_a_sample };

class TensorPool final : public Population {
 public:
  /// Takes the tensors in order, fills `first`, and makes the summary in one parallel pass.
  /// With `on_device` every pass runs on the CUDA device, the histogram with the summary.  Where only the
  /// ranks of so large a share of the elements, the largest, are expected to be asked for, the summary of a
  /// large pool may count them alone.  \throws Error backend_unavailable.
  explicit TensorPool(std::vector<PoolTensor> tensors, HistogramPass pass = HistogramPass::with_summary,
                      bool on_device = false, double ranked_share = 1);
  /// Tensor t of another pool alone; on the device where that is, and in the same memory if all of it is
  /// there. `whole` outlives it.  \throws Error backend_unavailable.
  TensorPool(const TensorPool& whole, size_t t, HistogramPass pass);
  /// One tensor in memory, which must outlive the pool.
  TensorPool(const TensorInfo& info, std::span<const float> values);
  TensorPool(const TensorPool&) = delete;
  TensorPool& operator=(const TensorPool&) = delete;

  /// Without a histogram where that waits to be asked for.
  const Summary& summary() const override { return summary_; }
  const std::vector<uint64_t>& histogram() const override;
  /// The smallest key, a bin's first, from which on the summary counted a histogram without the rest;
  /// 0 where it did not.
  uint32_t least_counted_key() const { return least_counted_key_; }
  const std::vector<uint64_t>& histogram_of_largest() const { return histogram_of_largest_; }
  const std::vector<PoolTensor>& tensors() const { return tensors_; }
  const TensorStatistics& statistics(size_t tensor) const { return statistics_[tensor]; }

  void visit(const std::function<void(uint64_t, std::span<const float>)>& visitor) const override;

  std::vector<uint64_t> refine(std::span<const cpu::KeyRange> ranges) const override;
  std::vector<KeyCount> key_counts() const override;

  /// Sums of (g - centres[t])^2 over every tensor t: of chunks, left to right.
  std::vector<double> squares_about(std::span<const double> centres) const;

  /// The pool's values on the device; null when the processor does everything.
  cuda::PoolValues* device() const { return device_.get(); }
  /// Puts the calling thread on the device where the values are: that of the thread which made the pool.
  /// \pre device() is not null
  cuda::DeviceOfThread go_to_device() const;
  /// use(*device()), one thread at a time.
  template <class Use>
  auto with_device(Use use) const {
    const std::lock_guard lock(device_mutex_);
    const cuda::DeviceOfThread there = go_to_device();
    return use(*device_);
  }

  /// Elements [first, first + count) of tensor t, non-finite ones as zero where the tensor says so.
  std::span<const float> read(size_t t, uint64_t first, size_t count, std::vector<float>& scratch) const;
  /// Whether tensor t is read where it lies in memory, or in a mapped file: an element is read.  \pre it has
  /// one
  bool lies_in_memory(size_t t) const;

 protected:
  std::map<uint64_t, uint64_t> stretches_with(uint32_t key) const override;

 private:
  using TaskSums = std::vector<std::vector<element::ChunkSums>>;
  TaskSums summarise_tasks(HistogramPass pass);
  /// The values of its only tensor are those of tensor `t` of `whole`, unless that is null.
  TaskSums summarise_tasks_on_device(const TensorPool* whole, size_t t);
  void summarise(HistogramPass pass, bool on_device, const TensorPool* whole, size_t t);
  uint32_t key_of_share(double share) const;
  TensorPool(std::shared_ptr<const GradientSource> source, const TensorInfo& info);
  std::shared_ptr<const GradientSource> owned_;  ///< the source of a tensor in memory
  std::vector<PoolTensor> tensors_;
  std::vector<TensorStatistics> statistics_;
  Summary summary_{.histogram = {}};  ///< whose histogram has bins only where a pass counted it
  uint32_t least_counted_key_ = 0;
  std::vector<uint64_t> histogram_of_largest_;
  mutable std::once_flag counted_;
  mutable std::vector<uint64_t> histogram_;  ///< once asked for
  std::unique_ptr<cuda::PoolValues> device_;
  int device_number_ = 0;
  mutable std::mutex device_mutex_;
};

/// A deterministic sample of a pool in memory: stretches of 8,192 elements at even distances, at least
/// `elements` of them (the whole pool when it is smaller).
struct PoolSample {
  std::vector<float> values;
  double scale = 1;  ///< pool elements / sample elements
};
PoolSample sample_pool(const TensorPool& pool, size_t elements);

}  // namespace jsq

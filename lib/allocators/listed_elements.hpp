// The largest elements of a population, listed once: which they are, and what is asked about their ranks, is
// answered without looking at the population again.
#pragma once

#include <vector>

#include "kernels/element/sparse.hpp"
#include "lib/allocators/population.hpp"

namespace jsq {

/// A population for a MagnitudeIndex that is asked about the largest elements only: all others are one cell
/// of its histogram.
class ListedElements final : public Population {
 public:
  /// Lists the elements from `least_key` rounded down to a bin of the summary, in one pass; none where they
  /// are more than `most`. `whole` outlives it.
  ListedElements(const Population& whole, uint32_t least_key, uint64_t most);

  /// How many are listed.
  uint64_t listed() const { return listed_; }
  /// The elements among pool indices first..first + count - 1 that the cut keeps: indices from `first` on,
  /// and values.  \pre all that the cut keeps are listed; first is a multiple of 65,536 in its tensor
  void take(const element::MagnitudeCut& cut, uint64_t first, uint64_t count, std::vector<uint32_t>& indices,
            std::vector<float>& values) const;

  const Summary& summary() const override { return whole_.summary(); }
  const std::vector<uint64_t>& histogram() const override { return histogram_; }
  void visit(const std::function<void(uint64_t, std::span<const float>)>& visitor) const override {
    whole_.visit(visitor);
  }
  /// \pre the ranges are of listed elements
  std::vector<uint64_t> refine(std::span<const cpu::KeyRange> ranges) const override;

 protected:
  std::map<uint64_t, uint64_t> stretches_with(uint32_t key) const override;

 private:
  void list(uint32_t least_key, uint64_t most);
  /// What one stretch of a visit holds of them.
  struct Stretch {
    uint64_t first = 0;
    std::vector<uint32_t> indices;  ///< from `first` on
    std::vector<float> values;
  };
  const Population& whole_;
  std::vector<Stretch> stretches_;  ///< in order
  uint64_t listed_ = 0;
  std::vector<uint64_t> histogram_;
};

}  // namespace jsq

// How often each level occurs in a block: bounds, size estimates and entropy follow from it without another
// look at the levels.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "kernels/cpu/levels.hpp"

namespace jsq {

class LevelHistogram {
 public:
  LevelHistogram() = default;
  explicit LevelHistogram(std::span<const int32_t> levels) { count(levels); }

  /// Forgets what was counted and counts `levels`; memory is kept. O(n + range), O(n log n) where the range
  /// is wide against n.
  void count(std::span<const int32_t> levels);
  /// The same from counts: counts[k] levels low + k.
  void assign(int32_t low, std::span<const uint32_t> counts);

  uint64_t levels() const { return levels_; }
  /// Both 0 of no levels.
  cpu::LevelBounds bounds() const { return bounds_; }
  uint32_t largest_magnitude() const;
  uint64_t zeros() const;

  /// Calls f(level, count) for every level that occurs, in ascending order.
  template <class F>
  void each(F f) const {
    for (size_t s = 0; s < dense_; ++s)
      if (counts_[s] > 0) f(int32_t(int64_t(bounds_.least) + int64_t(s)), uint64_t(counts_[s]));
    for (const auto& [level, count] : scattered_) f(level, count);
  }

  /// levels() times the empirical entropy, in bits.
  double entropy_bits() const;

 private:
  uint64_t levels_ = 0;
  cpu::LevelBounds bounds_;
  size_t dense_ = 0;                                     ///< entries of counts_, from the least level on
  std::vector<uint32_t> counts_;                         ///< may be longer than dense_
  std::vector<std::pair<int32_t, uint64_t>> scattered_;  ///< instead, where the range is wide
};

}  // namespace jsq

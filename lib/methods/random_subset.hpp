// A uniform k-subset of a pool's elements that needs no list: the k elements with the smallest random words,
// found block by block from a threshold word and a cutoff. Nothing here reads a gradient.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "kernels/element/sparse.hpp"

namespace jsq {

using element::SubsetCut;

/// The indices in a block of the subset's elements, ascending. O(count), one random word an element.
void list_subset(const SubsetCut& cut, uint64_t seed, uint32_t tensor, uint64_t first, size_t count,
                 std::vector<uint32_t>& kept);

/// Consecutive elements of a tensor.
struct SubsetStretch {
  uint32_t tensor = 0;  ///< number in the archive
  uint64_t first = 0;
  size_t count = 0;
};

/// Ranks the random words of some stretches.
class RandomSubset {
 public:
  /// Lists the elements of every stretch, ascending, whose word is at most `limit`; `expected` of them, give
  /// or take some deviations.
  using Lister = std::function<std::vector<std::vector<uint32_t>>(std::span<const SubsetStretch> stretches,
                                                                  uint32_t limit, double expected)>;

  /// `stretches` by tensor and element, ascending.
  RandomSubset(uint64_t seed, std::vector<SubsetStretch> stretches)
      : seed_(seed), stretches_(std::move(stretches)) {}
  /// Who draws the words from now on; null: this does.
  void use(Lister lister) { lister_ = std::move(lister); }

  /// The cut that keeps exactly k of the stretches' elements; of equal words the lower tensor and element
  /// comes first. One pass over random words.  \pre k is at most their number.
  SubsetCut cut(uint64_t k);

  /// What list_subset gives for the last cut, from what cut() met, so that no word is drawn again. False,
  /// with `kept` as it was, where that was too much to keep or the elements are not whole stretches.
  bool list(uint32_t tensor, uint64_t first, size_t count, std::vector<uint32_t>& kept) const;

  static constexpr uint64_t most_listed = uint64_t(1) << 22;  ///< elements of a subset: 16 MiB

 private:
  uint64_t seed_;
  Lister lister_;
  std::vector<SubsetStretch> stretches_;     ///< ascending
  std::vector<std::vector<uint32_t>> kept_;  ///< by stretch, of the last cut; empty: not kept
};

}  // namespace jsq

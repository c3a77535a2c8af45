// A uniform k-subset of a pool's elements that needs no list: the k elements with the smallest random words, found
// block by block from a threshold word and a cutoff. Nothing here reads a gradient.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lib/methods/scheme.hpp"

namespace jsq {

/// Element i of tensor t, with random word w (RandomPurpose::positions), is in the subset when (w, t, i) comes before
/// (word, tensor, element) in lexicographic order.
struct SubsetCut {
  uint32_t word = 0;
  uint32_t tensor = 0;
  uint64_t element = 0;
};

/// The indices in a block of the subset's elements, ascending. O(count), one random word an element.
void list_subset(const SubsetCut& cut, uint64_t seed, uint32_t tensor, uint64_t first, size_t count,
                 std::vector<uint32_t>& kept);

/// Ranks the random words of some stretches of a pool.
class RandomSubset {
 public:
  RandomSubset(const TensorPool& pool, uint64_t seed, std::vector<PoolBlock> blocks)
      : pool_(pool), seed_(seed), blocks_(std::move(blocks)) {}

  /// The cut that keeps exactly k of the stretches' elements; of equal words the lower tensor and element comes first.
  /// Two passes over random words, the first of which is remembered.  \pre k is at most their number.
  SubsetCut cut(uint64_t k);

 private:
  const TensorPool& pool_;
  uint64_t seed_;
  std::vector<PoolBlock> blocks_;
  std::vector<uint64_t> histogram_;  ///< of the words' upper halves
};

}  // namespace jsq

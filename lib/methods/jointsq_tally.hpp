// What the blocks of a pool would count if they were coded with a plan: of a large pool from a part of it.
#pragma once

#include <cstdint>
#include <memory>

#include "lib/allocators/allocator.hpp"
#include "lib/core/block_sums.hpp"
#include "lib/core/pool.hpp"
#include "lib/packers/class_block.hpp"

namespace jsq {

struct PoolTally {
  // Apart, since tallies are moved about.
  std::unique_ptr<ClassTally> counts = std::make_unique<ClassTally>();
  std::unique_ptr<EntropyCounts> chances;  ///< what counts are of symbols that were given a chance, not met
  BlockSums sums;
  double growth_of_kept = 1;  ///< elements that are kept / those that the map's counts stand for
};

enum class Tallied : uint8_t {
  part,            ///< all of a small part; every symbol is given a chance
  all,             ///< all blocks
  all_with_errors  ///< and what decoding loses, in the sums
};

/// Counts of `allocation` in blocks of 2^block_log2 elements. With `part`, classes are counted in every
/// block, or in ranges at even distances where that is plenty, and magnitudes in fewer. `coder` needs its
/// plan alone. The same for any number of threads, and on a device that has the pool.  \throws Error of the
/// device. O(n).
PoolTally tally_pool(const TensorPool& pool, const ClassCoder& coder, const Allocation& allocation,
                     uint8_t block_log2, Tallied tallied);

/// By how much the bits of a map of `elements` grow with what it keeps: as runs of each activity bring both,
/// but no faster than where elements are independent.
double growth_of_map(const PoolTally& tally, const EntropyModel& model, double elements);

}  // namespace jsq

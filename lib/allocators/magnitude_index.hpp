// Ranks of magnitudes without sorting: the summary's histogram, refined 256-fold where an exact answer is
// needed. Small populations are indexed whole, key by key, since many allocations are tried on them. Ranks
// are 1-based and descend: rank 1 is the largest magnitude.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/element/float_bits.hpp"
#include "lib/allocators/population.hpp"

namespace jsq {

class MagnitudeIndex {
 public:
  /// Keys [low, low + 2^shift) hold `count` > 0 elements.
  struct Cell {
    uint32_t low = 0;
    uint32_t shift = 0;
    uint64_t count = 0;
    uint32_t high() const { return low + (1u << shift) - 1; }
    /// g^2 of the cell's middle; exact when the cell is a single key.
    double energy() const;
  };

  static constexpr uint64_t sorted_elements = 1u << 19;

  /// Sorts populations of at most `most_sorted` elements, after which every cell is a single key; others are
  /// split where they are asked about, which costs less where few ranks are. The answers are the same.
  explicit MagnitudeIndex(const Population& population, uint64_t most_sorted = sorted_elements);

  /// Of the keys from `first_key` on alone, a bin's first, which `histogram` has: only for
  /// allocate_by_threshold().
  MagnitudeIndex(const Population& population, const std::vector<uint64_t>& histogram, uint32_t first_key);

  const Population& population() const { return population_; }
  /// Keys below it are in no cell.
  uint32_t first_key() const { return first_key_; }
  uint64_t elements() const { return population_.summary().elements; }
  /// Non-empty cells from the largest keys to the smallest.
  const std::vector<Cell>& cells() const { return cells_; }
  /// Elements in the cells before cell i.
  uint64_t before(size_t i) const { return before_[i]; }

  /// Splits the listed cells (indices, ascending) until they are single keys or, with `once`, 256-fold. One
  /// pass over the population for each level of splitting.
  void split(std::span<const size_t> cells, bool once = false);

  /// The key of each rank (1..elements).
  std::vector<uint32_t> keys_of_ranks(std::span<const uint64_t> ranks);
  /// Elements with a key of at least each given key.
  std::vector<uint64_t> counts_at_least(std::span<const uint32_t> keys);
  /// Elements with exactly this key.  \pre its cell is a single key (it came from keys_of_ranks).
  uint64_t ties(uint32_t key) const;

 private:
  size_t cell_of_rank(uint64_t rank) const;
  void rebuild();
  void take_bins(const std::vector<uint64_t>& histogram);
  const Population& population_;
  uint32_t first_key_ = 0;
  std::vector<Cell> cells_;
  std::vector<uint64_t> before_;
};

/// g^2 of a magnitude key, exact in double.
inline double energy_of_key(uint32_t key) {
  const double g = element::magnitude_of_key(key);
  return g * g;
}
/// The smallest key above 0 whose energy is at least `energy`; that of infinity when there is none.
uint32_t key_of_energy(double energy);

}  // namespace jsq

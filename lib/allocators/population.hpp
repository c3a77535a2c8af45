// What an allocator may ask about magnitudes: the summary, exact histograms inside chosen bins, and the place
// of a tie. A population is a tensor, a whole archive, or a sample of either; it is never sorted.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <vector>

#include "jsq/summary.hpp"
#include "kernels/cpu/summary.hpp"

namespace jsq {

/// Appends a chunk of so many elements, but for its histogram.
void append_chunk(Summary& summary, uint64_t elements, const element::ChunkSums& sums);

class Population {
 public:
  virtual ~Population() = default;
  virtual const Summary& summary() const = 0;
  /// The summary's, which a population may count no sooner than here.
  virtual const std::vector<uint64_t>& histogram() const { return summary().histogram; }

  /// Calls visit(first_index, values) for consecutive stretches that cover the population, possibly from
  /// several threads at once and in any order; no stretch crosses a tensor's border or a multiple of 65,536
  /// within a tensor.
  virtual void visit(
      const std::function<void(uint64_t first_index, std::span<const float> values)>& visitor) const = 0;

  /// counts[256 i + c] = elements with a key in cell c of range i. One pass. Ranges are disjoint.
  virtual std::vector<uint64_t> refine(std::span<const cpu::KeyRange> ranges) const;
  /// A magnitude key and how many elements have it.
  struct KeyCount {
    uint32_t key = 0;
    uint64_t count = 0;
  };
  /// Every key that occurs, ascending. Holds all keys in memory: for small populations.
  virtual std::vector<KeyCount> key_counts() const;
  /// The index just behind the `quota`-th element (in index order) whose key is `key`.  \pre quota >= 1 such
  /// elements exist.
  uint64_t index_after_tie(uint32_t key, uint64_t quota) const;

 protected:
  /// First index of each stretch that has elements with the key -> how many, stretches as visit() takes them.
  virtual std::map<uint64_t, uint64_t> stretches_with(uint32_t key) const;
};

/// A population held in memory; indices count from `first_index`.
class SpanPopulation final : public Population {
 public:
  /// A population that is only sorted needs no histogram.
  explicit SpanPopulation(std::span<const float> values, bool with_histogram = true);
  const Summary& summary() const override { return summary_; }
  void visit(const std::function<void(uint64_t, std::span<const float>)>& visitor) const override;

 private:
  std::span<const float> values_;
  Summary summary_;
};

}  // namespace jsq

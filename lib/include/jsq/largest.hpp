// Figures of the largest elements, exact, in a second pass: the first pass's histogram tells which bins the
// cuts fall into, the second counts every magnitude of those bins and sums what lies above them.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "jsq/export.hpp"
#include "jsq/statistics.hpp"

namespace jsq {

namespace element {
struct LargestCuts;
struct LargestSums;
}  // namespace element

/// NaN where a population has no energy, or too few elements.
struct LargestFigures {
  /// Share of sum g^2 that the ceil(n / 1000), ceil(n / 100), ceil(n / 10) largest of n finite elements hold.
  double energy_top_1_in_1000 = 0, energy_top_1_in_100 = 0, energy_top_1_in_10 = 0;
  /// Hill's estimate of the tail index alpha, P(|g| > x) ~ x^-alpha, from the k = ceil(n / 100) largest: k
  /// over the sum of ln(x_i / x_(k+1)); NaN for k below 10. Small for a heavy tail; 2 and less has no
  /// variance.
  double tail_index = 0;
};

/// The second pass over one population: StatisticsReader::add_to() for each of its tensors, in order. Memory:
/// 64 Ki counters for each of at most four bins.
class JSQ_API LargestElements {
 public:
  /// \param first_pass statistics of the whole population.
  explicit LargestElements(const Statistics& first_pass);
  ~LargestElements();
  LargestElements(LargestElements&&) noexcept;
  LargestElements& operator=(LargestElements&&) noexcept;

  /// \pre all tensors were added.
  LargestFigures figures() const;

 private:
  friend class StatisticsReader;
  void add_chunk(const element::LargestSums& sums);
  uint64_t bin_of(uint64_t rank) const;
  float magnitude_at(uint64_t rank) const;
  double energy_of_largest(uint64_t count, size_t cut) const;

  uint64_t finite_;
  double energy_;
  uint64_t tail_;                               ///< k of the tail index
  std::unique_ptr<element::LargestCuts> cuts_;  ///< what the pass looks for
  std::unique_ptr<element::LargestSums> sums_;  ///< of elements above the cuts
  std::vector<uint64_t> above_;                 ///< elements of bins above each counted bin
  std::vector<uint64_t> counts_;                ///< of every key of the counted bins, whose indices fall
};

}  // namespace jsq

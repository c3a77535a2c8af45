// Figures of the largest elements, exact, in a second pass: the first pass's histogram tells which bins the
// cuts fall into, the second counts every magnitude of those bins.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "statistics.hpp"

namespace jsq::tools {

/// NaN where a population has no energy, or too few elements.
struct LargestFigures {
  /// Share of sum g^2 that the ceil(n / 1000), ceil(n / 100), ceil(n / 10) largest of n finite elements hold.
  double energy_top_1_in_1000 = 0, energy_top_1_in_100 = 0, energy_top_1_in_10 = 0;
  /// Hill's estimate of the tail index alpha, P(|g| > x) ~ x^-alpha, from the k = ceil(n / 100) largest: k
  /// over the sum of ln(x_i / x_(k+1)); NaN for k below 10. Small for a heavy tail; 2 and less has no
  /// variance.
  double tail_index = 0;
};

/// The second pass over one population. Memory: 64 Ki counters for each of at most four bins.
class LargestElements {
 public:
  /// \param first_pass statistics of the whole population; it must outlive this.
  explicit LargestElements(const Statistics& first_pass);
  /// Elements of the population, in any order.
  void add(std::span<const float> values);
  /// \pre all elements were added.
  LargestFigures figures() const;

 private:
  struct Bin {
    size_t index;
    uint64_t above;  ///< elements of higher bins
    std::vector<uint64_t> members = std::vector<uint64_t>(65536);
  };
  const Bin& bin_of(uint64_t rank) const;
  float magnitude_at(uint64_t rank) const;
  double energy_of_largest(uint64_t count) const;

  const Statistics& first_pass_;
  uint64_t finite_;
  uint64_t tail_ = 0;                                               ///< k of the tail index
  size_t tail_bin_ = 0;                                             ///< where the k-th largest is
  double tail_log_sum_ = 0;                                         ///< of the elements of higher bins
  std::vector<Bin> bins_;                                           ///< falling index
  std::vector<uint8_t> slot_ = std::vector<uint8_t>(summary_bins);  ///< [bin]: 1 + place in bins_, or 0
};

}  // namespace jsq::tools

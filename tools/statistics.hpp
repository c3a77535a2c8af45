// Descriptive statistics of gradient values, gathered block by block so that a dump of any size needs one
// block of memory. Nothing here knows about compression: noise models and measured errors are in
// noise_study.hpp.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "jsq/gradients.hpp"
#include "jsq/summary.hpp"

namespace jsq::tools {

/// Elements read at a time.
constexpr size_t statistics_block = 65536;

/// What is shown of a population. Figures that need an element, a spread or energy are NaN without.
struct Figures {
  uint64_t elements = 0, zeros = 0, nonfinite = 0;
  double l2_norm = 0, max_magnitude = 0;
  double mean = 0;
  double zero_share = 0;  ///< of all elements
  double kurtosis = 0;    ///< plain fourth standardised moment: 3 for a normal distribution
  double energy_top_1_in_1000 = 0, energy_top_1_in_100 = 0,
         energy_top_1_in_10 = 0;  ///< Statistics::energy_share_of_largest
};

/// Statistics of one tensor, or of several as one population (about 0.5 MB). Non-finite elements are counted
/// and otherwise left out.
class Statistics {
 public:
  /// Appends the elements that follow. The sums are the same however the caller cuts the elements into whole
  /// blocks.
  void add(std::span<const float> values);
  /// Appends a whole population. \post energy shares and moments are those of both together.
  void append(const Statistics& next);

  Figures figures() const;
  /// Share of sum g^2 held by the ceil(share x n) largest magnitudes. The histogram has 128 bins an octave;
  /// elements of the bin that the cut falls into count with the bin's mean energy, so the result is off by
  /// less than 2 % of that bin.
  double energy_share_of_largest(double share) const noexcept;

 private:
  void add_block(std::span<const float> values);

  Summary summary_;
  std::vector<double> bin_energy_ = std::vector<double>(summary_bins);
  // Central moments of the finite elements, merged pairwise (Pebay 2008), so a large mean cancels nothing.
  struct Moments {
    double count = 0, mean = 0, m2 = 0, m3 = 0, m4 = 0;
    void merge(const Moments& next) noexcept;
  } moments_;
};

/// Statistics of tensor `tensor` of `source`.  \throws Error read_failed, damaged.
Statistics statistics_of(const GradientSource& source, size_t tensor);

}  // namespace jsq::tools

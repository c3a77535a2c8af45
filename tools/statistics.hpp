// Descriptive statistics of gradient values, gathered block by block so that a dump of any size needs one
// block of memory. Figures of the largest elements (largest.hpp) need a second pass. Nothing here knows about
// compression: noise models and measured errors are in noise_study.hpp.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "jsq/gradients.hpp"
#include "jsq/scales.hpp"
#include "jsq/summary.hpp"

namespace jsq::tools {

/// Elements read at a time.
constexpr size_t statistics_block = 65536;

/// What is shown of a population. Figures that need an element, a spread or energy are NaN without.
struct Figures {
  uint64_t elements = 0, zeros = 0, nonfinite = 0;
  double l1_norm = 0, l2_norm = 0, max_magnitude = 0;
  double mean = 0;
  double zero_share = 0;     ///< of all elements
  double kurtosis = 0;       ///< plain fourth standardised moment: 3 for a normal distribution
  double class_entropy = 0;  ///< bits an element of its magnitude class: zero, subnormal, or floor(log2 |g|)
  double autocorrelation = 0;  ///< of |g| at lag 1 in storage order, within tensors
  double row_spread = 0, column_spread = 0, run_spread = 0;  ///< Statistics::add_scales
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

  /// Adds the spread of a tensor's scales (jsq::scale_spread). Of several tensors the figures are the root
  /// mean square, each counted by its elements.
  void add_scales(uint64_t elements, const ScaleMeans& means);

  Figures figures() const;
  const Summary& summary() const noexcept { return summary_; }
  /// Sum g^2 of the elements of a bin of the summary's histogram.
  double bin_energy(size_t bin) const noexcept { return bin_energy_[bin]; }

 private:
  void add_block(std::span<const float> values);
  void add_neighbours(std::span<const float> values);

  Summary summary_;
  std::vector<double> bin_energy_ = std::vector<double>(summary_bins);
  // Central moments of the finite elements, merged pairwise (Pebay 2008), so a large mean cancels nothing.
  struct Moments {
    double count = 0, mean = 0, m2 = 0, m3 = 0, m4 = 0;
    void merge(const Moments& next) noexcept;
  } moments_;
  // Sums over finite magnitudes and over pairs of neighbours, all less `base`, the first magnitude, so that a
  // large mean cancels little.
  struct Neighbours {
    double base = 0;
    double count = 0, sum = 0, squares = 0;
    double pairs = 0, products = 0, firsts = 0, seconds = 0;
    double last = 0;
    bool has_last = false;
    void rebase(double new_base) noexcept;
    double autocorrelation() const noexcept;
  } neighbours_;
  // Squares of the spreads times elements, and the elements, of rows, columns and runs.
  struct Spread {
    double squares = 0, elements = 0;
    void add(double count, double spread) noexcept;
    double figure() const noexcept;
  } spreads_[3];
};

/// Statistics of tensor `tensor` of `source`, its scales with them.  \throws Error read_failed, damaged.
Statistics statistics_of(const GradientSource& source, size_t tensor);

}  // namespace jsq::tools

// Descriptive statistics of gradient values, gathered chunk by chunk so that a dump of any size needs one
// chunk of memory, or on the device. Figures of the largest elements (largest.hpp) need a second pass.
// Nothing here knows about compression: noise models are in allocator_models.hpp.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "jsq/backend.hpp"
#include "jsq/export.hpp"
#include "jsq/gradients.hpp"
#include "jsq/scales.hpp"
#include "jsq/summary.hpp"

namespace jsq {

namespace element {
struct ChunkSums;
struct ChunkMoments;
}  // namespace element
class LargestElements;

/// What is shown of a population. Figures that need an element, a spread or energy are NaN without.
struct StatisticsFigures {
  uint64_t elements = 0, zeros = 0, nonfinite = 0;
  double l1_norm = 0, l2_norm = 0, max_magnitude = 0;
  double mean = 0;
  double zero_share = 0;     ///< of all elements
  double kurtosis = 0;       ///< plain fourth standardised moment: 3 for a normal distribution
  double class_entropy = 0;  ///< bits an element of its magnitude class: zero, subnormal, or floor(log2 |g|)
  double autocorrelation = 0;  ///< of |g| at lag 1 in storage order, within tensors
  double row_spread = 0, column_spread = 0, run_spread = 0;  ///< Statistics::add_scales
};

/// Statistics of one tensor, or of several as one population (about 0.25 MB). Non-finite elements are counted
/// and otherwise left out. Sums are those of chunks of 65,536 elements, each in 16 lanes, left to right: the
/// same bits on every processor.
class JSQ_API Statistics {
 public:
  /// Appends a whole population. \post moments are those of both together.
  void append(const Statistics& next);

  /// Adds the spread of a tensor's scales (jsq::scale_spread). Of several tensors the figures are the root
  /// mean square, each counted by its elements.
  void add_scales(uint64_t elements, const ScaleMeans& means);

  StatisticsFigures figures() const;
  const Summary& summary() const noexcept { return summary_; }

 private:
  friend class StatisticsReader;
  /// Appends `elements` elements of one tensor, but for the histogram.
  void add_chunk(uint64_t elements, const element::ChunkSums& sums, const element::ChunkMoments& moments);

  Summary summary_;
  // Central moments of the finite elements, merged pairwise (Pebay 2008), so a large mean cancels nothing.
  struct Moments {
    double count = 0, mean = 0, m2 = 0, m3 = 0, m4 = 0;
    void merge(const Moments& next) noexcept;
  } moments_;
  // Sums over finite magnitudes and over pairs of neighbours, all less `base`, the mean magnitude of the
  // first chunk, so that a large mean cancels little.
  struct Neighbours {
    double base = 0;
    double count = 0, sum = 0, squares = 0;
    double pairs = 0, products = 0, firsts = 0, seconds = 0;
    void rebase(double new_base) noexcept;
    void merge(Neighbours next) noexcept;
    double autocorrelation() const noexcept;
  } neighbours_;
  double last_magnitude_ = 0;  ///< of the element before the next chunk
  bool has_last_ = false;
  // Squares of the spreads times elements, and the elements, of rows, columns and runs.
  struct Spread {
    double squares = 0, elements = 0;
    void add(double count, double spread) noexcept;
    double figure() const noexcept;
  } spreads_[3];
};

/// Reads the tensors of a dump for statistics, as often as there are passes. On the device the dump stays
/// there between passes where it fits.
class JSQ_API StatisticsReader {
 public:
  /// `source` must outlive this.  \throws Error backend_unavailable.
  StatisticsReader(const GradientSource& source, Backend backend);
  ~StatisticsReader();
  StatisticsReader(StatisticsReader&&) noexcept;
  StatisticsReader& operator=(StatisticsReader&&) noexcept;

  /// Statistics of a tensor, its scales with them.  \throws Error read_failed, damaged, backend_unavailable.
  Statistics statistics(size_t tensor);
  /// Adds a tensor to a population whose statistics have it.  \throws as statistics().
  void add_to(LargestElements& population, size_t tensor);

 private:
  struct Device;
  const GradientSource* source_;
  std::unique_ptr<Device> device_;  ///< null: the processor reads
};

}  // namespace jsq

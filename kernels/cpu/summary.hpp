// One streaming pass over magnitudes: histogram of key prefixes, sums, counts. And its refinement: exact
// histograms of the low key bits inside chosen bins.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/element/summary.hpp"

namespace jsq::cpu {

using element::cells_of_range;
using element::ChunkSums;
using element::KeyRange;
using element::sum_chunk;
using element::summary_bin_shift;
using element::summary_bins;

/// Counters of a histogram: those of the summary's bins, and behind them those of infinities and NaN.
constexpr uint32_t counted_bins = 0x8000;

/// Adds the elements of `values` (at most sum_chunk) to `histogram` (counted_bins counters, or none) and
/// returns the sums of the finite ones. Keys below `least` may be left out of the histogram, which spares
/// most of its time where few are above.
ChunkSums summarise_chunk(std::span<const float> values, std::span<uint32_t> histogram, uint32_t least = 0);

/// The histogram alone.
void count_magnitudes(std::span<const float> values, std::span<uint32_t> histogram);

/// Adds 1 to counts[256 r + ((key - ranges[r].low) >> ranges[r].shift)] for every element whose key lies in
/// range r. Ranges are disjoint and hold finite keys only.
void refine_ranges(std::span<const float> values, std::span<const KeyRange> ranges,
                   std::span<uint32_t> counts);

/// Number of elements with exactly this key.
uint64_t count_key(std::span<const float> values, uint32_t key);

}  // namespace jsq::cpu

// One streaming pass over magnitudes: histogram of key prefixes, sums, counts. And its refinement: exact histograms of
// the low key bits inside chosen bins.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace jsq::cpu {

constexpr uint32_t summary_bin_shift = 16;
constexpr uint32_t summary_bins = 0x7f80;      ///< finite keys >> 16: 8 exponent bits and 7 mantissa bits
constexpr size_t sum_chunk = 65536;            ///< elements whose sums are formed with one defined order

/// Sums of one chunk: 16 lanes in double (lane l adds elements l, l + 16, ...), folded by halving.
struct ChunkSums {
  double sum = 0, sum_abs = 0, energy = 0;
  uint64_t zeros = 0;
  uint64_t nan = 0, positive_infinite = 0, negative_infinite = 0;
  uint64_t first_nonfinite = UINT64_MAX;  ///< index in the chunk
  uint32_t max_key = 0;                   ///< of the finite elements
};

/// Adds the finite elements of `values` (at most sum_chunk) to `histogram` (summary_bins counters) and returns their sums.
ChunkSums summarise_chunk(std::span<const float> values, std::span<uint32_t> histogram);

/// Keys in [low, low + 256 << shift): 256 cells of 2^shift keys.
struct KeyRange {
  uint32_t low = 0;
  uint32_t shift = 0;
};
constexpr uint32_t cells_of_range = 256;

/// Adds 1 to counts[256 r + ((key - ranges[r].low) >> ranges[r].shift)] for every element whose key lies in range r.
/// Ranges are disjoint and hold finite keys only.
void refine_ranges(std::span<const float> values, std::span<const KeyRange> ranges, std::span<uint32_t> counts);

/// Number of elements with exactly this key.
uint64_t count_key(std::span<const float> values, uint32_t key);

}  // namespace jsq::cpu

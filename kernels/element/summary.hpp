// What the summary pass counts, by chunk of a tensor: the types that every processor fills.
#pragma once

#include <cstddef>
#include <cstdint>

namespace jsq::element {

constexpr uint32_t summary_bin_shift = 16;
constexpr uint32_t summary_bins = 0x7f80;  ///< finite keys >> 16: 8 exponent bits and 7 mantissa bits
constexpr size_t sum_chunk = 65536;        ///< elements whose sums are formed with one defined order
constexpr uint32_t sum_lanes = 16;  ///< lane l adds elements l, l + 16, ...; lanes are folded by halving

/// Sums of one chunk in double, in the order of sum_lanes; non-finite elements are counted and otherwise left
/// out.
struct ChunkSums {
  double sum = 0, sum_abs = 0, energy = 0;
  uint64_t zeros = 0;
  uint64_t nan = 0, positive_infinite = 0, negative_infinite = 0;
  uint64_t first_nonfinite = UINT64_MAX;  ///< index in the chunk
  uint32_t max_key = 0;                   ///< of the finite elements
};

/// Keys in [low, low + 256 << shift): 256 cells of 2^shift keys.
struct KeyRange {
  uint32_t low = 0;
  uint32_t shift = 0;
};
constexpr uint32_t cells_of_range = 256;

}  // namespace jsq::element

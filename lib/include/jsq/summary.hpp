// The one streaming pass that every allocator needs: a histogram of magnitude keys, extremes, and sums in a
// defined order.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "jsq/export.hpp"

namespace jsq {

/// Bins of the magnitude histogram: bits(abs(g)) >> 16, that is 128 bins an octave.
constexpr uint32_t summary_bins = 0x7f80;

/// Statistics of a tensor, or of several as one population. Non-finite elements are counted and otherwise
/// left out.
struct Summary {
  uint64_t elements = 0;
  uint64_t zeros = 0;
  uint64_t nan = 0, positive_infinite = 0, negative_infinite = 0;
  uint64_t first_nonfinite =
      UINT64_MAX;        ///< index of the first non-finite element, UINT64_MAX when there is none
  uint32_t max_key = 0;  ///< bits of the largest finite magnitude
  double sum = 0, sum_abs = 0,
         energy = 0;  ///< of g, |g|, g^2: chunks of 65,536 elements, left to right, each in 16 lanes
  std::vector<uint64_t> histogram = std::vector<uint64_t>(summary_bins);

  uint64_t nonfinite() const noexcept { return nan + positive_infinite + negative_infinite; }
  /// Appends the summary of the elements that follow these. Integers are exact; sums add left to right.
  JSQ_API void append(const Summary& next);
};

/// Summary of values in memory. Deterministic for any thread count and SIMD level. O(n).
JSQ_API Summary summarise(std::span<const float> values);

}  // namespace jsq

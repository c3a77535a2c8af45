// Sums over the largest elements of a population, by cuts between bins of the summary's histogram: the terms
// of one element.
#pragma once

#include <cstdint>

#include "kernels/element/float_bits.hpp"
#include "kernels/element/logarithm.hpp"
#include "kernels/element/summary.hpp"

namespace jsq::element {

constexpr uint32_t largest_cuts = 3;
constexpr uint32_t logarithm_cut = 1;      ///< whose logarithms are summed
constexpr uint32_t most_counted_bins = 4;  ///< bins whose keys are counted one by one
constexpr uint32_t keys_of_bin = uint32_t(1) << summary_bin_shift;

struct LargestCuts {
  uint32_t from_key[largest_cuts] = {};  ///< the least key above each cut
  uint32_t bins[most_counted_bins] = {};
  uint32_t bin_count = 0;
};

/// Sums of g^2 above each cut, then of ln |g| above logarithm_cut; finite elements only.
constexpr uint32_t largest_sums = largest_cuts + 1;
struct LargestSums {
  double of[largest_sums] = {};
};

JSQ_HD LargestSums largest_terms(float g, const LargestCuts& cuts) {
  const uint32_t key = magnitude_key(g);
  const bool finite = key < first_nonfinite_key;
  const double square = double(g) * double(g);
  LargestSums terms;
  for (uint32_t k = 0; k < largest_cuts; ++k) terms.of[k] = finite && key >= cuts.from_key[k] ? square : 0.0;
  if (finite && key >= cuts.from_key[logarithm_cut])
    terms.of[largest_cuts] = natural_logarithm(magnitude_of_key(key));
  return terms;
}

}  // namespace jsq::element

// Few elements are large: most are told from the least key that matters.
#include "kernels/cpu/largest.hpp"

#include <algorithm>
#include <cstddef>

namespace jsq::cpu {

element::LargestSums largest_of_chunk(std::span<const float> values, const element::LargestCuts& cuts,
                                      std::span<uint64_t> counts) {
  using element::largest_sums;
  using element::sum_lanes;
  uint32_t least = *std::min_element(std::begin(cuts.from_key), std::end(cuts.from_key));
  for (uint32_t b = 0; b < cuts.bin_count; ++b)
    least = std::min(least, cuts.bins[b] << element::summary_bin_shift);
  double sums[largest_sums][sum_lanes] = {};
  for (size_t i = 0; i < values.size(); ++i) {
    const uint32_t key = element::magnitude_key(values[i]);
    if (key < least) continue;  // its terms are zeros
    const element::LargestSums terms = element::largest_terms(values[i], cuts);
    for (size_t k = 0; k < largest_sums; ++k) sums[k][i % sum_lanes] += terms.of[k];
    for (uint32_t b = 0; b < cuts.bin_count; ++b)
      if (key >> element::summary_bin_shift == cuts.bins[b])
        ++counts[element::keys_of_bin * b + key % element::keys_of_bin];
  }
  for (size_t half = sum_lanes / 2; half > 0; half /= 2)
    for (auto& sum : sums)
      for (size_t l = 0; l < half; ++l) sum[l] += sum[l + half];
  element::LargestSums result;
  for (size_t k = 0; k < largest_sums; ++k) result.of[k] = sums[k][0];
  return result;
}

}  // namespace jsq::cpu

// The published code's allocation, repaired: a threshold from a sample of the elements, then an exact trim.
// The code cuts the surplus in index order, which starves a tensor's end; here the smallest magnitudes go
// first.
#include <algorithm>
#include <cmath>
#include <mutex>

#include "kernels/element/float_bits.hpp"
#include "kernels/element/philox.hpp"
#include "lib/allocators/allocator.hpp"

namespace jsq {
namespace {

/// One element from each stride of consecutive elements, chosen by the position's random number.
std::vector<uint32_t> sample_keys(const Population& population, uint64_t stride, uint64_t seed) {
  std::vector<uint32_t> keys;
  std::mutex mutex;
  population.visit([&](uint64_t first, std::span<const float> values) {
    std::vector<uint32_t> found;
    for (uint64_t stratum = first / stride; stratum * stride < first + values.size(); ++stratum) {
      const float u =
          element::uniform_of_word(element::random_word(seed, stratum, 0, element::RandomPurpose::sampling));
      const uint64_t at = stratum * stride + uint64_t(double(u) * double(stride));
      if (at >= first && at < first + values.size())
        found.push_back(element::magnitude_key(values[at - first]));
    }
    const std::lock_guard lock(mutex);
    keys.insert(keys.end(), found.begin(), found.end());
  });
  std::sort(keys.begin(), keys.end(), std::greater<>());
  return keys;
}

}  // namespace

ClassCounts allocate_sampled(MagnitudeIndex& index, const WidthSet& widths, uint64_t payload_bits,
                             double sample_ratio, uint64_t seed) {
  const uint64_t elements = index.elements();
  ClassCounts counts(widths.size(), 0);
  counts[0] = elements;
  const uint64_t budget = payload_bits - elements * widths[0];
  if (elements == 0 || widths.size() == 1) return counts;

  const uint64_t stride = std::max<uint64_t>(1, uint64_t(1.0 / sample_ratio));
  const std::vector<uint32_t> keys = sample_keys(index.population(), std::min(stride, elements), seed);
  // Items of the sample by density, until the sample's share of the budget is spent.
  struct Item {
    double density;
    uint32_t bits;
  };
  std::vector<Item> items;
  for (uint32_t key : keys)
    for (uint32_t j = 1; j < widths.size(); ++j)
      items.push_back({widths.increment_profit(j) / widths.increment_bits(j) * energy_of_key(key),
                       widths.increment_bits(j)});
  std::stable_sort(items.begin(), items.end(),
                   [](const Item& a, const Item& b) { return a.density > b.density; });
  const double share = keys.empty() ? 0.0 : double(budget) * double(keys.size()) / double(elements);
  double spent = 0, lambda = 0;
  for (const Item& item : items) {
    lambda = item.density;
    spent += item.bits;
    if (spent >= share) break;
  }

  // Too high a threshold is lowered as the published code lowers it, by 0.8 in density, until the budget is
  // covered.
  ClassCounts selected = counts;
  for (int round = 0; round < 64; ++round, lambda *= 0.8) {
    std::vector<uint32_t> thresholds;
    for (uint32_t j = 1; j < widths.size(); ++j)
      thresholds.push_back(key_of_energy(lambda * widths.increment_bits(j) / widths.increment_profit(j)));
    const std::vector<uint64_t> at_least = index.counts_at_least(thresholds);
    for (uint32_t j = 1; j < widths.size(); ++j) selected[j] = at_least[j - 1];
    if (payload_bits_of(widths, selected) >= payload_bits) break;
  }

  // Trim: the largest magnitudes keep the widths of the sampled thresholds, as many as the budget holds.
  const auto cost_of_first = [&](uint64_t rank) {
    uint64_t bits = 0;
    for (uint32_t j = 1; j < widths.size(); ++j)
      bits += std::min(rank, selected[j]) * widths.increment_bits(j);
    return bits;
  };
  uint64_t low = 0, high = selected[1];
  while (low < high) {
    const uint64_t middle = low + (high - low + 1) / 2;
    if (cost_of_first(middle) <= budget)
      low = middle;
    else
      high = middle - 1;
  }
  for (uint32_t j = 1; j < widths.size(); ++j) counts[j] = std::min(low, selected[j]);
  // Bits that are left are fewer than the next element wants: they buy first widths in order of magnitude.
  const uint64_t left = budget - cost_of_first(low);
  counts[1] = std::min(std::max(selected[1], counts[1]), counts[1] + left / widths.increment_bits(1));
  return counts;
}

}  // namespace jsq

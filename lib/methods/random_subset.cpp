#include "lib/methods/random_subset.hpp"

#include <tbb/enumerable_thread_specific.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <mutex>
#include <tuple>

#include "jsq/error.hpp"
#include "kernels/cpu/uniforms.hpp"

namespace jsq {
namespace {

constexpr uint32_t half_words = 1u << 16;

std::span<const uint32_t> words_of(uint64_t seed, uint32_t tensor, uint64_t first, size_t count) {
  static thread_local std::vector<uint32_t> words;
  words.resize(count);
  cpu::fill_words(seed, first, tensor, element::RandomPurpose::positions, words);
  return words;
}

}  // namespace

void list_subset(const SubsetCut& cut, uint64_t seed, uint32_t tensor, uint64_t first, size_t count,
                 std::vector<uint32_t>& kept) {
  const std::span<const uint32_t> words = words_of(seed, tensor, first, count);
  // Of the words that equal the cut's, those before this index are in.
  uint64_t ties = 0;
  if (tensor < cut.tensor) ties = count;
  if (tensor == cut.tensor && cut.element > first) ties = std::min<uint64_t>(cut.element - first, count);
  kept.resize(count + 1);
  uint32_t* out = kept.data();
  size_t k = 0;
  for (size_t i = 0; i < count; ++i) {
    out[k] = uint32_t(i);
    k += words[i] < cut.word || (words[i] == cut.word && i < ties);
  }
  kept.resize(k);
}

SubsetCut RandomSubset::cut(uint64_t k) {
  if (k == 0) return {};
  if (histogram_.empty()) {
    tbb::enumerable_thread_specific<std::vector<uint64_t>> counts(
        [] { return std::vector<uint64_t>(half_words); });
    tbb::parallel_for(size_t(0), stretches_.size(), [&](size_t s) {
      const SubsetStretch& stretch = stretches_[s];
      std::vector<uint64_t>& local = counts.local();
      for (uint32_t word : words_of(seed_, stretch.tensor, stretch.first, stretch.count)) ++local[word >> 16];
    });
    histogram_.assign(half_words, 0);
    for (const std::vector<uint64_t>& local : counts)
      for (uint32_t h = 0; h < half_words; ++h) histogram_[h] += local[h];
  }
  uint32_t half = 0;
  uint64_t before = 0;
  while (half + 1 < half_words && before + histogram_[half] < k) before += histogram_[half++];

  std::vector<std::tuple<uint32_t, uint32_t, uint64_t>> candidates;
  std::mutex mutex;
  tbb::parallel_for(size_t(0), stretches_.size(), [&](size_t s) {
    const SubsetStretch& stretch = stretches_[s];
    const std::span<const uint32_t> words = words_of(seed_, stretch.tensor, stretch.first, stretch.count);
    for (size_t i = 0; i < words.size(); ++i)
      if (words[i] >> 16 == half) {
        const std::lock_guard lock(mutex);
        candidates.emplace_back(words[i], stretch.tensor, stretch.first + i);
      }
  });
  if (candidates.size() < k - before)
    throw Error(Errc::internal, "fewer elements than a random subset was asked to keep");
  const auto last = candidates.begin() + std::ptrdiff_t(k - before - 1);
  std::nth_element(candidates.begin(), last, candidates.end());
  return {std::get<0>(*last), std::get<1>(*last), std::get<2>(*last) + 1};
}

}  // namespace jsq

#include "lib/methods/random_subset.hpp"

#include <tbb/enumerable_thread_specific.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "jsq/error.hpp"
#include "kernels/cpu/uniforms.hpp"
#include "kernels/element/philox.hpp"

namespace jsq {
namespace {

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
  kept.resize(count + 16);
  size_t k = cpu::list_words_up_to(words, cut.word, kept.data());
  if (ties < count)
    k = size_t(std::remove_if(kept.begin(), kept.begin() + std::ptrdiff_t(k),
                              [&](uint32_t i) { return i >= ties && words[i] == cut.word; }) -
               kept.begin());
  kept.resize(k);
}

SubsetCut RandomSubset::cut(uint64_t k) {
  kept_.clear();
  if (k == 0) return {};
  uint64_t elements = 0;
  for (const SubsetStretch& stretch : stretches_) elements += stretch.count;
  if (k > elements) throw Error(Errc::internal, "fewer elements than a random subset was asked to keep");
  // The k-th smallest of uniform words lies near its expectation, all but surely within eight deviations.
  const double share = double(k) / double(elements), centre = share * 0x1p32;
  double reach = 8 * std::sqrt(share * (1 - share) / double(elements)) * 0x1p32 + 0x1p32 / double(elements);
  for (;; reach *= 4) {
    const auto low = uint32_t(std::clamp(centre - reach, 0.0, 4294967295.0));
    const auto high = uint32_t(std::clamp(centre + reach, 0.0, 4294967295.0));
    struct Near {
      uint64_t before = 0;  ///< words below `low`
      std::vector<std::tuple<uint32_t, uint32_t, uint64_t>> candidates;
    };
    tbb::enumerable_thread_specific<Near> found;
    const std::vector<std::vector<uint32_t>> there =
        lister_ ? lister_(stretches_, high, double(elements) * ((double(high) + 1) * 0x1p-32))
                : std::vector<std::vector<uint32_t>>();
    const bool keeps = k <= most_listed;
    kept_.assign(keeps ? stretches_.size() : 0, {});
    // Of those that are kept here, the ones near the cut, which may not be of the subset.
    std::vector<std::vector<std::pair<uint32_t, uint32_t>>> near_cut(kept_.size());
    tbb::parallel_for(size_t(0), stretches_.size(), [&](size_t s) {
      static thread_local std::vector<uint32_t> listed;
      const SubsetStretch& stretch = stretches_[s];
      std::span<const uint32_t> words;
      size_t count = 0;
      if (lister_) {
        listed = there[s];
        count = listed.size();
      } else {
        words = words_of(seed_, stretch.tensor, stretch.first, stretch.count);
        listed.resize(words.size() + 16);
        count = cpu::list_words_up_to(words, high, listed.data());
      }
      Near& near = found.local();
      for (size_t i = 0; i < count; ++i) {
        const uint32_t word = lister_ ? element::random_word(seed_, stretch.first + listed[i], stretch.tensor,
                                                             element::RandomPurpose::positions)
                                      : words[listed[i]];
        if (word < low) {
          ++near.before;
          continue;
        }
        near.candidates.emplace_back(word, stretch.tensor, stretch.first + listed[i]);
        if (keeps) near_cut[s].emplace_back(listed[i], word);
      }
      if (keeps) kept_[s].assign(listed.begin(), listed.begin() + std::ptrdiff_t(count));
    });
    Near all;
    for (const Near& near : found) {
      all.before += near.before;
      all.candidates.insert(all.candidates.end(), near.candidates.begin(), near.candidates.end());
    }
    if (all.before >= k || all.before + all.candidates.size() < k) continue;
    const auto last = all.candidates.begin() + std::ptrdiff_t(k - all.before - 1);
    std::nth_element(all.candidates.begin(), last, all.candidates.end());
    const SubsetCut result{std::get<0>(*last), std::get<1>(*last), std::get<2>(*last) + 1};
    for (size_t s = 0; s < kept_.size(); ++s) {
      // What lies between those that are out moves together.
      std::vector<uint32_t>& kept = kept_[s];
      auto from = kept.begin(), to = kept.begin();
      for (const auto& [i, word] : near_cut[s]) {
        if (std::tuple(word, stretches_[s].tensor, stretches_[s].first + i) <
            std::tuple(result.word, result.tensor, result.element))
          continue;
        const auto out = std::lower_bound(from, kept.end(), i);
        to = std::move(from, out, to);
        from = out + 1;
      }
      kept.erase(std::move(from, kept.end(), to), kept.end());
    }
    return result;
  }
}

bool RandomSubset::list(uint32_t tensor, uint64_t first, size_t count, std::vector<uint32_t>& kept) const {
  if (kept_.empty()) return false;
  const auto place = [](const SubsetStretch& stretch) { return std::pair(stretch.tensor, stretch.first); };
  const auto begin = std::lower_bound(
      stretches_.begin(), stretches_.end(), std::pair(tensor, first),
      [&](const SubsetStretch& stretch, const auto& wanted) { return place(stretch) < wanted; });
  auto end = begin;
  size_t covered = 0;
  for (; end != stretches_.end() && covered < count && place(*end) == std::pair(tensor, first + covered);
       ++end)
    covered += end->count;
  if (covered != count) return false;
  kept.clear();
  for (auto stretch = begin; stretch != end; ++stretch)
    for (uint32_t i : kept_[size_t(stretch - stretches_.begin())])
      kept.push_back(uint32_t(stretch->first - first) + i);
  return true;
}

}  // namespace jsq

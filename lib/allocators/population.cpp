#include "lib/allocators/population.hpp"

#include <algorithm>
#include <atomic>
#include <mutex>

#include "jsq/error.hpp"
#include "kernels/element/float_bits.hpp"

namespace jsq {

void Summary::append(const Summary& next) {
  if (first_nonfinite == UINT64_MAX && next.first_nonfinite != UINT64_MAX)
    first_nonfinite = elements + next.first_nonfinite;
  elements += next.elements;
  zeros += next.zeros;
  nan += next.nan;
  positive_infinite += next.positive_infinite;
  negative_infinite += next.negative_infinite;
  max_key = std::max(max_key, next.max_key);
  sum += next.sum;
  sum_abs += next.sum_abs;
  energy += next.energy;
  for (uint32_t b = 0; b < summary_bins; ++b) histogram[b] += next.histogram[b];
}

namespace {

/// Adds the sums of the values to `summary`, and their bins to `histogram`, which may be empty.
void add_sums(std::span<const float> values, std::span<uint32_t> histogram, Summary& summary) {
  for (size_t at = 0; at < values.size(); at += cpu::sum_chunk) {
    const auto chunk = values.subspan(at, std::min(cpu::sum_chunk, values.size() - at));
    append_chunk(summary, chunk.size(), cpu::summarise_chunk(chunk, histogram));
  }
}

}  // namespace

void append_chunk(Summary& summary, uint64_t elements, const element::ChunkSums& sums) {
  if (summary.first_nonfinite == UINT64_MAX && sums.first_nonfinite != UINT64_MAX)
    summary.first_nonfinite = summary.elements + sums.first_nonfinite;
  summary.zeros += sums.zeros;
  summary.nan += sums.nan;
  summary.positive_infinite += sums.positive_infinite;
  summary.negative_infinite += sums.negative_infinite;
  summary.max_key = std::max(summary.max_key, sums.max_key);
  summary.sum += sums.sum;
  summary.sum_abs += sums.sum_abs;
  summary.energy += sums.energy;
  summary.elements += elements;
}

Summary summarise(std::span<const float> values) {
  constexpr size_t before_overflow = size_t(1) << 30;
  Summary summary;
  std::vector<uint32_t> histogram(cpu::counted_bins);
  for (size_t at = 0; at < values.size(); at += before_overflow) {
    add_sums(values.subspan(at, std::min(before_overflow, values.size() - at)), histogram, summary);
    for (uint32_t b = 0; b < summary_bins; ++b) summary.histogram[b] += histogram[b];
    std::fill(histogram.begin(), histogram.end(), 0u);
  }
  return summary;
}

SpanPopulation::SpanPopulation(std::span<const float> values, bool with_histogram) : values_(values) {
  if (with_histogram) {
    summary_ = summarise(values);
    return;
  }
  summary_.histogram = {};
  add_sums(values, {}, summary_);
}

std::vector<uint64_t> Population::refine(std::span<const cpu::KeyRange> ranges) const {
  const size_t cells = cpu::cells_of_range * ranges.size();
  std::vector<uint64_t> total(cells);
  if (ranges.empty()) return total;
  std::mutex mutex;
  visit([&](uint64_t, std::span<const float> values) {
    static thread_local std::vector<uint32_t> counts;
    counts.assign(cells, 0);
    cpu::refine_ranges(values, ranges, counts);
    const std::lock_guard lock(mutex);
    for (size_t c = 0; c < cells; ++c) total[c] += counts[c];
  });
  return total;
}

namespace {

/// Ascending order by three passes over 11, 11 and 9 bits.
void radix_sort(std::vector<uint32_t>& keys) {
  constexpr int passes = 3, bits = 11, mask = (1 << bits) - 1;
  std::vector<uint32_t> other(keys.size());
  uint32_t starts[passes][mask + 2] = {};
  for (uint32_t key : keys)
    for (int p = 0; p < passes; ++p) ++starts[p][(key >> p * bits & mask) + 1];
  for (int p = 0; p < passes; ++p) {
    for (int b = 0; b < mask; ++b) starts[p][b + 1] += starts[p][b];
    for (uint32_t key : keys) other[starts[p][key >> p * bits & mask]++] = key;
    keys.swap(other);
  }
}

}  // namespace

std::vector<Population::KeyCount> Population::key_counts() const {
  std::vector<uint32_t> keys(size_t(summary().elements));
  std::atomic<size_t> next = 0;
  visit([&](uint64_t, std::span<const float> values) {
    const size_t at = next.fetch_add(values.size());
    for (size_t i = 0; i < values.size(); ++i) keys[at + i] = element::magnitude_key(values[i]);
  });
  radix_sort(keys);
  std::vector<KeyCount> counts;
  size_t distinct = 0;
  for (size_t i = 0; i < keys.size(); ++i) distinct += i == 0 || keys[i] != keys[i - 1];
  counts.reserve(distinct);
  for (uint32_t key : keys) {
    if (counts.empty() || counts.back().key != key) counts.push_back({key, 0});
    ++counts.back().count;
  }
  return counts;
}

std::map<uint64_t, uint64_t> Population::stretches_with(uint32_t key) const {
  std::map<uint64_t, uint64_t> ties;
  std::mutex mutex;
  visit([&](uint64_t first, std::span<const float> values) {
    const uint64_t equal = cpu::count_key(values, key);
    if (!equal) return;
    const std::lock_guard lock(mutex);
    ties[first] = equal;
  });
  return ties;
}

uint64_t Population::index_after_tie(uint32_t key, uint64_t quota) const {
  const std::map<uint64_t, uint64_t> ties = stretches_with(key);
  uint64_t before = 0, wanted_stretch = UINT64_MAX;
  for (const auto& [first, equal] : ties) {
    if (before + equal >= quota) {
      wanted_stretch = first;
      break;
    }
    before += equal;
  }
  uint64_t index = UINT64_MAX;
  visit([&](uint64_t first, std::span<const float> values) {
    if (first != wanted_stretch) return;
    uint64_t left = quota - before;
    for (size_t i = 0; i < values.size(); ++i)
      if (element::magnitude_key(values[i]) == key && --left == 0) {
        index = first + i + 1;
        return;
      }
  });
  if (index == UINT64_MAX)
    throw Error(Errc::internal, "fewer elements tie at an allocation's threshold than it counted");
  return index;
}

void SpanPopulation::visit(const std::function<void(uint64_t, std::span<const float>)>& visitor) const {
  for (size_t at = 0; at < values_.size(); at += cpu::sum_chunk)
    visitor(at, values_.subspan(at, std::min(cpu::sum_chunk, values_.size() - at)));
}

}  // namespace jsq

#include "lib/allocators/magnitude_index.hpp"

#include <algorithm>

#include "kernels/element/float_bits.hpp"

namespace jsq {

uint32_t key_of_energy(double energy) {
  uint32_t low = 1, high = element::first_nonfinite_key;
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    if (energy_of_key(middle) >= energy)
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

double MagnitudeIndex::Cell::energy() const {
  return energy_of_key(low + ((1u << shift) >> 1));
}

MagnitudeIndex::MagnitudeIndex(const Population& population, uint64_t most_sorted) : population_(population) {
  if (population.summary().elements <= most_sorted) {
    const std::vector<Population::KeyCount> keys = population.key_counts();
    cells_.reserve(keys.size());
    for (size_t i = keys.size(); i-- > 0;) cells_.push_back({keys[i].key, 0, keys[i].count});
    rebuild();
    return;
  }
  take_bins(population.histogram());
}

MagnitudeIndex::MagnitudeIndex(const Population& population, const std::vector<uint64_t>& histogram,
                               uint32_t first_key)
    : population_(population), first_key_(first_key) {
  take_bins(histogram);
}

void MagnitudeIndex::take_bins(const std::vector<uint64_t>& histogram) {
  for (uint32_t bin = summary_bins; bin-- > first_key_ >> cpu::summary_bin_shift;)
    if (histogram[bin])
      cells_.push_back({bin << cpu::summary_bin_shift, cpu::summary_bin_shift, histogram[bin]});
  rebuild();
}

void MagnitudeIndex::rebuild() {
  before_.resize(cells_.size() + 1);
  uint64_t sum = 0;
  for (size_t i = 0; i < cells_.size(); ++i) {
    before_[i] = sum;
    sum += cells_[i].count;
  }
  before_[cells_.size()] = sum;
}

void MagnitudeIndex::split(std::span<const size_t> chosen, bool once) {
  std::vector<uint32_t> lows;
  for (size_t i : chosen)
    if (cells_[i].shift > 0) lows.push_back(cells_[i].low);
  while (!lows.empty()) {
    // A range is one chosen cell, whatever its present size (all chosen cells of a round have the same).
    std::vector<cpu::KeyRange> ranges;
    std::vector<Cell> kept;
    std::vector<bool> is_chosen(cells_.size());
    size_t next = 0;
    for (size_t i = 0; i < cells_.size(); ++i) {
      if (next < lows.size() && cells_[i].low == lows[next] && cells_[i].shift > 0) {
        ranges.push_back({cells_[i].low, cells_[i].shift - 8});
        is_chosen[i] = true;
        ++next;
      }
    }
    const std::vector<uint64_t> counts = population_.refine(ranges);
    std::vector<uint32_t> next_lows;
    size_t range = 0;
    for (size_t i = 0; i < cells_.size(); ++i) {
      if (!is_chosen[i]) {
        kept.push_back(cells_[i]);
        continue;
      }
      for (uint32_t c = cpu::cells_of_range; c-- > 0;) {
        const uint64_t count = counts[cpu::cells_of_range * range + c];
        if (!count) continue;
        const Cell cell{ranges[range].low + (c << ranges[range].shift), ranges[range].shift, count};
        kept.push_back(cell);
        if (!once && cell.shift > 0) next_lows.push_back(cell.low);
      }
      ++range;
    }
    cells_ = std::move(kept);
    rebuild();
    lows = std::move(next_lows);
  }
}

size_t MagnitudeIndex::cell_of_rank(uint64_t rank) const {
  return size_t(std::upper_bound(before_.begin(), before_.end(), rank - 1) - before_.begin()) - 1;
}

std::vector<uint32_t> MagnitudeIndex::keys_of_ranks(std::span<const uint64_t> ranks) {
  for (;;) {
    std::vector<size_t> coarse;
    for (uint64_t rank : ranks) {
      const size_t cell = cell_of_rank(rank);
      if (cells_[cell].shift > 0) coarse.push_back(cell);
    }
    if (coarse.empty()) break;
    std::sort(coarse.begin(), coarse.end());
    coarse.erase(std::unique(coarse.begin(), coarse.end()), coarse.end());
    split(coarse, true);
  }
  std::vector<uint32_t> keys;
  for (uint64_t rank : ranks) keys.push_back(cells_[cell_of_rank(rank)].low);
  return keys;
}

std::vector<uint64_t> MagnitudeIndex::counts_at_least(std::span<const uint32_t> keys) {
  const auto descending_low = [](const Cell& cell, uint32_t key) { return cell.low > key; };
  // The first cell whose low is at most the key holds it, or lies wholly below it.
  const auto find = [&](uint32_t key) {
    return size_t(std::lower_bound(cells_.begin(), cells_.end(), key, descending_low) - cells_.begin());
  };
  for (;;) {
    std::vector<size_t> coarse;
    for (uint32_t key : keys) {
      const size_t i = find(key);
      if (i < cells_.size() && cells_[i].shift > 0 && cells_[i].low < key && key <= cells_[i].high())
        coarse.push_back(i);
    }
    if (coarse.empty()) break;
    std::sort(coarse.begin(), coarse.end());
    coarse.erase(std::unique(coarse.begin(), coarse.end()), coarse.end());
    split(coarse, true);
  }
  std::vector<uint64_t> counts;
  for (uint32_t key : keys) {
    const size_t i = find(key);
    const bool inside = i < cells_.size() && cells_[i].low == key;
    counts.push_back(before_[inside ? i + 1 : i]);
  }
  return counts;
}

uint64_t MagnitudeIndex::ties(uint32_t key) const {
  const auto at = std::lower_bound(cells_.begin(), cells_.end(), key,
                                   [](const Cell& cell, uint32_t k) { return cell.low > k; });
  return at != cells_.end() && at->low == key ? at->count : 0;
}

}  // namespace jsq

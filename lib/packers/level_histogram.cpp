#include "lib/packers/level_histogram.hpp"

#include <algorithm>
#include <cmath>

namespace jsq {
namespace {

constexpr size_t few_symbols = 1024;  ///< several tables of so many stay in the first cache

void count_scattered(std::span<const int32_t> levels, std::vector<std::pair<int32_t, uint64_t>>& counts) {
  std::vector<int32_t> sorted(levels.begin(), levels.end());
  std::sort(sorted.begin(), sorted.end());
  for (size_t i = 0, end = 0; i < sorted.size(); i = end) {
    while (end < sorted.size() && sorted[end] == sorted[i]) ++end;
    counts.emplace_back(sorted[i], end - i);
  }
}

}  // namespace

void LevelHistogram::count(std::span<const int32_t> levels) {
  levels_ = levels.size();
  bounds_ = cpu::level_bounds(levels);
  scattered_.clear();
  dense_ = 0;
  if (levels.empty()) return;
  const uint64_t symbols = uint64_t(int64_t(bounds_.greatest) - bounds_.least) + 1;
  if (symbols > 4 * levels_ + 4096) return count_scattered(levels, scattered_);
  dense_ = size_t(symbols);
  if (symbols > few_symbols) {
    counts_.assign(dense_, 0);
    for (int32_t level : levels) ++counts_[uint32_t(level) - uint32_t(bounds_.least)];
    return;
  }
  counts_.assign(cpu::level_tables * dense_, 0);
  cpu::count_levels(levels, bounds_.least, dense_, counts_.data());
  for (size_t k = 1; k < cpu::level_tables; ++k)
    for (size_t s = 0; s < dense_; ++s) counts_[s] += counts_[k * dense_ + s];
}

void LevelHistogram::assign(int32_t low, std::span<const uint32_t> counts) {
  levels_ = 0;
  bounds_ = {};
  scattered_.clear();
  dense_ = 0;
  size_t first = 0, last = counts.size();
  while (first < last && counts[first] == 0) ++first;
  while (last > first && counts[last - 1] == 0) --last;
  if (first == last) return;
  bounds_ = {int32_t(low + int64_t(first)), int32_t(low + int64_t(last) - 1)};
  dense_ = last - first;
  counts_.assign(counts.begin() + std::ptrdiff_t(first), counts.begin() + std::ptrdiff_t(last));
  for (uint32_t count : counts_) levels_ += count;
}

uint32_t LevelHistogram::largest_magnitude() const {
  return uint32_t(std::max(std::abs(int64_t(bounds_.least)), std::abs(int64_t(bounds_.greatest))));
}

uint64_t LevelHistogram::zeros() const {
  if (levels_ == 0 || bounds_.least > 0 || bounds_.greatest < 0) return 0;
  if (dense_ > 0) return counts_[size_t(-int64_t(bounds_.least))];
  const auto zero =
      std::find_if(scattered_.begin(), scattered_.end(), [](const auto& entry) { return entry.first == 0; });
  return zero == scattered_.end() ? 0 : zero->second;
}

double LevelHistogram::entropy_bits() const {
  double bits = 0;
  each([&](int32_t, uint64_t count) { bits += double(count) * std::log2(double(levels_) / double(count)); });
  return bits;
}

}  // namespace jsq

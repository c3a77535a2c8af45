#include "lib/allocators/listed_elements.hpp"

#include <algorithm>
#include <atomic>
#include <mutex>

#include "kernels/cpu/threshold_list.hpp"
#include "kernels/element/float_bits.hpp"

namespace jsq {

ListedElements::ListedElements(const Population& whole, uint32_t least_key, uint64_t most) : whole_(whole) {
  const uint32_t least_bin = least_key >> cpu::summary_bin_shift;
  if (least_bin > 0) list(least_bin << cpu::summary_bin_shift, most);
  if (listed_ == 0) return;
  histogram_.resize(summary_bins);
  for (const Stretch& stretch : stretches_)
    for (float g : stretch.values) ++histogram_[element::magnitude_key(g) >> cpu::summary_bin_shift];
  histogram_[least_bin - 1] = whole.summary().elements - listed_;
}

void ListedElements::list(uint32_t least_key, uint64_t most) {
  std::mutex mutex;
  std::atomic<uint64_t> listed = 0;
  visit([&](uint64_t first, std::span<const float> values) {
    if (listed > most) return;
    static thread_local std::vector<uint32_t> indices;
    static thread_local std::vector<float> held;
    indices.resize(values.size() + 16);
    held.resize(values.size() + 16);
    const size_t count = cpu::list_at_least(values, least_key, indices.data(), held.data());
    if (count == 0) return;
    const auto end = std::ptrdiff_t(count);
    Stretch stretch{first, {indices.begin(), indices.begin() + end}, {held.begin(), held.begin() + end}};
    listed += count;
    const std::lock_guard lock(mutex);
    stretches_.push_back(std::move(stretch));
  });
  if (listed > most) {
    stretches_.clear();
    return;
  }
  listed_ = listed;
  std::sort(stretches_.begin(), stretches_.end(),
            [](const Stretch& a, const Stretch& b) { return a.first < b.first; });
}

void ListedElements::take(const element::MagnitudeCut& cut, uint64_t first, uint64_t count,
                          std::vector<uint32_t>& indices, std::vector<float>& values) const {
  const auto begins_before = [](const Stretch& stretch, uint64_t index) { return stretch.first < index; };
  const auto begin = std::lower_bound(stretches_.begin(), stretches_.end(), first, begins_before);
  const auto end = std::lower_bound(begin, stretches_.end(), first + count, begins_before);
  size_t held = 0;
  for (auto stretch = begin; stretch != end; ++stretch) held += stretch->indices.size();
  indices.resize(held);
  values.resize(held);
  size_t k = 0;
  for (auto stretch = begin; stretch != end; ++stretch)
    for (size_t i = 0; i < stretch->indices.size(); ++i) {
      const uint64_t index = stretch->first + stretch->indices[i];
      indices[k] = uint32_t(index - first);
      values[k] = stretch->values[i];
      k += element::keeps(cut, element::magnitude_key(stretch->values[i]), index);
    }
  indices.resize(k);
  values.resize(k);
}

std::vector<uint64_t> ListedElements::refine(std::span<const cpu::KeyRange> ranges) const {
  std::vector<uint32_t> counts(cpu::cells_of_range * ranges.size());
  for (const Stretch& stretch : stretches_) cpu::refine_ranges(stretch.values, ranges, counts);
  return {counts.begin(), counts.end()};
}

std::map<uint64_t, uint64_t> ListedElements::stretches_with(uint32_t key) const {
  std::map<uint64_t, uint64_t> ties;
  for (const Stretch& stretch : stretches_)
    if (const uint64_t equal = cpu::count_key(stretch.values, key)) ties[stretch.first] = equal;
  return ties;
}

}  // namespace jsq

// Summary and refinement passes, compiled once per SIMD level by Highway's foreach_target; the loops are
// plain C++ that the compiler vectorises, and sums have a defined order, so every level gives the same
// result.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/summary.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <cstring>

#include "kernels/cpu/exact_product.hpp"
#include "kernels/cpu/summary.hpp"
#include "kernels/element/float_bits.hpp"

HWY_BEFORE_NAMESPACE();
namespace jsq::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

constexpr size_t lanes = 16;
constexpr bool fused = multiplies_and_adds(HWY_TARGET);

/// Two elements a load, each bin from its half: half the time of an element at a time.
HWY_INLINE void count_four(const float* values, uint32_t* histogram) {
  constexpr uint64_t bins_mask = element::magnitude_mask >> summary_bin_shift;
  uint64_t pairs[2];
  std::memcpy(pairs, values, sizeof pairs);
  ++histogram[pairs[0] >> summary_bin_shift & bins_mask];
  ++histogram[pairs[0] >> (32 + summary_bin_shift) & bins_mask];
  ++histogram[pairs[1] >> summary_bin_shift & bins_mask];
  ++histogram[pairs[1] >> (32 + summary_bin_shift) & bins_mask];
}

void count_bins(const float* values, size_t count, uint32_t* histogram) {
  const uint32_t* bits = reinterpret_cast<const uint32_t*>(values);
  size_t i = 0;
  for (; i + 4 <= count; i += 4) count_four(values + i, histogram);
  for (; i < count; ++i) ++histogram[(bits[i] & element::magnitude_mask) >> summary_bin_shift];
}

#if HWY_TARGET <= HWY_AVX3

/// Bins of some of the elements, listed by vectors and then counted: for few, a fraction of what all take.
struct ListedBins {
  static constexpr size_t most = 1024;
  alignas(64) uint32_t bins[most + lanes];
  size_t size = 0;
  /// Lists those of sixteen keys that are at least `least`, which is above 0.
  HWY_INLINE void add(const float* values, uint32_t least) {
    const hn::FixedTag<uint32_t, lanes> du;
    const auto key = hn::And(hn::LoadU(du, reinterpret_cast<const uint32_t*>(values)),
                             hn::Set(du, element::magnitude_mask));
    const auto wanted = hn::Gt(key, hn::Set(du, least - 1));
    hn::StoreU(hn::Compress(hn::ShiftRight<summary_bin_shift>(key), wanted), du, bins + size);
    size += hn::CountTrue(du, wanted);
  }
  HWY_INLINE void count(uint32_t* histogram) {
    for (size_t i = 0; i < size; ++i) ++histogram[bins[i]];
    size = 0;
  }
};
constexpr bool lists_bins = true;

#else

struct ListedBins {
  static constexpr size_t most = 0;
  size_t size = 0;
  void add(const float*, uint32_t) {}
  void count(uint32_t*) {}
};
constexpr bool lists_bins = false;

#endif

enum class Bins : uint8_t { none, all, from_least };

/// Defined-order sums of finite values; zeros and the maximum come along. Returns the largest key met, finite
/// or not. It counts bins too, of all keys or of those from `least` on: what waits for stores and what waits
/// for sums take turns.
template <Bins counts>
HWY_INLINE uint32_t sum_and_count(const float* values, size_t count, ChunkSums& sums,
                                  [[maybe_unused]] uint32_t* histogram, [[maybe_unused]] uint32_t least = 0) {
  [[maybe_unused]] ListedBins listed;
  double sum[lanes] = {}, sum_abs[lanes] = {}, energy[lanes] = {};
  uint32_t zeros[lanes] = {}, max_key[lanes] = {};
  const uint32_t* bits = reinterpret_cast<const uint32_t*>(values);
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    for (size_t l = 0; l < lanes; ++l) {
      const double g = values[i + l];
      const uint32_t key = bits[i + l] & element::magnitude_mask;
      sum[l] += g;
      sum_abs[l] += __builtin_fabs(g);
      energy[l] = add_exact_product<fused>(energy[l], g, g);
      zeros[l] += key == 0;
      max_key[l] = key > max_key[l] ? key : max_key[l];
    }
    if constexpr (counts == Bins::all) {
      // Unrolled, compilers keep the last round's counters for behind the loop, which takes twice as long.
#pragma GCC unroll 1
      for (size_t four = 0; four < lanes; four += 4) count_four(values + i + four, histogram);
    } else if constexpr (counts == Bins::from_least) {
      listed.add(values + i, least);
      if (listed.size >= ListedBins::most) listed.count(histogram);
    }
  }
  if constexpr (counts == Bins::from_least) listed.count(histogram);
  if constexpr (counts != Bins::none) count_bins(values + i, count - i, histogram);
  for (size_t l = 0; i + l < count; ++l) {
    const double g = values[i + l];
    const uint32_t key = bits[i + l] & element::magnitude_mask;
    sum[l] += g;
    sum_abs[l] += __builtin_fabs(g);
    energy[l] = add_exact_product<fused>(energy[l], g, g);
    zeros[l] += key == 0;
    max_key[l] = key > max_key[l] ? key : max_key[l];
  }
  for (size_t half = lanes / 2; half > 0; half /= 2) {
    for (size_t l = 0; l < half; ++l) {
      sum[l] += sum[l + half];
      sum_abs[l] += sum_abs[l + half];
      energy[l] += energy[l + half];
      zeros[l] += zeros[l + half];
      max_key[l] = max_key[l] > max_key[l + half] ? max_key[l] : max_key[l + half];
    }
  }
  sums.sum = sum[0];
  sums.sum_abs = sum_abs[0];
  sums.energy = energy[0];
  sums.zeros = zeros[0];
  return max_key[0];
}

uint32_t sum_lanes(const float* values, size_t count, ChunkSums& sums) {
  return sum_and_count<Bins::none>(values, count, sums, nullptr);
}

uint32_t sum_lanes_and_bins(const float* values, size_t count, ChunkSums& sums, uint32_t* histogram) {
  return sum_and_count<Bins::all>(values, count, sums, histogram);
}

uint32_t sum_lanes_and_large_bins(const float* values, size_t count, ChunkSums& sums, uint32_t* histogram,
                                  uint32_t least) {
  return sum_and_count < lists_bins ? Bins::from_least : Bins::all > (values, count, sums, histogram, least);
}

void refine(const float* values, size_t count, const KeyRange* ranges, size_t range_count, uint32_t* counts) {
  // Most elements lie in no range: 16 of them are dismissed with one vector comparison a range.
  constexpr size_t step = 16;
  const uint32_t* bits = reinterpret_cast<const uint32_t*>(values);
  for (size_t i = 0; i < count; i += step) {
    const size_t n = count - i < step ? count - i : step;
    uint32_t hits = n < step;
    for (size_t r = 0; n == step && r < range_count; ++r) {
      const uint32_t low = ranges[r].low, span = cells_of_range << ranges[r].shift;
      uint32_t any = 0;
      for (size_t l = 0; l < step; ++l)
        any |= uint32_t(((bits[i + l] & element::magnitude_mask) - low) < span);
      hits |= any;
    }
    if (!hits) continue;
    for (size_t l = 0; l < n; ++l) {
      const uint32_t key = bits[i + l] & element::magnitude_mask;
      for (size_t r = 0; r < range_count; ++r) {
        const uint32_t offset = key - ranges[r].low;
        if (offset < cells_of_range << ranges[r].shift)
          ++counts[cells_of_range * r + (offset >> ranges[r].shift)];
      }
    }
  }
}

uint64_t count_equal(const float* values, size_t count, uint32_t key) {
  const uint32_t* bits = reinterpret_cast<const uint32_t*>(values);
  uint64_t equal = 0;
  for (size_t i = 0; i < count; ++i) equal += (bits[i] & element::magnitude_mask) == key;
  return equal;
}

}  // namespace jsq::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jsq::cpu {

HWY_EXPORT(sum_lanes);
HWY_EXPORT(sum_lanes_and_bins);
HWY_EXPORT(sum_lanes_and_large_bins);
HWY_EXPORT(count_bins);
HWY_EXPORT(refine);
HWY_EXPORT(count_equal);

ChunkSums summarise_chunk(std::span<const float> values, std::span<uint32_t> histogram, uint32_t least) {
  ChunkSums sums;
  uint32_t max_key = 0;
  if (histogram.empty())
    max_key = HWY_DYNAMIC_DISPATCH(sum_lanes)(values.data(), values.size(), sums);
  else if (least == 0)
    max_key = HWY_DYNAMIC_DISPATCH(sum_lanes_and_bins)(values.data(), values.size(), sums, histogram.data());
  else
    max_key = HWY_DYNAMIC_DISPATCH(sum_lanes_and_large_bins)(values.data(), values.size(), sums,
                                                             histogram.data(), least);
  if (max_key < element::first_nonfinite_key) {
    sums.max_key = max_key;
    return sums;
  }
  // Non-finite elements are rare: count them, and sum again with zeros in their place.
  std::vector<float> finite(values.begin(), values.end());
  ChunkSums counts;
  for (size_t i = 0; i < finite.size(); ++i) {
    const uint32_t key = element::magnitude_key(finite[i]);
    if (key < element::first_nonfinite_key) continue;
    if (counts.first_nonfinite == UINT64_MAX) counts.first_nonfinite = i;
    if (key > element::first_nonfinite_key)
      ++counts.nan;
    else if (finite[i] > 0)
      ++counts.positive_infinite;
    else
      ++counts.negative_infinite;
    finite[i] = 0;
  }
  const uint64_t replaced = counts.nan + counts.positive_infinite + counts.negative_infinite;
  counts.max_key = HWY_DYNAMIC_DISPATCH(sum_lanes)(finite.data(), finite.size(), counts);
  counts.zeros -= replaced;
  return counts;
}

void count_magnitudes(std::span<const float> values, std::span<uint32_t> histogram) {
  HWY_DYNAMIC_DISPATCH(count_bins)(values.data(), values.size(), histogram.data());
}

void refine_ranges(std::span<const float> values, std::span<const KeyRange> ranges,
                   std::span<uint32_t> counts) {
  HWY_DYNAMIC_DISPATCH(refine)(values.data(), values.size(), ranges.data(), ranges.size(), counts.data());
}

uint64_t count_key(std::span<const float> values, uint32_t key) {
  return HWY_DYNAMIC_DISPATCH(count_equal)(values.data(), values.size(), key);
}

}  // namespace jsq::cpu
#endif

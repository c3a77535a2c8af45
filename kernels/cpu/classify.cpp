// Classification by integer comparison of keys with thresholds, and the sums of class indices over runs.
// Compiled once per SIMD level; integer work only, so every level gives the same result.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/classify.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <cstring>

#include "kernels/cpu/classify.hpp"
#include "kernels/cpu/exact_product.hpp"

HWY_BEFORE_NAMESPACE();
namespace jsq::cpu::HWY_NAMESPACE {

/// Signed comparison is enough: keys are below 2^31, and so are thresholds.
template <uint32_t Thresholds>
void classify_fixed(const float* values, size_t count, const int32_t* thresholds, uint8_t* classes) {
  const uint32_t* bits = reinterpret_cast<const uint32_t*>(values);
  int32_t t[Thresholds];
  for (uint32_t j = 0; j < Thresholds; ++j) t[j] = thresholds[j];
  for (size_t i = 0; i < count; ++i) {
    const int32_t key = int32_t(bits[i] & element::magnitude_mask);
    int32_t index = 0;
    for (uint32_t j = 0; j < Thresholds; ++j) index += key >= t[j];
    classes[i] = uint8_t(index);
  }
}

void classify_keys(const float* values, size_t count, const int32_t* thresholds, uint32_t threshold_count,
                   uint8_t* classes) {
  switch (threshold_count) {
    case 0:
      std::fill(classes, classes + count, uint8_t(0));
      break;
    case 1:
      classify_fixed<1>(values, count, thresholds, classes);
      break;
    case 2:
      classify_fixed<2>(values, count, thresholds, classes);
      break;
    case 3:
      classify_fixed<3>(values, count, thresholds, classes);
      break;
    case 4:
      classify_fixed<4>(values, count, thresholds, classes);
      break;
    case 5:
      classify_fixed<5>(values, count, thresholds, classes);
      break;
    case 6:
      classify_fixed<6>(values, count, thresholds, classes);
      break;
    case 7:
      classify_fixed<7>(values, count, thresholds, classes);
      break;
    default:
      classify_fixed<8>(values, count, thresholds, classes);
      break;
  }
}

void sum_runs(const uint8_t* classes, size_t runs, uint16_t* sums) {
  for (size_t r = 0; r < runs; ++r) {
    const uint8_t* run = classes + r * element::run_length;
    uint32_t sum = 0;
    for (uint32_t i = 0; i < element::run_length; ++i) sum += run[i];
    sums[r] = uint16_t(sum);
  }
}

void count_whole_runs(const uint8_t* classes, size_t runs, uint32_t class_count, uint8_t* counts,
                      size_t stride) {
  for (uint32_t j = 1; j < class_count; ++j) {
    const uint8_t least = uint8_t(j);
    uint8_t* out = counts + (j - 1) * stride;
    for (size_t r = 0; r < runs; ++r) {
      const uint8_t* run = classes + r * element::run_length;
      uint8_t n = 0;
      for (uint32_t i = 0; i < element::run_length; ++i) n = uint8_t(n + (run[i] >= least));
      out[r] = n;
    }
  }
}

void add_below(const float* values, size_t count, uint32_t threshold, DroppedLanes& lanes) {
  constexpr size_t n = DroppedLanes::lanes;
  double sum[n], energy[n];
  uint32_t largest[n];
  for (size_t l = 0; l < n; ++l) {
    sum[l] = lanes.sum[l];
    energy[l] = lanes.energy[l];
    largest[l] = lanes.largest[l];
  }
  const uint32_t* bits = reinterpret_cast<const uint32_t*>(values);
  const auto limit = int32_t(threshold);
  const auto add = [&](size_t i, size_t l) __attribute__((always_inline)) {
    const uint32_t key = bits[i] & element::magnitude_mask;
    const uint32_t keep = int32_t(key) < limit ? ~0u : 0u;
    const double g = element::bits_as<float>(bits[i] & keep);
    sum[l] += g;
    energy[l] = add_exact_product<multiplies_and_adds(HWY_TARGET)>(energy[l], g, g);
    largest[l] = largest[l] > (key & keep) ? largest[l] : (key & keep);
  };
  size_t i = 0;
  for (; i + n <= count; i += n)
    for (size_t l = 0; l < n; ++l) add(i + l, l);
  for (size_t l = 0; i + l < count; ++l) add(i + l, l);
  for (size_t l = 0; l < n; ++l) {
    lanes.sum[l] = sum[l];
    lanes.energy[l] = energy[l];
    lanes.largest[l] = largest[l];
  }
}

/// Indices are counted from `first` on.
HWY_INLINE size_t list_from(const uint8_t* classes, size_t count, uint32_t first, uint32_t* indices) {
  size_t k = 0, i = 0;
#if HWY_TARGET <= HWY_AVX3
  // Only AVX-512 compresses in hardware; below it the scalar loop is faster than Highway's emulation.
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::CappedTag<uint32_t, 16> d32;
  const hn::Rebind<uint8_t, decltype(d32)> d8;
  const size_t lanes = hn::Lanes(d32);
  auto index = hn::Iota(d32, first);
  const auto step = hn::Set(d32, uint32_t(lanes));
  for (; i + lanes <= count; i += lanes) {
    const auto kept = hn::Ne(hn::PromoteTo(d32, hn::LoadU(d8, classes + i)), hn::Zero(d32));
    // Compressing in a register and storing whole: compressing stores are microcoded on some processors.
    hn::StoreU(hn::Compress(index, kept), d32, indices + k);
    k += hn::CountTrue(d32, kept);
    index = hn::Add(index, step);
  }
#endif
  for (; i < count; ++i) {
    indices[k] = first + uint32_t(i);
    k += classes[i] != 0;
  }
  return k;
}

size_t list_nonzero_indices(const uint8_t* classes, size_t count, uint32_t first, uint32_t* indices) {
  return list_from(classes, count, first, indices);
}

/// Stretches of 64 elements, most of which have nothing above class 0 at high ratios.
template <uint32_t Thresholds>
size_t list_fixed(const float* values, size_t count, const int32_t* thresholds, uint32_t first,
                  uint8_t* classes, uint32_t* indices) {
  constexpr size_t together = 64, ahead = 768;
  const uint32_t* bits = reinterpret_cast<const uint32_t*>(values);
  const int32_t least = thresholds[0];
  size_t k = 0, i = 0;
  for (; i + together <= count; i += together) {
    for (size_t l = 0; l < together; l += 16) __builtin_prefetch(values + i + ahead + l);
    int32_t largest = 0;
    for (size_t l = 0; l < together; ++l) {
      const auto key = int32_t(bits[i + l] & element::magnitude_mask);
      largest = largest > key ? largest : key;
    }
    if (largest < least) {
      std::memset(classes + i, 0, together);
      continue;
    }
    classify_fixed<Thresholds>(values + i, together, thresholds, classes + i);
    k += list_from(classes + i, together, first + uint32_t(i), indices + k);
  }
  classify_fixed<Thresholds>(values + i, count - i, thresholds, classes + i);
  return k + list_from(classes + i, count - i, first + uint32_t(i), indices + k);
}

size_t classify_and_list_keys(const float* values, size_t count, const int32_t* thresholds,
                              uint32_t threshold_count, uint32_t first, uint8_t* classes, uint32_t* indices) {
  switch (threshold_count) {
    case 1:
      return list_fixed<1>(values, count, thresholds, first, classes, indices);
    case 2:
      return list_fixed<2>(values, count, thresholds, first, classes, indices);
    case 3:
      return list_fixed<3>(values, count, thresholds, first, classes, indices);
    default:
      classify_keys(values, count, thresholds, threshold_count, classes);
      return list_from(classes, count, first, indices);
  }
}

}  // namespace jsq::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <algorithm>
#include <bit>

namespace jsq::cpu {

HWY_EXPORT(classify_keys);
HWY_EXPORT(sum_runs);
HWY_EXPORT(count_whole_runs);
HWY_EXPORT(add_below);
HWY_EXPORT(list_nonzero_indices);
HWY_EXPORT(classify_and_list_keys);

namespace {

/// Thresholds of a stretch in which no cutoff lies.
struct Thresholds {
  int32_t of[element::max_classes] = {};
  Thresholds(const element::ClassPlan& plan, uint64_t first_index) {
    for (uint32_t j = 1; j < plan.classes; ++j)
      of[j - 1] = int32_t(element::effective_threshold(plan, j, first_index));
  }
};

void classify_stretch(std::span<const float> values, uint64_t first_index, const element::ClassPlan& plan,
                      uint8_t* classes) {
  const Thresholds thresholds(plan, first_index);
  HWY_DYNAMIC_DISPATCH(classify_keys)
  (values.data(), values.size(), thresholds.of, plan.classes - 1, classes);
}

/// Calls use(offset, count) for the stretches of a block in which no threshold's cutoff lies.
template <class Use>
void for_stretches(size_t count, uint64_t first_index, const element::ClassPlan& plan, Use use) {
  size_t done = 0;
  while (done < count) {
    size_t end = count;
    for (uint32_t j = 1; j < plan.classes; ++j) {
      const uint64_t at = first_index + done;
      if (plan.cutoff[j] > at && plan.cutoff[j] - first_index < end)
        end = size_t(plan.cutoff[j] - first_index);
    }
    use(done, end - done);
    done = end;
  }
}

}  // namespace

void classify(std::span<const float> values, uint64_t first_index, const element::ClassPlan& plan,
              std::span<uint8_t> classes) {
  for_stretches(values.size(), first_index, plan, [&](size_t offset, size_t count) {
    classify_stretch(values.subspan(offset, count), first_index + offset, plan, classes.data() + offset);
  });
}

void run_activities(std::span<const uint8_t> classes, std::span<uint8_t> buckets) {
  constexpr size_t batch = 512;
  uint16_t sums[batch];
  const size_t whole = classes.size() / element::run_length;
  for (size_t r = 0; r < whole; r += batch) {
    const size_t n = std::min(batch, whole - r);
    HWY_DYNAMIC_DISPATCH(sum_runs)(classes.data() + r * element::run_length, n, sums);
    for (size_t i = 0; i < n; ++i) buckets[r + i] = uint8_t(std::bit_width(sums[i]));
  }
  if (whole < buckets.size()) {
    uint32_t sum = 0;
    for (size_t i = whole * element::run_length; i < classes.size(); ++i) sum += classes[i];
    buckets[whole] = uint8_t(std::bit_width(sum));
  }
}

void count_runs(std::span<const uint8_t> classes, uint32_t class_count, std::span<uint8_t> counts) {
  const size_t whole = classes.size() / element::run_length;
  const size_t runs = (classes.size() + element::run_length - 1) / element::run_length;
  HWY_DYNAMIC_DISPATCH(count_whole_runs)(classes.data(), whole, class_count, counts.data(), runs);
  for (uint32_t j = 1; whole < runs && j < class_count; ++j) {
    uint8_t n = 0;
    for (size_t i = whole * element::run_length; i < classes.size(); ++i) n = uint8_t(n + (classes[i] >= j));
    counts[(j - 1) * runs + whole] = n;
  }
}

namespace {

uint32_t least_kept(const element::ClassPlan& plan, uint64_t index) {
  return plan.classes > 1 ? element::effective_threshold(plan, 1, index) : element::first_nonfinite_key;
}

/// Adds a stretch that is summed.
void add_stretch(DroppedLanes& lanes, DroppedSums& total) {
  for (size_t half = DroppedLanes::lanes / 2; half > 0; half /= 2)
    for (size_t l = 0; l < half; ++l) {
      lanes.sum[l] += lanes.sum[l + half];
      lanes.energy[l] += lanes.energy[l + half];
      lanes.largest[l] = std::max(lanes.largest[l], lanes.largest[l + half]);
    }
  total.sum += lanes.sum[0];
  total.energy += lanes.energy[0];
  total.max_magnitude = std::max(total.max_magnitude, element::magnitude_of_key(lanes.largest[0]));
}

}  // namespace

DroppedSums sum_dropped(std::span<const float> values, uint64_t first_index, const element::ClassPlan& plan) {
  DroppedSums total;
  for_stretches(values.size(), first_index, plan, [&](size_t offset, size_t count) {
    DroppedLanes lanes;
    HWY_DYNAMIC_DISPATCH(add_below)
    (values.data() + offset, count, least_kept(plan, first_index + offset), lanes);
    add_stretch(lanes, total);
  });
  return total;
}

size_t classify_and_list(std::span<const float> values, uint64_t first_index, const element::ClassPlan& plan,
                         uint8_t* classes, uint32_t* kept, DroppedSums* dropped) {
  constexpr size_t piece = 4096;  // stays in the first cache from one pass to the next
  size_t listed = 0;
  for_stretches(values.size(), first_index, plan, [&](size_t offset, size_t count) {
    const Thresholds thresholds(plan, first_index + offset);
    DroppedLanes lanes;
    for (const size_t end = offset + count; offset < end; offset += piece) {
      const size_t n = std::min(piece, end - offset);
      const float* const from = values.data() + offset;
      listed += HWY_DYNAMIC_DISPATCH(classify_and_list_keys)(
          from, n, thresholds.of, plan.classes - 1, uint32_t(offset), classes + offset, kept + listed);
      if (dropped != nullptr)
        HWY_DYNAMIC_DISPATCH(add_below)(from, n, least_kept(plan, first_index + offset), lanes);
    }
    if (dropped != nullptr) add_stretch(lanes, *dropped);
  });
  return listed;
}

size_t list_nonzero(std::span<const uint8_t> classes, uint32_t* indices) {
  return HWY_DYNAMIC_DISPATCH(list_nonzero_indices)(classes.data(), classes.size(), 0, indices);
}

}  // namespace jsq::cpu
#endif

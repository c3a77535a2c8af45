#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/cost_sums.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>

#include "kernels/cpu/cost_sums.hpp"
#include "kernels/element/float_bits.hpp"

HWY_BEFORE_NAMESPACE();
namespace jsq::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

void fill_keys(const float* HWY_RESTRICT values, size_t count, float scale, uint16_t* HWY_RESTRICT keys) {
  for (size_t i = 0; i < count; ++i) {
    const uint32_t key = element::magnitude_key(values[i] * scale) >> cost_shift;
    keys[i] = uint16_t(std::min(std::max(key, first_cost_key) - first_cost_key, cost_keys - 1));
  }
}

void add(const float* HWY_RESTRICT values, size_t count, double weight, double* HWY_RESTRICT sums) {
  for (size_t i = 0; i < count; ++i) sums[i] += double(std::abs(values[i])) * weight;
}

/// Entries of the table at bases + keys, or at keys where there are no bases.
template <bool with_bases>
HWY_INLINE double sum(const float* table, const uint32_t* bases, const uint16_t* keys, size_t count) {
  constexpr size_t lanes = 16;
  const auto entry = [&](size_t i) {
    if constexpr (with_bases) return table[bases[i] + keys[i]];
    return table[keys[i]];
  };
  alignas(64) float lane[lanes] = {};
  size_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::CappedTag<float, lanes> d;
  const hn::RebindToSigned<decltype(d)> di;
  const hn::Rebind<uint16_t, decltype(d)> d16;
  constexpr size_t n = hn::MaxLanes(d), vectors = lanes / n;
  hn::Vec<decltype(d)> sums[vectors];
  for (size_t v = 0; v < vectors; ++v) sums[v] = hn::Zero(d);
  for (; i + lanes <= count; i += lanes)
    for (size_t v = 0; v < vectors; ++v) {
      auto index = hn::PromoteTo(di, hn::LoadU(d16, keys + i + v * n));
      if constexpr (with_bases)
        index = hn::Add(index, hn::LoadU(di, reinterpret_cast<const int32_t*>(bases) + i + v * n));
      sums[v] = hn::Add(sums[v], hn::GatherIndex(d, table, index));
    }
  for (size_t v = 0; v < vectors; ++v) hn::StoreU(sums[v], d, lane + v * n);
#else
  for (; i + lanes <= count; i += lanes)
    for (size_t l = 0; l < lanes; ++l) lane[l] += entry(i + l);
#endif
  for (size_t l = 0; i + l < count; ++l) lane[l] += entry(i + l);
  for (size_t half = lanes / 2; half > 0; half /= 2)
    for (size_t l = 0; l < half; ++l) lane[l] += lane[l + half];
  return double(lane[0]);
}

double sum_with_bases(const float* table, const uint32_t* bases, const uint16_t* keys, size_t count) {
  return sum<true>(table, bases, keys, count);
}

double sum_of_keys(const float* table, const uint16_t* keys, size_t count) {
  return sum<false>(table, nullptr, keys, count);
}

}  // namespace jsq::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jsq::cpu {

HWY_EXPORT(fill_keys);
HWY_EXPORT(add);
HWY_EXPORT(sum_with_bases);
HWY_EXPORT(sum_of_keys);

void fill_cost_keys(const float* values, size_t count, float scale, uint16_t* keys) {
  HWY_DYNAMIC_DISPATCH(fill_keys)(values, count, scale, keys);
}

double sum_costs(const float* table, const uint32_t* bases, const uint16_t* keys, size_t count) {
  return HWY_DYNAMIC_DISPATCH(sum_with_bases)(table, bases, keys, count);
}

double sum_costs(const float* table, const uint16_t* keys, size_t count) {
  return HWY_DYNAMIC_DISPATCH(sum_of_keys)(table, keys, count);
}

void add_magnitudes(const float* values, size_t count, double weight, double* sums) {
  HWY_DYNAMIC_DISPATCH(add)(values, count, weight, sums);
}

}  // namespace jsq::cpu
#endif

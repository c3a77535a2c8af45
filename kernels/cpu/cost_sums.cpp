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

/// Where an element's entry is: at its key, behind a base, or among those of its class.
struct Keys {
  const uint16_t* keys;
  uint32_t at(size_t i) const { return keys[i]; }
  template <class D>
  HWY_INLINE hn::Vec<D> at(D d, size_t i) const {
    return hn::PromoteTo(d, hn::LoadU(hn::Rebind<uint16_t, D>(), keys + i));
  }
};
struct KeysFromBases {
  Keys keys;
  const uint32_t* bases;
  uint32_t at(size_t i) const { return bases[i] + keys.at(i); }
  template <class D>
  HWY_INLINE hn::Vec<D> at(D d, size_t i) const {
    return hn::Add(keys.at(d, i), hn::LoadU(d, reinterpret_cast<const int32_t*>(bases) + i));
  }
};
struct KeysOfClasses {
  Keys keys;
  const uint8_t* classes;
  uint32_t at(size_t i) const { return classes[i] * cost_keys + keys.at(i); }
  template <class D>
  HWY_INLINE hn::Vec<D> at(D d, size_t i) const {
    const auto own = hn::PromoteTo(d, hn::LoadU(hn::Rebind<uint8_t, D>(), classes + i));
    return hn::Add(keys.at(d, i), hn::Mul(own, hn::Set(d, int32_t(cost_keys))));
  }
};

template <class Places>
HWY_INLINE double sum(const float* table, const Places& places, size_t begin, size_t end) {
  constexpr size_t lanes = 16;
  alignas(64) float lane[lanes] = {};
  size_t i = begin;
#if HWY_TARGET != HWY_SCALAR
  const hn::CappedTag<float, lanes> d;
  const hn::RebindToSigned<decltype(d)> di;
  constexpr size_t n = hn::MaxLanes(d), vectors = lanes / n;
  hn::Vec<decltype(d)> sums[vectors];
  for (size_t v = 0; v < vectors; ++v) sums[v] = hn::Zero(d);
  for (; i + lanes <= end; i += lanes)
    for (size_t v = 0; v < vectors; ++v)
      sums[v] = hn::Add(sums[v], hn::GatherIndex(d, table, places.at(di, i + v * n)));
  for (size_t v = 0; v < vectors; ++v) hn::StoreU(sums[v], d, lane + v * n);
#else
  for (; i + lanes <= end; i += lanes)
    for (size_t l = 0; l < lanes; ++l) lane[l] += table[places.at(i + l)];
#endif
  for (size_t l = 0; i + l < end; ++l) lane[l] += table[places.at(i + l)];
  for (size_t half = lanes / 2; half > 0; half /= 2)
    for (size_t l = 0; l < half; ++l) lane[l] += lane[l + half];
  return double(lane[0]);
}

double sum_with_bases(const float* table, const uint32_t* bases, const uint16_t* keys, size_t count) {
  return sum(table, KeysFromBases{{keys}, bases}, 0, count);
}

double sum_of_keys(const float* table, const uint16_t* keys, size_t count) {
  return sum(table, Keys{keys}, 0, count);
}

double sum_of_classes(const float* table, const uint8_t* classes, const uint16_t* keys, size_t count) {
  double total = 0;
  for (size_t i = 0; i < count; i += 4096)
    total += sum(table, KeysOfClasses{{keys}, classes}, i, std::min<size_t>(i + 4096, count));
  return total;
}

}  // namespace jsq::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jsq::cpu {

HWY_EXPORT(fill_keys);
HWY_EXPORT(add);
HWY_EXPORT(sum_with_bases);
HWY_EXPORT(sum_of_keys);
HWY_EXPORT(sum_of_classes);

void fill_cost_keys(const float* values, size_t count, float scale, uint16_t* keys) {
  HWY_DYNAMIC_DISPATCH(fill_keys)(values, count, scale, keys);
}

double sum_costs(const float* table, const uint32_t* bases, const uint16_t* keys, size_t count) {
  return HWY_DYNAMIC_DISPATCH(sum_with_bases)(table, bases, keys, count);
}

double sum_costs(const float* table, const uint16_t* keys, size_t count) {
  return HWY_DYNAMIC_DISPATCH(sum_of_keys)(table, keys, count);
}

double sum_class_costs(const float* table, const uint8_t* classes, const uint16_t* keys, size_t count) {
  return HWY_DYNAMIC_DISPATCH(sum_of_classes)(table, classes, keys, count);
}

void add_magnitudes(const float* values, size_t count, double weight, double* sums) {
  HWY_DYNAMIC_DISPATCH(add)(values, count, weight, sums);
}

}  // namespace jsq::cpu
#endif

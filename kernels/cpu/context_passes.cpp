#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/context_passes.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <cmath>

#include "kernels/cpu/context_passes.hpp"

HWY_BEFORE_NAMESPACE();
namespace jsq::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

/// term(i) of all i < count in 16 lanes.
template <class Term>
HWY_INLINE double lane_sum(size_t count, Term term) {
  constexpr size_t lanes = 16;
  double lane[lanes] = {};
  size_t i = 0;
  for (; i + lanes <= count; i += lanes)
    for (size_t l = 0; l < lanes; ++l) lane[l] += term(i + l);
  for (size_t l = 0; i + l < count; ++l) lane[l] += term(i + l);
  for (size_t half = lanes / 2; half > 0; half /= 2)
    for (size_t l = 0; l < half; ++l) lane[l] += lane[l + half];
  return lane[0];
}

double plain_sum(const float* values, size_t count) {
  return lane_sum(count, [=](size_t i) { return double(std::abs(values[i])); });
}

double weighted_sum(const float* values, const float* weights, size_t count) {
  return lane_sum(count, [=](size_t i) { return double(std::abs(values[i]) * weights[i]); });
}

#if HWY_TARGET == HWY_SCALAR

void plain_sums(const float* values, size_t rows, size_t length, double* sums) {
  for (size_t r = 0; r < rows; ++r) sums[r] = plain_sum(values + r * length, length);
}

#else

/// The lanes of a vector, folded by halving.
template <class D>
HWY_INLINE double folded(D, hn::Vec<D> v) {
  if constexpr (hn::MaxLanes(D()) == 1) {
    return hn::GetLane(v);
  } else {
    const hn::Half<D> half;
    return folded(half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
  }
}

void plain_sums(const float* values, size_t rows, size_t length, double* sums) {
  const hn::CappedTag<double, 8> d;
  const hn::Rebind<float, decltype(d)> df;
  constexpr size_t lanes = 16, n = hn::MaxLanes(d), vectors = lanes / n;
  for (size_t r = 0; r < rows; ++r, values += length) {
    hn::Vec<decltype(d)> lane[vectors];
    for (size_t v = 0; v < vectors; ++v) lane[v] = hn::PromoteTo(d, hn::Abs(hn::LoadU(df, values + n * v)));
    for (size_t i = lanes; i < length; i += lanes)
      for (size_t v = 0; v < vectors; ++v)
        lane[v] = hn::Add(lane[v], hn::PromoteTo(d, hn::Abs(hn::LoadU(df, values + i + n * v))));
    for (size_t half = vectors / 2; half > 0; half /= 2)
      for (size_t v = 0; v < half; ++v) lane[v] = hn::Add(lane[v], lane[v + half]);
    sums[r] = folded(d, lane[0]);
  }
}

#endif

size_t list(const float* values, const uint8_t* classes, size_t begin, size_t end, float scale,
            const float* thresholds, uint32_t* positions) {
  size_t found = 0, i = begin;
#if HWY_CAP_GE256
  const hn::CappedTag<float, list_slack> d;
  const hn::RebindToUnsigned<decltype(d)> du;
  const hn::RebindToSigned<decltype(d)> di;
  const hn::Rebind<uint8_t, decltype(d)> d8;
  const size_t lanes = hn::Lanes(d);
  const auto scales = hn::Set(d, scale);
  for (; i + lanes <= end; i += lanes) {
    const auto k = hn::PromoteTo(di, hn::LoadU(d8, classes + i));
    const auto first = hn::Set(di, classes[i]);
    // Neighbours mostly share a class, and a gather costs more than all the rest.
    const auto least = hn::AllTrue(di, hn::Eq(k, first)) ? hn::Set(d, thresholds[classes[i]])
                                                         : hn::GatherIndex(d, thresholds, k);
    const auto above = hn::Ge(hn::Mul(hn::Abs(hn::LoadU(d, values + i)), scales), least);
    // A whole vector is stored: what lies behind the list is overwritten next.
    hn::StoreU(hn::Compress(hn::Iota(du, uint32_t(i)), hn::RebindMask(du, above)), du, positions + found);
    found += hn::CountTrue(d, above);
  }
#endif
  for (; i < end; ++i) {
    positions[found] = uint32_t(i);
    found += std::abs(values[i]) * scale >= thresholds[classes[i]];
  }
  return found;
}

void shifted(const uint8_t* HWY_RESTRICT classes, size_t count, uint32_t shift, uint16_t* HWY_RESTRICT ids) {
  for (size_t i = 0; i < count; ++i) ids[i] = uint16_t(uint32_t(classes[i]) << shift);
}

}  // namespace jsq::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jsq::cpu {

HWY_EXPORT(plain_sum);
HWY_EXPORT(plain_sums);
HWY_EXPORT(weighted_sum);
HWY_EXPORT(list);
HWY_EXPORT(shifted);

double row_magnitude(const float* values, size_t count) {
  return HWY_DYNAMIC_DISPATCH(plain_sum)(values, count);
}

void row_magnitudes(const float* values, size_t rows, size_t length, double* sums) {
  HWY_DYNAMIC_DISPATCH(plain_sums)(values, rows, length, sums);
}

double weighted_row_magnitude(const float* values, const float* weights, size_t count) {
  return HWY_DYNAMIC_DISPATCH(weighted_sum)(values, weights, count);
}

size_t list_above(const float* values, const uint8_t* classes, size_t begin, size_t end, float scale,
                  const float* thresholds, uint32_t* positions) {
  return HWY_DYNAMIC_DISPATCH(list)(values, classes, begin, end, scale, thresholds, positions);
}

void shift_classes(const uint8_t* classes, size_t count, uint32_t shift, uint16_t* ids) {
  HWY_DYNAMIC_DISPATCH(shifted)(classes, count, shift, ids);
}

}  // namespace jsq::cpu
#endif

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/context_passes.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <cmath>

#include "kernels/cpu/context_passes.hpp"

HWY_BEFORE_NAMESPACE();
namespace jsq::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

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

HWY_EXPORT(list);
HWY_EXPORT(shifted);

size_t list_above(const float* values, const uint8_t* classes, size_t begin, size_t end, float scale,
                  const float* thresholds, uint32_t* positions) {
  return HWY_DYNAMIC_DISPATCH(list)(values, classes, begin, end, scale, thresholds, positions);
}

void shift_classes(const uint8_t* classes, size_t count, uint32_t shift, uint16_t* ids) {
  HWY_DYNAMIC_DISPATCH(shifted)(classes, count, shift, ids);
}

}  // namespace jsq::cpu
#endif

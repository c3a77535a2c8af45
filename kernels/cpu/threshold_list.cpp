// Comparing keys with a threshold and packing what reaches it, compiled once per SIMD level; integer work
// only, so every level gives the same lists.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/threshold_list.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/threshold_list.hpp"
#include "kernels/element/float_bits.hpp"

HWY_BEFORE_NAMESPACE();
namespace jsq::cpu::HWY_NAMESPACE {

size_t list_large(const float* values, size_t count, uint32_t key, uint32_t* indices, float* listed) {
  size_t k = 0, i = 0;
#if HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::ScalableTag<int32_t> d;
  const hn::RebindToFloat<decltype(d)> df;
  const size_t lanes = hn::Lanes(d);
  const auto below = hn::Set(d, int32_t(key) - 1), mask = hn::Set(d, int32_t(element::magnitude_mask));
  const auto reaches = [&](auto value) HWY_ATTR {  // keys and thresholds are below 2^31
    return hn::Gt(hn::And(hn::BitCast(d, value), mask), below);
  };
#if HWY_TARGET <= HWY_AVX3
  const hn::RebindToUnsigned<decltype(d)> du;
  auto index = hn::Iota(du, 0);
  const auto step = hn::Set(du, uint32_t(lanes));
  for (; i + lanes <= count; i += lanes) {
    const auto value = hn::LoadU(df, values + i);
    const auto large = reaches(value);
    hn::StoreU(hn::Compress(index, hn::RebindMask(du, large)), du, indices + k);
    hn::StoreU(hn::Compress(value, hn::RebindMask(df, large)), df, listed + k);
    k += hn::CountTrue(d, large);
    index = hn::Add(index, step);
  }
#else
  // Where nothing compresses in hardware vectors tell where there is something to list.
  for (; i + 4 * lanes <= count; i += 4 * lanes) {
    const auto any =
        hn::Or(hn::Or(reaches(hn::LoadU(df, values + i)), reaches(hn::LoadU(df, values + i + lanes))),
               hn::Or(reaches(hn::LoadU(df, values + i + 2 * lanes)),
                      reaches(hn::LoadU(df, values + i + 3 * lanes))));
    if (hn::AllFalse(d, any)) continue;
    for (size_t l = i; l < i + 4 * lanes; ++l) {
      indices[k] = uint32_t(l);
      listed[k] = values[l];
      k += element::magnitude_key(values[l]) >= key;
    }
  }
#endif
#endif
  for (; i < count; ++i) {
    indices[k] = uint32_t(i);
    listed[k] = values[i];
    k += element::magnitude_key(values[i]) >= key;
  }
  return k;
}

}  // namespace jsq::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jsq::cpu {

HWY_EXPORT(list_large);

size_t list_at_least(std::span<const float> values, uint32_t key, uint32_t* indices, float* listed) {
  return HWY_DYNAMIC_DISPATCH(list_large)(values.data(), values.size(), key, indices, listed);
}

}  // namespace jsq::cpu
#endif

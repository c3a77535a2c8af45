#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/context_levels.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <cmath>
#include <cstring>

#include "kernels/cpu/context_levels.hpp"

HWY_BEFORE_NAMESPACE();
namespace jsq::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

/// What is written, element by element.
struct Leveled {
  uint16_t* ids;
  float* decoded;
  uint32_t* positions;
  LeveledCount count;

  void put(size_t i, float value, uint32_t k, float x, const LevelCells& cells) {
    ids[i] = uint16_t(k << 5);
    decoded[i] = 0;
    if (x >= cells.limit) {
      positions[count.listed++] = uint32_t(i);
      return;
    }
    if (!(x >= cells.start[1])) return;
    uint32_t j = 1;
    while (j + 1 < level_cells && x >= cells.start[j + 1]) ++j;
    const bool negative = value < 0;
    ids[i] = uint16_t(ids[i] + cells.twice_level[j] - !negative);
    decoded[i] = negative ? -cells.magnitude[j] : cells.magnitude[j];
    count.nonzero = true;
  }
};

#if HWY_CAP_GE256

constexpr uint32_t few_cells = 4;  ///< as most classes have at low rates: half the steps

/// table[at], at below 16.
template <class D, class T, class At>
HWY_INLINE hn::Vec<D> entry(D d, const T* table, At at) {
  const hn::RebindToUnsigned<D> du;
#if HWY_TARGET <= HWY_AVX3
  return hn::TableLookupLanes(hn::Load(d, table), hn::IndicesFromVec(d, at));
#else
  const auto half = hn::IndicesFromVec(d, hn::And(at, hn::Set(du, 7)));
  const auto upper = hn::RebindMask(
      d, hn::Gt(hn::BitCast(hn::RebindToSigned<D>(), at), hn::Set(hn::RebindToSigned<D>(), 7)));
  return hn::IfThenElse(upper, hn::TableLookupLanes(hn::Load(d, table + 8), half),
                        hn::TableLookupLanes(hn::Load(d, table), half));
#endif
}

LeveledCount level(const float* values, const uint8_t* classes, size_t count, float scale,
                   const LevelCells* of_classes, uint16_t* ids, float* decoded, uint32_t* positions) {
  const hn::CappedTag<float, 16> d;
  const hn::RebindToUnsigned<decltype(d)> du;
  const hn::Rebind<uint16_t, decltype(d)> d16;
  const size_t lanes = hn::Lanes(d);
  const auto scales = hn::Set(d, scale);
  const auto one = hn::Set(du, 1);
  Leveled out{ids, decoded, positions, {}};
  auto any = hn::Zero(du);
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const uint32_t k = classes[i];
    const auto value = hn::LoadU(d, values + i);
    const auto x = hn::Mul(hn::Abs(value), scales);
    uint64_t same[2] = {k * 0x0101010101010101u, k * 0x0101010101010101u};
    if (std::memcmp(classes + i, same, lanes) != 0) {
      alignas(64) float xs[16];
      hn::Store(x, d, xs);
      for (size_t l = 0; l < lanes; ++l)
        out.put(i + l, values[i + l], classes[i + l], xs[l], of_classes[classes[i + l]]);
      continue;
    }
    const LevelCells& cells = of_classes[k];
    // The last cell whose start is not above x, by halving.
    auto j = hn::Zero(du);
    const auto halve = [&](uint32_t step) HWY_ATTR {
      const auto next = hn::Add(j, hn::Set(du, step));
      j = hn::IfThenElse(hn::RebindMask(du, hn::Ge(x, entry(d, cells.start, next))), next, j);
    };
    if (cells.last >= few_cells) {
      halve(8);
      halve(4);
    }
    halve(2);
    halve(1);
    const auto beyond = hn::Ge(x, hn::Set(d, cells.limit));
    if (HWY_UNLIKELY(!hn::AllFalse(d, beyond))) {
      for (size_t l = 0; l < lanes; ++l) {
        const float x_of_lane = std::abs(values[i + l]) * scale;
        out.put(i + l, values[i + l], k, x_of_lane, cells);
      }
      continue;
    }
    any = hn::Or(any, j);
    // +1 comes before -1, and zero, whose magnitude is 0, has no sign.
    const auto negative = hn::Lt(value, hn::Zero(d));
    const auto id = hn::Add(hn::Set(du, k << 5), entry(du, cells.twice_level, j));
    const auto before = hn::IfThenZeroElse(hn::RebindMask(du, negative), hn::Min(j, one));
    hn::StoreU(hn::TruncateTo(d16, hn::Sub(id, before)), d16, ids + i);
    const auto magnitude = entry(d, cells.magnitude, j);
    hn::StoreU(hn::IfThenElse(negative, hn::Sub(hn::Zero(d), magnitude), magnitude), d, decoded + i);
  }
  if (!hn::AllTrue(du, hn::Eq(any, hn::Zero(du)))) out.count.nonzero = true;
  for (; i < count; ++i)
    out.put(i, values[i], classes[i], std::abs(values[i]) * scale, of_classes[classes[i]]);
  return out.count;
}

#else

LeveledCount level(const float* values, const uint8_t* classes, size_t count, float scale,
                   const LevelCells* cells, uint16_t* ids, float* decoded, uint32_t* positions) {
  Leveled out{ids, decoded, positions, {}};
  for (size_t i = 0; i < count; ++i)
    out.put(i, values[i], classes[i], std::abs(values[i]) * scale, cells[classes[i]]);
  return out.count;
}

#endif

}  // namespace jsq::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jsq::cpu {

HWY_EXPORT(level);

LeveledCount level_elements(const float* values, const uint8_t* classes, size_t count, float scale,
                            const LevelCells* cells, uint16_t* ids, float* decoded, uint32_t* positions) {
  return HWY_DYNAMIC_DISPATCH(level)(values, classes, count, scale, cells, ids, decoded, positions);
}

}  // namespace jsq::cpu
#endif

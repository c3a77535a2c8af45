#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/context_eights.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cstring>

#include "kernels/cpu/context_eights.hpp"
#include "kernels/cpu/word_handing.hpp"
#include "kernels/element/rans.hpp"

#if HWY_ARCH_X86
#include <immintrin.h>
#endif

HWY_BEFORE_NAMESPACE();
namespace jsq::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using element::rans_lower_bound;
using element::rans_precision_bits;
using element::rans_total;

constexpr uint8_t escape = 31;

/// Whether the group is of class 0 alone: then it is zeros, without a look at states.
template <size_t lanes>
HWY_INLINE bool skip_zeros(const uint8_t* classes, uint8_t* symbols, float* values) {
  uint64_t any = 0;
  for (size_t l = 0; l < lanes; l += 8) {
    uint64_t eight;
    std::memcpy(&eight, classes + l, 8);
    any |= eight;
  }
  if (any != 0) return false;
  std::memset(symbols, 0, lanes);
  std::memset(values, 0, lanes * sizeof(float));
  return true;
}

#if HWY_CAP_GE256

/// Eights of lanes beside each other: a step waits for its table, and another one's table is looked up
/// meanwhile.
template <size_t eights>
ContextDecoded decode_groups(const ContextDecoding& with, const uint8_t* classes, size_t count,
                             const char* words, size_t size, size_t& at, uint32_t* states, uint8_t* symbols,
                             float* values, uint32_t* escapes) {
  constexpr size_t lanes = 8 * eights;
  const hn::FixedTag<uint32_t, 8> du;
  const hn::FixedTag<int32_t, 8> di;
  const hn::FixedTag<float, 8> df;
  const hn::FixedTag<uint16_t, 8> d16;
  const hn::FixedTag<uint8_t, 8> d8;
  const hn::FixedTag<uint8_t, 16> bytes;
  const auto last = hn::Set(du, with.last), parity = hn::Set(du, with.alternate ? 1u : 0u),
             low_bits = hn::Set(du, rans_total - 1), symbol_bits = hn::Set(du, 31u), one = hn::Set(du, 1u);
  hn::Vec<decltype(du)> x[eights], slot[eights], k[eights];
  for (size_t e = 0; e < eights; ++e) x[e] = hn::LoadU(du, states + 8 * e);
  size_t place = at, i = 0, escaped = 0;
  for (; i + lanes <= count && place + 2 * lanes <= size; i += lanes) {
    if (skip_zeros<lanes>(classes + i, symbols + i, values + i)) continue;
    for (size_t e = 0; e < eights; ++e) {
      k[e] = hn::PromoteTo(du, hn::LoadU(d8, classes + i + 8 * e));
      const auto above = hn::Sub(hn::Max(k[e], last), last);
      const auto table = hn::Sub(hn::Min(k[e], last), hn::And(above, parity));
      const auto where = hn::Add(hn::ShiftLeft<rans_precision_bits>(table), hn::And(x[e], low_bits));
      slot[e] = hn::GatherIndex(du, with.slots, hn::BitCast(di, where));
    }
    for (size_t e = 0; e < eights; ++e) {
      const auto frequency = hn::Add(hn::And(hn::ShiftRight<5>(slot[e]), low_bits), one);
      const auto next =
          hn::Add(hn::Mul(frequency, hn::ShiftRight<rans_precision_bits>(x[e])), hn::ShiftRight<17>(slot[e]));
      static_assert(rans_lower_bound == 1u << 16);
      const auto takes = hn::Eq(hn::ShiftRight<16>(next), hn::Zero(du));
      uint8_t bits[8];
      hn::StoreMaskBits(du, takes, bits);
      const auto read = hn::LoadU(d16, reinterpret_cast<const uint16_t*>(words + place));
      const auto handed = hn::PromoteTo(
          du, hn::BitCast(d16, hn::TableLookupBytesOr0(hn::BitCast(bytes, read),
                                                       hn::LoadU(bytes, word_handing[bits[0]].data()))));
      x[e] = hn::IfThenElse(takes, hn::Or(hn::ShiftLeft<16>(next), handed), next);
      place += 2 * unsigned(__builtin_popcount(bits[0]));
    }
    for (size_t e = 0; e < eights; ++e) {
      const auto symbol = hn::And(slot[e], symbol_bits);
      hn::StoreU(hn::TruncateTo(d8, symbol), d8, symbols + i + 8 * e);
      const auto escapes_here = hn::Eq(symbol, symbol_bits);
      if (HWY_UNLIKELY(!hn::AllFalse(du, escapes_here)))
        for (size_t l = i + 8 * e; l < i + 8 * e + 8; ++l) {
          escapes[escaped] = uint32_t(l);
          escaped += symbols[l] == escape;
        }
      const auto of_symbol = hn::Or(hn::ShiftLeft<5>(k[e]), symbol);
      hn::StoreU(hn::GatherIndex(df, with.values, hn::BitCast(di, of_symbol)), df, values + i + 8 * e);
    }
  }
  for (size_t e = 0; e < eights; ++e) hn::StoreU(x[e], du, states + 8 * e);
  at = place;
  return {i, escaped};
}

#else

template <size_t eights>
ContextDecoded decode_groups(const ContextDecoding& with, const uint8_t* classes, size_t count,
                             const char* words, size_t size, size_t& at, uint32_t* states, uint8_t* symbols,
                             float* values, uint32_t* escapes) {
  constexpr size_t lanes = 8 * eights;
  uint32_t base[256];
  for (uint32_t k = 0; k < 256; ++k) base[k] = with.table_of(k) << rans_precision_bits;
  uint32_t x[lanes];
  std::copy(states, states + lanes, x);
  size_t place = at, i = 0, escaped = 0;
  for (; i + lanes <= count && place + 2 * lanes <= size; i += lanes) {
    if (skip_zeros<lanes>(classes + i, symbols + i, values + i)) continue;
    for (uint32_t l = 0; l < lanes; ++l) {
      const uint32_t k = classes[i + l];
      const uint32_t slot = with.slots[base[k] + (x[l] & (rans_total - 1))];
      const uint32_t next =
          (((slot >> 5) & (rans_total - 1)) + 1) * (x[l] >> rans_precision_bits) + (slot >> 17);
      uint16_t word;
      std::memcpy(&word, words + place, 2);
      const uint32_t low = next < rans_lower_bound;  // arithmetic, not a branch: it is taken at random
      x[l] = next << (low * 16) | (word & (0u - low));
      place += size_t(low) * 2;
      symbols[i + l] = uint8_t(slot & 31);
      values[i + l] = with.values[k * 32 + (slot & 31)];
      escapes[escaped] = uint32_t(i + l);
      escaped += symbols[i + l] == escape;
    }
  }
  std::copy(x, x + lanes, states);
  at = place;
  return {i, escaped};
}

#endif

#if HWY_TARGET <= HWY_AVX3

/// The values of a class's symbols, in registers for as long as the class stays.
class ValuesOfClass {
 public:
  HWY_INLINE void load(const float* values) {
    for (size_t half = 0; half < 2; ++half) values_[half] = hn::LoadU(F(), values + 16 * half);
  }
  HWY_INLINE hn::Vec<hn::FixedTag<float, 16> > of(hn::Vec<hn::FixedTag<uint32_t, 16> > symbol) const {
    return {_mm512_permutex2var_ps(values_[0].raw, symbol.raw, values_[1].raw)};
  }

 private:
  using F = hn::FixedTag<float, 16>;
  hn::Vec<F> values_[2];
};

/// How many of a table's symbols but the first begin at a slot or before it.
template <size_t most>
HWY_INLINE hn::Vec<hn::FixedTag<uint32_t, 16> > begun(const ComparedSymbols& table,
                                                      hn::Vec<hn::FixedTag<uint32_t, 16> > slot) {
  const __m512i one = _mm512_set1_epi32(1);
  __m512i counts[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
  for (size_t j = 1; j < most; ++j) {
    const __mmask16 behind = _mm512_cmpge_epu32_mask(slot.raw, _mm512_set1_epi32(int(table.start[j])));
    counts[j % 2] = _mm512_mask_add_epi32(counts[j % 2], behind, counts[j % 2], one);
  }
  return {_mm512_add_epi32(counts[0], counts[1])};
}

/// What a step of decoding takes from a table.
struct Taken {
  hn::Vec<hn::FixedTag<uint32_t, 16> > symbol, frequency, offset;

  template <size_t most>
  HWY_INLINE void compare(const ComparedSymbols& table, hn::Vec<hn::FixedTag<uint32_t, 16> > slot) {
    const hn::FixedTag<uint32_t, 16> du;
    const auto place = hn::IndicesFromVec(du, begun<most>(table, slot));
    symbol = hn::TableLookupLanes(hn::Load(du, table.symbol), place);
    frequency = hn::TableLookupLanes(hn::Load(du, table.frequency), place);
    offset = hn::Sub(slot, hn::TableLookupLanes(hn::Load(du, table.start), place));
  }
  HWY_INLINE void look_up(const uint32_t* slots, hn::Vec<hn::FixedTag<uint32_t, 16> > where) {
    const hn::FixedTag<uint32_t, 16> du;
    const auto slot = hn::GatherIndex(du, slots, hn::BitCast(hn::FixedTag<int32_t, 16>(), where));
    const auto low_bits = hn::Set(du, rans_total - 1);
    symbol = hn::And(slot, hn::Set(du, uint32_t(escape)));
    frequency = hn::Add(hn::And(hn::ShiftRight<5>(slot), low_bits), hn::Set(du, 1u));
    offset = hn::ShiftRight<17>(slot);
  }
};

/// Sixteen lanes in one register. Neighbours are often of one class: then symbols of a table that has few of
/// them are found by comparing, and values need no look at memory.
ContextDecoded decode_sixteens(const ContextDecoding& with, const uint8_t* classes, size_t count,
                               const char* words, size_t size, size_t& at, uint32_t* states, uint8_t* symbols,
                               float* values, uint32_t* escapes) {
  constexpr size_t lanes = 16;
  const hn::FixedTag<uint32_t, lanes> du;
  const hn::FixedTag<int32_t, lanes> di;
  const hn::FixedTag<float, lanes> df;
  const hn::FixedTag<uint16_t, lanes> d16;
  const hn::FixedTag<uint8_t, lanes> d8;
  const auto low_bits = hn::Set(du, rans_total - 1), symbol_bits = hn::Set(du, uint32_t(escape));
  auto x = hn::LoadU(du, states);
  size_t place = at, i = 0, escaped = 0;
  ValuesOfClass of_class;
  of_class.load(with.values);
  uint32_t loaded = 0;
  for (; i + lanes <= count && place + 2 * lanes <= size; i += lanes) {
    const auto sixteen = hn::LoadU(d8, classes + i);
    const uint32_t first = classes[i];
    const __mmask16 others = _mm_cmpneq_epi8_mask(sixteen.raw, _mm_set1_epi8(char(first)));
    hn::Vec<decltype(du)> k;
    Taken taken;
    if (HWY_LIKELY(others == 0)) {
      if (first == 0) {
        hn::StoreU(hn::Zero(d8), d8, symbols + i);
        hn::StoreU(hn::Zero(df), df, values + i);
        continue;
      }
      const uint32_t number = with.table_of(first);
      const ComparedSymbols& table = with.compared[number];
      const auto slot = hn::And(x, low_bits);
      if (table.count <= ComparedSymbols::few)
        taken.compare<ComparedSymbols::few>(table, slot);
      else if (table.count <= ComparedSymbols::most)
        taken.compare<ComparedSymbols::most>(table, slot);
      else
        taken.look_up(with.slots + (size_t(number) << rans_precision_bits), slot);
    } else {
      k = hn::PromoteTo(du, sixteen);
      const auto last = hn::Set(du, with.last), parity = hn::Set(du, with.alternate ? 1u : 0u);
      const auto above = hn::Sub(hn::Max(k, last), last);
      const auto table = hn::Sub(hn::Min(k, last), hn::And(above, parity));
      const auto where = hn::Add(hn::ShiftLeft<rans_precision_bits>(table), hn::And(x, low_bits));
      taken.look_up(with.slots, where);
    }
    const auto next = hn::Add(hn::Mul(taken.frequency, hn::ShiftRight<rans_precision_bits>(x)), taken.offset);
    static_assert(rans_lower_bound == 1u << 16);
    const __mmask16 takes = _mm512_cmplt_epu32_mask(next.raw, _mm512_set1_epi32(1 << 16));
    const auto read = hn::PromoteTo(du, hn::LoadU(d16, reinterpret_cast<const uint16_t*>(words + place)));
    const hn::Vec<decltype(du)> handed{_mm512_maskz_expand_epi32(takes, read.raw)};
    x = {_mm512_mask_or_epi32(next.raw, takes, hn::ShiftLeft<16>(next).raw, handed.raw)};
    place += 2 * unsigned(__builtin_popcount(takes));
    hn::StoreU(hn::TruncateTo(d8, taken.symbol), d8, symbols + i);
    if (HWY_UNLIKELY(_mm512_cmpeq_epi32_mask(taken.symbol.raw, symbol_bits.raw) != 0))
      for (size_t l = i; l < i + lanes; ++l) {
        escapes[escaped] = uint32_t(l);
        escaped += symbols[l] == escape;
      }
    if (HWY_LIKELY(others == 0)) {
      if (first != loaded) of_class.load(with.values + 32 * size_t(loaded = first));
      hn::StoreU(of_class.of(taken.symbol), df, values + i);
    } else {
      const auto of_symbol = hn::Or(hn::ShiftLeft<5>(k), taken.symbol);
      hn::StoreU(hn::GatherIndex(df, with.values, hn::BitCast(di, of_symbol)), df, values + i);
    }
  }
  hn::StoreU(x, du, states);
  at = place;
  return {i, escaped};
}

#endif

ContextDecoded decode(const ContextDecoding& with, uint32_t lanes, const uint8_t* classes, size_t count,
                      const char* words, size_t size, size_t& at, uint32_t* states, uint8_t* symbols,
                      float* values, uint32_t* escapes) {
#if HWY_TARGET <= HWY_AVX3
  if (lanes == 16)
    return decode_sixteens(with, classes, count, words, size, at, states, symbols, values, escapes);
#endif
  return lanes == 8
             ? decode_groups<1>(with, classes, count, words, size, at, states, symbols, values, escapes)
             : decode_groups<2>(with, classes, count, words, size, at, states, symbols, values, escapes);
}

}  // namespace jsq::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jsq::cpu {

HWY_EXPORT(decode);

ComparedSymbols make_compared_symbols(std::span<const uint32_t> frequencies) {
  ComparedSymbols made;
  for (size_t place = 0; place < ComparedSymbols::most; ++place) {
    made.start[place] = element::rans_total;
    made.frequency[place] = made.symbol[place] = 0;
  }
  uint32_t start = 0, count = 0;
  for (uint32_t s = 0; s < frequencies.size(); ++s) {
    if (frequencies[s] == 0) continue;
    if (count == ComparedSymbols::most) {
      made.count = count + 1;
      return made;
    }
    made.start[count] = start;
    made.frequency[count] = frequencies[s];
    made.symbol[count++] = s;
    start += frequencies[s];
  }
  made.count = count;
  return made;
}

ContextDecoded decode_context_groups(const ContextDecoding& with, uint32_t lanes, const uint8_t* classes,
                                     size_t count, const char* words, size_t size, size_t& at,
                                     uint32_t* states, uint8_t* symbols, float* values, uint32_t* escapes) {
  return HWY_DYNAMIC_DISPATCH(decode)(with, lanes, classes, count, words, size, at, states, symbols, values,
                                      escapes);
}

}  // namespace jsq::cpu
#endif

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rans_fours.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <array>
#include <cstring>

#include "kernels/cpu/rans_fours.hpp"
#include "kernels/cpu/rans_take.hpp"

HWY_BEFORE_NAMESPACE();
namespace jsq::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using element::rans_lower_bound;
using element::rans_precision_bits;
using element::rans_total;
using element::RansSlot;

constexpr size_t fours = rans_together;

/// Words beyond the end are zeros, of which there are only so many.
HWY_INLINE const char* within(const char* next, EightLanes& stream) {
  if (HWY_UNLIKELY(next > stream.end)) {
    stream.overrun = true;
    return stream.end;
  }
  return next;
}

#if HWY_CAP_GE256

/// For every set of lanes that take a word, the byte shuffle that hands them the next words in order.
constexpr auto handing = [] {
  std::array<std::array<uint8_t, 16>, 256> table{};
  for (size_t mask = 0; mask < 256; ++mask)
    for (size_t lane = 0, word = 0; lane < 8; ++lane) {
      const bool takes = mask >> lane & 1;
      table[mask][2 * lane] = uint8_t(takes ? 2 * word : 0x80);
      table[mask][2 * lane + 1] = uint8_t(takes ? 2 * word + 1 : 0x80);
      word += takes;
    }
  return table;
}();

using Lanes = hn::Vec<hn::FixedTag<uint32_t, 8> >;

/// Eight symbols of a stream, one a lane, whose slots lie at `where` of `slots`.
HWY_INLINE void take_eight(const RansSlot* slots, Lanes where, Lanes& x, const char*& next,
                           uint8_t* symbols) {
  const hn::FixedTag<uint32_t, 8> du;
  const hn::FixedTag<int32_t, 8> di;
  const hn::FixedTag<uint16_t, 8> d16;
  const hn::FixedTag<uint8_t, 8> d8;
  const hn::FixedTag<uint8_t, 16> bytes;
  const auto slot = hn::GatherIndex(du, reinterpret_cast<const uint32_t*>(slots), hn::BitCast(di, where));
  const auto frequency =
      hn::Add(hn::And(hn::ShiftRight<4>(slot), hn::Set(du, rans_total - 1)), hn::Set(du, 1u));
  const auto advanced =
      hn::Add(hn::Mul(frequency, hn::ShiftRight<rans_precision_bits>(x)), hn::ShiftRight<16>(slot));
  static_assert(rans_lower_bound == 1u << 16);
  const auto takes = hn::Eq(hn::ShiftRight<16>(advanced), hn::Zero(du));
  uint8_t bits[8];
  hn::StoreMaskBits(du, takes, bits);
  const auto words = hn::LoadU(bytes, reinterpret_cast<const uint8_t*>(next));
  const auto handed = hn::PromoteTo(
      du, hn::BitCast(d16, hn::TableLookupBytesOr0(words, hn::LoadU(bytes, handing[bits[0]].data()))));
  x = hn::IfThenElse(takes, hn::Or(hn::ShiftLeft<16>(advanced), handed), advanced);
  next += 2 * unsigned(__builtin_popcount(bits[0]));
  hn::StoreU(hn::TruncateTo(d8, hn::And(slot, hn::Set(du, 15u))), d8, symbols);
}

void decode_groups(const RansSlot* slots, EightLanes* streams, const uint8_t* const* tables, size_t groups,
                   size_t each, uint8_t* const* symbols) {
  const hn::FixedTag<uint32_t, 8> du;
  const auto slot_bits = hn::Set(du, rans_total - 1);
  Lanes x[fours];
  const char* next[fours];
  for (size_t k = 0; k < fours; ++k) {
    x[k] = hn::LoadU(du, streams[k].states);
    next[k] = within(streams[k].next, streams[k]);
  }
  for (size_t g = 0; g < groups; ++g) {
    const RansSlot* table[fours];
    for (size_t k = 0; k < fours; ++k) table[k] = slots + (size_t(tables[k][g]) << rans_precision_bits);
    for (size_t i = 0; i < each; i += 8)
      for (size_t k = 0; k < fours; ++k)
        take_eight(table[k], hn::And(x[k], slot_bits), x[k], next[k], symbols[k] + each * g + i);
    for (size_t k = 0; k < fours; ++k) next[k] = within(next[k], streams[k]);
  }
  for (size_t k = 0; k < fours; ++k) {
    hn::StoreU(x[k], du, streams[k].states);
    streams[k].next = next[k];
  }
}

void decode_symbols(const RansSlot* slots, EightLanes* streams, const uint8_t* const* tables, size_t eights,
                    uint8_t* const* symbols) {
  const hn::FixedTag<uint32_t, 8> du;
  const hn::FixedTag<uint8_t, 8> d8;
  const auto slot_bits = hn::Set(du, rans_total - 1);
  Lanes x[fours];
  const char* next[fours];
  for (size_t k = 0; k < fours; ++k) {
    x[k] = hn::LoadU(du, streams[k].states);
    next[k] = within(streams[k].next, streams[k]);
  }
  for (size_t i = 0; i < 8 * eights; i += 8) {
    for (size_t k = 0; k < fours; ++k) {
      const auto table = hn::ShiftLeft<rans_precision_bits>(hn::PromoteTo(du, hn::LoadU(d8, tables[k] + i)));
      take_eight(slots, hn::Or(table, hn::And(x[k], slot_bits)), x[k], next[k], symbols[k] + i);
    }
    for (size_t k = 0; k < fours; ++k) next[k] = within(next[k], streams[k]);
  }
  for (size_t k = 0; k < fours; ++k) {
    hn::StoreU(x[k], du, streams[k].states);
    streams[k].next = next[k];
  }
}

#else

void decode_groups(const RansSlot* slots, EightLanes* streams, const uint8_t* const* tables, size_t groups,
                   size_t each, uint8_t* const* symbols) {
  for (size_t k = 0; k < fours; ++k) {
    EightLanes own = streams[k];
    for (size_t g = 0; g < groups; ++g) {
      const RansSlot* table = slots + (size_t(tables[k][g]) << rans_precision_bits);
      own.next = within(own.next, own);
      for (size_t i = each * g; i < each * (g + 1); i += 8)
        for (size_t l = 0; l < 8; ++l)
          symbols[k][i + l] = uint8_t(take_symbol(own.states[l], table, own.next));
    }
    streams[k] = own;
  }
}

void decode_symbols(const RansSlot* slots, EightLanes* streams, const uint8_t* const* tables, size_t eights,
                    uint8_t* const* symbols) {
  for (size_t k = 0; k < fours; ++k) {
    EightLanes own = streams[k];
    for (size_t i = 0; i < 8 * eights; i += 8) {
      own.next = within(own.next, own);
      for (size_t l = i; l < i + 8; ++l)
        symbols[k][l] = uint8_t(
            take_symbol(own.states[l - i], slots + (size_t(tables[k][l]) << rans_precision_bits), own.next));
    }
    streams[k] = own;
  }
}

#endif

void decode_following(const RansSlot* slots, EightLanes* streams, const uint8_t* tables, size_t count,
                      uint8_t* const* symbols) {
  const RansSlot* after[element::rans_max_symbols];
  for (size_t s = 0; s < element::rans_max_symbols; ++s)
    after[s] = slots + (size_t(tables[s]) << rans_precision_bits);
  EightLanes own[fours];
  const RansSlot* table[fours];
  uint8_t* out[fours];
  for (size_t k = 0; k < fours; ++k) {
    own[k] = streams[k];
    table[k] = after[0];
    out[k] = symbols[k];
  }
  const auto one = [&](size_t k, size_t i, size_t lane) {
    const uint32_t symbol = take_symbol(own[k].states[lane], table[k], own[k].next);
    table[k] = after[symbol];
    out[k][i] = uint8_t(symbol);
  };
  size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    for (size_t k = 0; k < fours; ++k) own[k].next = within(own[k].next, own[k]);
    for (size_t lane = 0; lane < 8; ++lane)
      for (size_t k = 0; k < fours; ++k) one(k, i + lane, lane);
  }
  for (size_t k = 0; k < fours; ++k) own[k].next = within(own[k].next, own[k]);
  for (size_t lane = 0; i + lane < count; ++lane)
    for (size_t k = 0; k < fours; ++k) one(k, i + lane, lane);
  for (size_t k = 0; k < fours; ++k) streams[k] = own[k];
}

}  // namespace jsq::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jsq::cpu {

HWY_EXPORT(decode_groups);
HWY_EXPORT(decode_symbols);
HWY_EXPORT(decode_following);

void decode_groups_of_four(const element::RansSlot* slots, EightLanes* streams, const uint8_t* const* tables,
                           size_t groups, size_t each, uint8_t* const* symbols) {
  HWY_DYNAMIC_DISPATCH(decode_groups)(slots, streams, tables, groups, each, symbols);
}

void decode_symbols_of_four(const element::RansSlot* slots, EightLanes* streams, const uint8_t* const* tables,
                            size_t eights, uint8_t* const* symbols) {
  HWY_DYNAMIC_DISPATCH(decode_symbols)(slots, streams, tables, eights, symbols);
}

void decode_following_of_four(const element::RansSlot* slots, EightLanes* streams, const uint8_t* tables,
                              size_t count, uint8_t* const* symbols) {
  HWY_DYNAMIC_DISPATCH(decode_following)(slots, streams, tables, count, symbols);
}

}  // namespace jsq::cpu
#endif

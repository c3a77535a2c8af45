#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rans_eights.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <array>

#include "kernels/cpu/rans_eights.hpp"

#if HWY_ARCH_X86
#include <immintrin.h>
#endif

HWY_BEFORE_NAMESPACE();
namespace jsq::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using element::RansSymbol;

uint16_t* encode_one_by_one(const uint16_t* ids, size_t count, uint32_t lanes, const RansSymbol* table,
                            uint32_t* states, uint16_t* out) {
  for (size_t i = count; i-- > 0;) {
    const RansSymbol& symbol = table[ids[i]];
    uint32_t& state = states[i & (lanes - 1)];
    uint32_t x = state;
    const bool emit = element::rans_needs_word(x, symbol.frequency);
    out[-1] = uint16_t(x);  // kept only when emitted: a store costs less than a mispredicted branch
    out -= emit;
    x >>= uint32_t(emit) << 4;  // not a conditional, which compilers turn into a branch
    state = element::rans_push(x, symbol);
  }
  return out;
}

#if !HWY_CAP_GE256

template <size_t eights>
uint16_t* encode_groups(const uint16_t* ids, size_t groups, const RansSymbol* table, uint32_t* states,
                        uint16_t* end) {
  return encode_one_by_one(ids, 8 * eights * groups, 8 * eights, table, states, end);
}

#else

/// For every set of emitting lanes, the byte shuffle that packs their words, in order, at the upper end of a
/// vector.
constexpr auto shuffles = [] {
  std::array<std::array<uint8_t, 16>, 256> table{};
  for (size_t mask = 0; mask < 256; ++mask) {
    size_t at = 8;
    for (size_t lane = 8; lane-- > 0;) {
      if (!(mask >> lane & 1)) continue;
      --at;
      table[mask][2 * at] = uint8_t(2 * lane);
      table[mask][2 * at + 1] = uint8_t(2 * lane + 1);
    }
  }
  return table;
}();

#if HWY_TARGET <= HWY_AVX3

/// Of sixteen symbols: start and frequency, this in the upper half; and the reciprocals.
struct Sixteen {
  hn::Vec<hn::FixedTag<uint32_t, 16> > interval, reciprocal;
};

/// The symbols of sixteen ids, where all are among the same sixteen of the table, as neighbours of one
/// context mostly are: from registers, which is a fraction of what gathering takes.
HWY_INLINE bool look_up_near(const uint16_t* ids, const RansSymbol* table, Sixteen& symbols) {
  const hn::FixedTag<uint32_t, 16> du;
  const hn::FixedTag<uint16_t, 16> d16;
  const auto base = uint16_t(ids[0] & ~15u);
  const auto near = hn::Sub(hn::LoadU(d16, ids), hn::Set(d16, base));
  if (!hn::AllTrue(d16, hn::Lt(near, hn::Set(d16, 16)))) return false;
  const uint32_t* const own = reinterpret_cast<const uint32_t*>(table + base);
  const auto first = hn::LoadU(du, own), second = hn::LoadU(du, own + 16);
  const auto at = hn::IndicesFromVec(du, hn::PromoteTo(du, near));
  symbols.interval = hn::TableLookupLanes(hn::ConcatEven(du, second, first), at);
  symbols.reciprocal = hn::TableLookupLanes(hn::ConcatOdd(du, second, first), at);
  return true;
}

/// States are the lower halves of 64-bit lanes.
using States = hn::Vec<hn::FixedTag<uint64_t, 8> >;

HWY_INLINE States load_states(const uint32_t* states) {
  return hn::PromoteTo(hn::FixedTag<uint64_t, 8>(), hn::LoadU(hn::FixedTag<uint32_t, 8>(), states));
}
HWY_INLINE void store_states(States x, uint32_t* states) {
  const hn::FixedTag<uint32_t, 8> d32;
  hn::StoreU(hn::TruncateTo(d32, x), d32, states);
}

/// A symbol's eight bytes (start, frequency, reciprocal) are one gathered word.
HWY_INLINE States gather_symbols(const uint16_t* ids, const RansSymbol* table) {
  const hn::FixedTag<uint64_t, 8> d64;
  static_assert(sizeof(RansSymbol) == 8);
  const auto at = hn::PromoteTo(
      d64, hn::PromoteTo(hn::FixedTag<uint32_t, 8>(), hn::LoadU(hn::FixedTag<uint16_t, 8>(), ids)));
  return hn::GatherIndex(d64, reinterpret_cast<const uint64_t*>(table),
                         hn::BitCast(hn::FixedTag<int64_t, 8>(), at));
}

/// As gathered.
HWY_INLINE void split(const Sixteen& symbols, States* words) {
  const hn::FixedTag<uint64_t, 8> d64;
  const hn::FixedTag<uint32_t, 8> d32;
  const auto word = [&](auto low, auto high) HWY_ATTR {
    return hn::Or(hn::PromoteTo(d64, low), hn::ShiftLeft<32>(hn::PromoteTo(d64, high)));
  };
  words[0] = word(hn::LowerHalf(d32, symbols.interval), hn::LowerHalf(d32, symbols.reciprocal));
  words[1] = word(hn::UpperHalf(d32, symbols.interval), hn::UpperHalf(d32, symbols.reciprocal));
}

/// Of each id the lower five bits' word of 32.
HWY_INLINE hn::Vec<hn::FixedTag<uint32_t, 16> > of_32(const uint32_t* words,
                                                      hn::Vec<hn::FixedTag<uint32_t, 16> > ids) {
  const hn::FixedTag<uint32_t, 16> du;
  return {_mm512_permutex2var_epi32(hn::Load(du, words).raw, ids.raw, hn::Load(du, words + 16).raw)};
}

HWY_INLINE Sixteen gather_sixteen(const uint16_t* ids, const SymbolTable& table) {
  const hn::FixedTag<uint32_t, 16> du;
  const auto lower = hn::BitCast(du, gather_symbols(ids, table.symbols)),
             upper = hn::BitCast(du, gather_symbols(ids + 8, table.symbols));
  return {hn::ConcatEven(du, upper, lower), hn::ConcatOdd(du, upper, lower)};
}

/// The symbols of sixteen ids, from registers where they are of two groups at most: a gather takes longer.
HWY_INLINE Sixteen look_up(const uint16_t* ids, const SymbolTable& table) {
  const hn::FixedTag<uint32_t, 16> du;
  const hn::FixedTag<uint16_t, 16> d16;
  const auto all = hn::LoadU(d16, ids);
  const uint32_t first_group = ids[0] / grouped_symbols, last_group = ids[15] / grouped_symbols;
  const auto group = hn::ShiftRight<5>(all);
  static_assert(grouped_symbols == 1 << 5);
  const auto in_first = hn::Eq(group, hn::Set(d16, uint16_t(first_group)));
  const auto wide = hn::PromoteTo(du, all);
  const SymbolGroup& first = table.groups[first_group];
  Sixteen symbols = {of_32(first.intervals, wide), of_32(first.reciprocals, wide)};
  if (hn::AllTrue(d16, in_first)) return symbols;
  if (hn::AllTrue(d16, hn::Or(in_first, hn::Eq(group, hn::Set(d16, uint16_t(last_group)))))) {
    const SymbolGroup& last = table.groups[last_group];
    const auto is_first = hn::Eq(hn::ShiftRight<5>(wide), hn::Set(du, first_group));
    return {hn::IfThenElse(is_first, symbols.interval, of_32(last.intervals, wide)),
            hn::IfThenElse(is_first, symbols.reciprocal, of_32(last.reciprocals, wide))};
  }
  return gather_sixteen(ids, table);
}

/// Whether neighbours mostly are of two groups at most, by some of them.
bool mostly_near(const uint16_t* const* ids, size_t pairs) {
  const size_t step = pairs / 64 + 1;
  size_t looked_at = 0, near = 0;
  for (size_t p = 0; p < pairs; p += step, ++looked_at) {
    const uint16_t* const own = ids[p % encoded_together] + 16 * p;
    const uint32_t first = own[0] / grouped_symbols, last = own[15] / grouped_symbols;
    bool fits = true;
    for (size_t i = 1; i < 15; ++i)
      fits &= own[i] / grouped_symbols == first || own[i] / grouped_symbols == last;
    near += fits;
  }
  return 8 * near >= 7 * looked_at;
}

/// Codes eight symbols, one a lane.
HWY_INLINE void push_eight(States symbol, States& x, uint16_t*& out) {
  const hn::FixedTag<uint64_t, 8> d64;
  const hn::FixedTag<int64_t, 8> di;
  const hn::FixedTag<uint32_t, 16> du;
  const hn::FixedTag<uint16_t, 8> d16;
  const hn::FixedTag<uint8_t, 16> d8;
  const auto low_half = hn::Set(d64, 0xffffu), total = hn::Set(d64, element::rans_total);
  const auto product = [&](auto a, auto b)
                           HWY_ATTR { return hn::MulEven(hn::BitCast(du, a), hn::BitCast(du, b)); };
  const auto start = hn::And(symbol, low_half), frequency = hn::And(hn::ShiftRight<16>(symbol), low_half);
  const auto stays = hn::Gt(hn::BitCast(di, hn::ShiftLeft<20>(frequency)), hn::BitCast(di, x));
  uint8_t bits[8];
  hn::StoreMaskBits(di, stays, bits);
  const auto emits = uint8_t(~bits[0]);
  const auto words = hn::BitCast(d8, hn::TruncateTo(d16, x));
  hn::StoreU(hn::BitCast(d16, hn::TableLookupBytes(words, hn::LoadU(d8, shuffles[emits].data()))), d16,
             out - 8);
  out -= unsigned(__builtin_popcount(emits));
  x = hn::IfThenElse(hn::RebindMask(d64, stays), x, hn::ShiftRight<16>(x));
  const auto quotient = hn::ShiftRight<32>(product(x, hn::ShiftRight<32>(symbol)));
  const auto beside = hn::Sub(total, frequency);
  const auto remainder = hn::Sub(x, product(quotient, frequency));
  const auto next = hn::Add(hn::Add(x, start), product(quotient, beside));
  const auto exact = hn::Gt(hn::BitCast(di, frequency), hn::BitCast(di, remainder));
  x = hn::IfThenElse(hn::RebindMask(d64, exact), next, hn::Add(next, beside));
}

template <size_t eights>
uint16_t* encode_groups(const uint16_t* ids, size_t groups, const RansSymbol* table, uint32_t* states,
                        uint16_t* out) {
  States states_of[eights], symbol_of[eights];
  for (size_t e = 0; e < eights; ++e) states_of[e] = load_states(states + 8 * e);
  for (size_t g = groups * eights; g > 0; g -= eights) {
    const uint16_t* const own = ids + 8 * (g - eights);
    if (Sixteen near; eights == 2 && look_up_near(own, table, near))
      split(near, symbol_of);
    else
      for (size_t e = 0; e < eights; ++e) symbol_of[e] = gather_symbols(own + 8 * e, table);
    for (size_t e = eights; e-- > 0;) push_eight(symbol_of[e], states_of[e], out);
  }
  for (size_t e = 0; e < eights; ++e) store_states(states_of[e], states + 8 * e);
  return out;
}

/// Codes eight symbols of each of two streams, whose states are the halves of `x`.
HWY_INLINE void push_two_eights(const Sixteen& symbols, hn::Vec<hn::FixedTag<uint32_t, 16> >& x,
                                uint16_t*& out, uint16_t*& second_out) {
  const hn::FixedTag<uint32_t, 16> du;
  const hn::FixedTag<uint64_t, 8> d64;
  const hn::FixedTag<uint16_t, 16> d16;
  const hn::FixedTag<uint8_t, 32> d8;
  const hn::Half<decltype(d8)> half;
  const auto start = hn::And(symbols.interval, hn::Set(du, 0xffffu)),
             frequency = hn::ShiftRight<16>(symbols.interval);
  const auto stays = hn::Gt(frequency, hn::ShiftRight<20>(x));
  uint8_t bits[8];
  hn::StoreMaskBits(du, stays, bits);
  const auto emits = uint8_t(~bits[0]), second_emits = uint8_t(~bits[1]);
  const auto words = hn::TableLookupBytes(hn::BitCast(d8, hn::TruncateTo(d16, x)),
                                          hn::Combine(d8, hn::LoadU(half, shuffles[second_emits].data()),
                                                      hn::LoadU(half, shuffles[emits].data())));
  hn::StoreU(hn::LowerHalf(half, words), half, reinterpret_cast<uint8_t*>(out - 8));
  hn::StoreU(hn::UpperHalf(half, words), half, reinterpret_cast<uint8_t*>(second_out - 8));
  out -= unsigned(__builtin_popcount(emits));
  second_out -= unsigned(__builtin_popcount(second_emits));
  x = hn::IfThenElse(stays, x, hn::ShiftRight<16>(x));
  // The upper halves of 64-bit products: of even lanes in place, of odd lanes after a shift.
  const auto upper = [&](auto v)
                         HWY_ATTR { return hn::BitCast(du, hn::ShiftRight<32>(hn::BitCast(d64, v))); };
  const auto even = hn::MulEven(x, symbols.reciprocal),
             odd = hn::MulEven(upper(x), upper(symbols.reciprocal));
  const auto quotient = hn::OddEven(hn::BitCast(du, odd), upper(even));
  const auto remainder = hn::Sub(x, hn::Mul(quotient, frequency));
  const auto next = hn::Add(hn::Add(hn::ShiftLeft<element::rans_precision_bits>(quotient), start), remainder);
  x = hn::IfThenElse(hn::Gt(frequency, remainder), next,
                     hn::Add(next, hn::Sub(hn::Set(du, element::rans_total), frequency)));
}

void encode_beside(const uint16_t* const* ids, size_t pairs, const SymbolTable& table,
                   EncodingLanes* streams) {
  constexpr size_t twos = encoded_together / 2;
  const hn::FixedTag<uint32_t, 16> du;
  const hn::FixedTag<uint32_t, 8> d32;
  hn::Vec<decltype(du)> x[twos];
  uint16_t* out[encoded_together];
  for (size_t k = 0; k < encoded_together; ++k) out[k] = streams[k].first;
  for (size_t two = 0; two < twos; ++two)
    x[two] =
        hn::Combine(du, hn::LoadU(d32, streams[2 * two + 1].states), hn::LoadU(d32, streams[2 * two].states));
  // Named one by one: an array of them would be in memory, and every step would wait for its own stores.
  static_assert(twos == 2);
  auto x0 = x[0], x1 = x[1];
  uint16_t *out0 = out[0], *out1 = out[1], *out2 = out[2], *out3 = out[3];
  const auto push = [&](const Sixteen& one, const Sixteen& other, auto& states, uint16_t*& one_out,
                        uint16_t*& other_out) HWY_ATTR {
    push_two_eights({hn::ConcatUpperUpper(du, other.interval, one.interval),
                     hn::ConcatUpperUpper(du, other.reciprocal, one.reciprocal)},
                    states, one_out, other_out);
    push_two_eights({hn::ConcatLowerLower(du, other.interval, one.interval),
                     hn::ConcatLowerLower(du, other.reciprocal, one.reciprocal)},
                    states, one_out, other_out);
  };
  const auto push_all = [&](auto symbols_of) HWY_ATTR {
    for (size_t p = pairs; p-- > 0;) {
      push(symbols_of(ids[0] + 16 * p, table), symbols_of(ids[1] + 16 * p, table), x0, out0, out1);
      push(symbols_of(ids[2] + 16 * p, table), symbols_of(ids[3] + 16 * p, table), x1, out2, out3);
    }
  };
  if (mostly_near(ids, pairs))
    push_all([](const uint16_t* own, const SymbolTable& all) HWY_ATTR { return look_up(own, all); });
  else
    push_all([](const uint16_t* own, const SymbolTable& all) HWY_ATTR { return gather_sixteen(own, all); });
  x[0] = x0;
  x[1] = x1;
  out[0] = out0;
  out[1] = out1;
  out[2] = out2;
  out[3] = out3;
  for (size_t two = 0; two < twos; ++two) {
    hn::StoreU(hn::LowerHalf(d32, x[two]), d32, streams[2 * two].states);
    hn::StoreU(hn::UpperHalf(d32, x[two]), d32, streams[2 * two + 1].states);
  }
  for (size_t k = 0; k < encoded_together; ++k) streams[k].first = out[k];
}

#else

template <size_t eights>
uint16_t* encode_groups(const uint16_t* ids, size_t groups, const RansSymbol* table, uint32_t* states,
                        uint16_t* out) {
  const hn::FixedTag<uint32_t, 8> du;
  const hn::FixedTag<int32_t, 8> di;
  const hn::FixedTag<uint64_t, 4> d64;
  const hn::FixedTag<uint16_t, 8> d16;
  const hn::FixedTag<uint8_t, 16> d8;
  static_assert(sizeof(RansSymbol) == 8);
  const uint32_t* const intervals =
      reinterpret_cast<const uint32_t*>(table);  // start, frequency in the upper half
  const auto low_half = hn::Set(du, 0xffffu);
  const auto total = hn::Set(du, element::rans_total);
  hn::Vec<decltype(du)> states_of[eights];
  for (size_t e = 0; e < eights; ++e) states_of[e] = hn::LoadU(du, states + 8 * e);
  for (size_t g = groups * eights; g > 0; g -= eights)
    for (size_t e = eights; e-- > 0;) {
      auto& x = states_of[e];
      const uint16_t* const own = ids + 8 * (g - eights + e);
      const auto at = hn::BitCast(di, hn::ShiftLeft<1>(hn::PromoteTo(du, hn::LoadU(d16, own))));
      const auto interval = hn::GatherIndex(du, intervals, at);
      const auto reciprocal = hn::GatherIndex(du, intervals + 1, at);
      const auto start = hn::And(interval, low_half);
      const auto frequency = hn::ShiftRight<16>(interval);

      const auto stays = hn::Gt(hn::BitCast(di, frequency), hn::BitCast(di, hn::ShiftRight<20>(x)));
      uint8_t bits[8];
      hn::StoreMaskBits(di, stays, bits);
      const uint8_t emits = uint8_t(~bits[0]);
      const auto words = hn::BitCast(d8, hn::DemoteTo(d16, hn::BitCast(di, hn::And(x, low_half))));
      hn::StoreU(hn::BitCast(d16, hn::TableLookupBytes(words, hn::LoadU(d8, shuffles[emits].data()))), d16,
                 out - 8);
      out -= unsigned(__builtin_popcount(emits));
      x = hn::IfThenElse(hn::RebindMask(du, stays), x, hn::ShiftRight<16>(x));

      // The upper halves of 64-bit products: of even lanes in place, of odd lanes after a shift.
      const auto even = hn::MulEven(x, reciprocal);
      const auto odd = hn::MulEven(hn::BitCast(du, hn::ShiftRight<32>(hn::BitCast(d64, x))),
                                   hn::BitCast(du, hn::ShiftRight<32>(hn::BitCast(d64, reciprocal))));
      const auto quotient = hn::OddEven(hn::BitCast(du, odd), hn::BitCast(du, hn::ShiftRight<32>(even)));
      const auto remainder = hn::Sub(x, hn::Mul(quotient, frequency));
      const auto next =
          hn::Add(hn::Add(hn::ShiftLeft<element::rans_precision_bits>(quotient), start), remainder);
      const auto exact = hn::Gt(hn::BitCast(di, frequency), hn::BitCast(di, remainder));
      x = hn::IfThenElse(hn::RebindMask(du, exact), next, hn::Add(next, hn::Sub(total, frequency)));
    }
  for (size_t e = 0; e < eights; ++e) hn::StoreU(states_of[e], du, states + 8 * e);
  return out;
}

#endif

#endif

#if HWY_TARGET > HWY_AVX3

void encode_beside(const uint16_t* const* ids, size_t pairs, const SymbolTable& table,
                   EncodingLanes* streams) {
  for (size_t k = 0; k < encoded_together; ++k)
    streams[k].first =
        encode_groups<1>(ids[k], 2 * pairs, table.symbols, streams[k].states, streams[k].first);
}

#endif

uint16_t* encode(const uint16_t* ids, size_t groups, const RansSymbol* table, uint32_t* states,
                 uint16_t* out) {
  return encode_groups<1>(ids, groups, table, states, out);
}

uint16_t* encode_wide(const uint16_t* ids, size_t groups, const RansSymbol* table, uint32_t* states,
                      uint16_t* out) {
  return encode_groups<2>(ids, groups, table, states, out);
}

#if HWY_TARGET <= HWY_AVX3

/// States are the lower halves of 64-bit lanes, so that neither products nor quotients have to be put
/// together. Of a 64-bit lane that is looked up, the lower half belongs to one step and the upper half to the
/// next: shuffles, of which there are few units, are shared by two.
uint16_t* encode_small(const uint16_t* ids, size_t groups, const RansSymbol* table, size_t symbols,
                       uint32_t* states, uint16_t* out) {
  constexpr size_t most = element::rans_max_symbols;
  alignas(64) uint32_t intervals[most] = {}, longest[most] = {}, multipliers[most] = {}, addends[most] = {},
                       shifts[most] = {};
  for (size_t s = 0; s < symbols; ++s) {
    if (table[s].frequency == 0) continue;
    const ExactDivision division = exact_division(table[s].frequency);
    intervals[s] = uint32_t(element::rans_total - table[s].frequency) | uint32_t(table[s].start) << 16;
    longest[s] = uint32_t((uint64_t(table[s].frequency) << 20) - 1);
    multipliers[s] = division.multiplier;
    addends[s] = division.addend;
    shifts[s] = division.shift;
  }
  const hn::FixedTag<uint32_t, 16> du;
  const hn::FixedTag<uint32_t, 8> d32;
  const hn::FixedTag<uint64_t, 8> d64;
  const hn::FixedTag<int64_t, 8> di;
  const hn::FixedTag<uint16_t, 8> dw;
  const hn::FixedTag<uint8_t, 16> d8;
  const auto all_intervals = hn::Load(du, intervals), all_longest = hn::Load(du, longest),
             all_multipliers = hn::Load(du, multipliers), all_addends = hn::Load(du, addends),
             all_shifts = hn::Load(du, shifts);
  const auto low_half = hn::Set(d64, 0xffffu), low = hn::Set(d64, 0xffffffffu);
  auto x = hn::PromoteTo(d64, hn::LoadU(d32, states));
  const auto product = [](auto a, auto b) HWY_ATTR {
    return hn::MulEven(hn::BitCast(hn::FixedTag<uint32_t, 16>(), a),
                       hn::BitCast(hn::FixedTag<uint32_t, 16>(), b));
  };
  // Upper halves of the multiplier hold anything.
  const auto step = [&](auto interval, auto most_kept, auto multiplier, auto addend, auto shift) HWY_ATTR {
    const auto emits = hn::Gt(hn::BitCast(di, x), hn::BitCast(di, most_kept));
    uint8_t bits[8];
    hn::StoreMaskBits(di, emits, bits);
    const auto words = hn::BitCast(d8, hn::TruncateTo(dw, x));
    hn::StoreU(hn::BitCast(dw, hn::TableLookupBytes(words, hn::LoadU(d8, shuffles[bits[0]].data()))), dw,
               out - 8);
    out -= unsigned(__builtin_popcount(bits[0]));
    // Quotients of both states that are possible: waiting for the comparison would take longer.
    const auto divided = [&](auto state)
                             HWY_ATTR { return hn::Shr(hn::Add(product(state, multiplier), addend), shift); };
    const auto shorter = hn::ShiftRight<16>(x);
    const auto quotient = hn::IfThenElse(hn::RebindMask(d64, emits), divided(shorter), divided(x));
    x = hn::IfThenElse(hn::RebindMask(d64, emits), shorter, x);
    // 4096 q + r + start, where r = x - q f.
    x = hn::Add(hn::Add(x, hn::ShiftRight<16>(interval)), product(quotient, hn::And(interval, low_half)));
  };
  size_t g = groups;
  for (; g >= 2; g -= 2) {
    const auto first = hn::PromoteTo(d64, hn::PromoteTo(d32, hn::LoadU(dw, ids + 8 * (g - 1)))),
               second = hn::PromoteTo(d64, hn::PromoteTo(d32, hn::LoadU(dw, ids + 8 * (g - 2))));
    const auto at = hn::IndicesFromVec(du, hn::BitCast(du, hn::Or(first, hn::ShiftLeft<32>(second))));
    const auto of = [&](auto all) HWY_ATTR { return hn::BitCast(d64, hn::TableLookupLanes(all, at)); };
    const auto interval = of(all_intervals), most_kept = of(all_longest), multiplier = of(all_multipliers),
               addend = of(all_addends), shift = of(all_shifts);
    step(hn::And(interval, low), hn::And(most_kept, low), multiplier, hn::And(addend, low),
         hn::And(shift, low));
    step(hn::ShiftRight<32>(interval), hn::ShiftRight<32>(most_kept), hn::ShiftRight<32>(multiplier),
         hn::ShiftRight<32>(addend), hn::ShiftRight<32>(shift));
  }
  hn::StoreU(hn::TruncateTo(d32, x), d32, states);
  return g == 0 ? out : encode(ids, g, table, states, out);
}

#else

uint16_t* encode_small(const uint16_t* ids, size_t groups, const RansSymbol* table, size_t, uint32_t* states,
                       uint16_t* out) {
  return encode(ids, groups, table, states, out);
}

#endif

}  // namespace jsq::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <bit>

namespace jsq::cpu {

HWY_EXPORT(encode);
HWY_EXPORT(encode_small);
HWY_EXPORT(encode_wide);
HWY_EXPORT(encode_beside);

uint16_t* encode_eights(const uint16_t* ids, size_t groups, const element::RansSymbol* table,
                        uint32_t* states, uint16_t* end) {
  if (groups == 0) return end;
  return HWY_DYNAMIC_DISPATCH(encode)(ids, groups, table, states, end);
}

uint16_t* encode_sixteens(const uint16_t* ids, size_t groups, const element::RansSymbol* table,
                          uint32_t* states, uint16_t* end) {
  if (groups == 0) return end;
  return HWY_DYNAMIC_DISPATCH(encode_wide)(ids, groups, table, states, end);
}

std::vector<SymbolGroup> symbol_groups(std::span<const element::RansSymbol> symbols) {
  std::vector<SymbolGroup> groups((symbols.size() + grouped_symbols - 1) / grouped_symbols);
  for (size_t i = 0; i < symbols.size(); ++i) {
    SymbolGroup& group = groups[i / grouped_symbols];
    const size_t at = i % grouped_symbols;
    group.intervals[at] = uint32_t(symbols[i].start) | uint32_t(symbols[i].frequency) << 16;
    group.reciprocals[at] = symbols[i].reciprocal;
  }
  return groups;
}

void encode_eights_beside(const uint16_t* const* ids, size_t pairs, const SymbolTable& table,
                          EncodingLanes* streams) {
  if (pairs > 0) HWY_DYNAMIC_DISPATCH(encode_beside)(ids, pairs, table, streams);
}

uint16_t* encode_eights_small(const uint16_t* ids, size_t groups, const element::RansSymbol* table,
                              size_t symbols, uint32_t* states, uint16_t* end) {
  if (groups == 0) return end;
  return HWY_DYNAMIC_DISPATCH(encode_small)(ids, groups, table, symbols, states, end);
}

ExactDivision exact_division(uint32_t frequency) {
  const auto log2 = uint32_t(std::bit_width(frequency)) - 1;
  if (std::has_single_bit(frequency)) return {1u << 31, 0, 31 + log2};
  const uint64_t power = uint64_t(1) << (32 + log2), down = power / frequency;
  // Rounded up it is exact where frequency^2 has room below the power; rounded down with the addend,
  // otherwise.
  const uint64_t surplus = (down + 1) * frequency - power;
  if (surplus * (uint64_t(frequency) << 20) < power) return {uint32_t(down + 1), 0, 32 + log2};
  return {uint32_t(down), uint32_t(down), 32 + log2};
}

}  // namespace jsq::cpu
#endif

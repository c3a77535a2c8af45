#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rans_beside.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <cstring>
#include <type_traits>

#include "kernels/cpu/rans_beside.hpp"
#include "kernels/cpu/rans_take.hpp"
#include "kernels/cpu/word_handing.hpp"

#if HWY_ARCH_X86
#include <immintrin.h>
#endif

HWY_BEFORE_NAMESPACE();
namespace jsq::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using element::rans_lower_bound;
using element::rans_precision_bits;
using element::rans_total;
using element::RansSlot;

/// Words beyond the end are zeros, of which there are only so many.
HWY_INLINE const char* within(const char* next, EightLanes& stream) {
  if (HWY_UNLIKELY(next > stream.end)) {
    stream.overrun = true;
    return stream.end;
  }
  return next;
}

constexpr size_t turns = 4;  ///< streams that one loop takes a symbol of after each other

/// Four streams that take turns, a symbol of each.
template <uint32_t lanes>
struct Turns {
  EightLanes own[turns];
  EightLanes* const of;

  explicit HWY_INLINE Turns(EightLanes* streams) : of(streams) {
    for (size_t k = 0; k < turns; ++k) own[k] = streams[k];
  }
  HWY_INLINE void check() {
    for (EightLanes& stream : own) stream.next = within(stream.next, stream);
  }
  /// Calls table_of(k, i) for symbol i < 8 eights of stream k, which goes to symbols[k][i].
  template <class TableOf>
  HWY_INLINE void take(size_t eights, TableOf table_of, uint8_t* const* symbols) {
    for (size_t i = 0; i < 8 * eights; i += 8) {
      check();
      for (size_t l = 0; l < 8; ++l)
        for (size_t k = 0; k < turns; ++k)
          symbols[k][i + l] = uint8_t(take_symbol(own[k].states[l % lanes], table_of(k, i + l), own[k].next));
    }
  }
  HWY_INLINE void give_back() {
    check();
    for (size_t k = 0; k < turns; ++k) of[k] = own[k];
  }
};

HWY_INLINE const RansSlot* table_of_number(const RansSlot* slots, uint8_t number) {
  return slots + (size_t(number) << rans_precision_bits);
}

template <uint32_t lanes>
void decode_groups_in_turns(const RansSlot* slots, EightLanes* of, const uint8_t* const* tables,
                            size_t groups, size_t each, uint8_t* const* symbols) {
  Turns<lanes> streams(of);
  uint8_t* out[turns];
  for (size_t k = 0; k < turns; ++k) out[k] = symbols[k];
  for (size_t g = 0; g < groups; ++g) {
    const RansSlot* table[turns];
    for (size_t k = 0; k < turns; ++k) table[k] = table_of_number(slots, tables[k][g]);
    streams.take(
        each / 8, [&](size_t k, size_t) { return table[k]; }, out);
    for (size_t k = 0; k < turns; ++k) out[k] += each;
  }
  streams.give_back();
}

template <uint32_t lanes>
void decode_symbols_in_turns(const RansSlot* slots, EightLanes* of, const uint8_t* const* tables,
                             size_t eights, uint8_t* const* symbols) {
  Turns<lanes> streams(of);
  streams.take(
      eights, [&](size_t k, size_t i) { return table_of_number(slots, tables[k][i]); }, symbols);
  streams.give_back();
}

#if HWY_TARGET <= HWY_AVX3

using Words = hn::FixedTag<uint32_t, 16>;
using States = hn::Vec<Words>;  ///< of two streams, one behind the other

/// Streams whose states are in registers.
template <size_t count>
struct Streams {
  States x[count / 2];
  const char* next[count];
  EightLanes* const of;

  explicit HWY_INLINE Streams(EightLanes* streams) : of(streams) {
    const hn::FixedTag<uint32_t, 8> half;
    for (size_t k = 0; k < count; ++k) next[k] = within(streams[k].next, streams[k]);
    for (size_t p = 0; p < count / 2; ++p)
      x[p] = hn::Combine(Words(), hn::LoadU(half, streams[2 * p + 1].states),
                         hn::LoadU(half, streams[2 * p].states));
  }

  /// Before more than `rans_padding` bytes behind an end can have been taken.
  HWY_INLINE void check() {
    bool beyond = false;
    for (size_t k = 0; k < count; ++k) beyond |= next[k] > of[k].end;
    if (HWY_LIKELY(!beyond)) return;
    for (size_t k = 0; k < count; ++k) next[k] = within(next[k], of[k]);
  }

  /// States that lack a word take one.
  HWY_INLINE void refill(size_t p, States advanced) {
    static_assert(rans_lower_bound == 1u << 16);
    const hn::FixedTag<uint32_t, 8> half;
    const hn::FixedTag<uint16_t, 8> words;
    const __mmask16 takes = _mm512_cmplt_epu32_mask(advanced.raw, _mm512_set1_epi32(1 << 16));
    const auto handed = [&](const char*& from, __mmask8 taking) -> hn::Vec<decltype(half)> {
      const auto at_hand = hn::PromoteTo(half, hn::LoadU(words, reinterpret_cast<const uint16_t*>(from)));
      from += 2 * unsigned(__builtin_popcount(taking));
      return {_mm256_maskz_expand_epi32(taking, at_hand.raw)};
    };
    const auto first = handed(next[2 * p], __mmask8(takes));
    const States taken = hn::Combine(Words(), handed(next[2 * p + 1], __mmask8(takes >> 8)), first);
    x[p] = {_mm512_mask_or_epi32(advanced.raw, takes, hn::ShiftLeft<16>(advanced).raw, taken.raw)};
  }

  HWY_INLINE void give_back() const {
    const hn::FixedTag<uint32_t, 8> half;
    for (size_t p = 0; p < count / 2; ++p) {
      hn::StoreU(hn::LowerHalf(x[p]), half, of[2 * p].states);
      hn::StoreU(hn::UpperHalf(half, x[p]), half, of[2 * p + 1].states);
    }
    for (size_t k = 0; k < count; ++k) of[k].next = next[k];
  }
};

/// The low bytes of a pair of streams' sixteen numbers.
HWY_INLINE void store_pair(States numbers, uint8_t* first, uint8_t* second) {
  const hn::FixedTag<uint8_t, 16> bytes;
  const hn::FixedTag<uint8_t, 8> half;
  const auto low = hn::TruncateTo(bytes, numbers);
  hn::StoreU(hn::LowerHalf(low), half, first);
  hn::StoreU(hn::UpperHalf(half, low), half, second);
}

/// Numbers of four streams: of the first two in the even words, of the others in the odd ones.
using Halves = hn::FixedTag<uint16_t, 32>;
using Numbers = hn::Vec<Halves>;

HWY_INLINE States even_words(Numbers numbers) {
  return hn::And(hn::BitCast(Words(), numbers), hn::Set(Words(), 0xffffu));
}
HWY_INLINE States odd_words(Numbers numbers) {
  return hn::ShiftRight<16>(hn::BitCast(Words(), numbers));
}
HWY_INLINE Numbers words_of(States even, States odd) {
  return hn::Or(hn::BitCast(Halves(), hn::And(even, hn::Set(Words(), 0xffffu))),
                hn::BitCast(Halves(), hn::ShiftLeft<16>(odd)));
}

/// The tables of four streams in registers: the symbols of the k-th have the numbers from 16 k on.
class FourTables {
 public:
  HWY_INLINE void load(const SymbolStarts* starts, const uint8_t* const* tables, size_t at) {
    const SymbolStarts* of[4];
    for (size_t k = 0; k < 4; ++k) of[k] = starts + tables[k][at];
    for (size_t half = 0; half < 2; ++half) {
      starts_[half] = both(of[2 * half]->start, of[2 * half + 1]->start);
      frequencies_[half] = both(of[2 * half]->frequency, of[2 * half + 1]->frequency);
    }
    eighth_ = look_up(starts_, probe());
  }

  /// The last symbol that does not start behind the slot, by halving; and the steps of its streams.
  HWY_INLINE Numbers decode(Numbers slot, Numbers& frequency, Numbers& offset) const {
    constexpr int without = 0x70;  // a & ~(b & c)
    const hn::RebindToSigned<Halves> di;
    Numbers symbol = probe(), start = eighth_;
    for (uint16_t step = 8; step > 0; step = uint16_t(step / 2)) {
      const auto behind = hn::ShiftRight<15>(hn::BitCast(di, hn::Sub(slot, start)));
      const auto next = hn::Or(symbol, hn::Set(Halves(), uint16_t(step / 2)));
      symbol = {_mm512_ternarylogic_epi32(next.raw, behind.raw, hn::Set(Halves(), step).raw, without)};
      start = look_up(starts_, symbol);
    }
    frequency = look_up(frequencies_, symbol);
    offset = hn::Sub(slot, start);
    return hn::And(symbol, hn::Set(Halves(), uint16_t(15)));
  }

 private:
  /// Symbol 8 of every stream.
  static HWY_INLINE Numbers probe() {
    const hn::FixedTag<uint32_t, 8> half;
    return hn::BitCast(Halves(),
                       hn::Combine(Words(), hn::Set(half, 0x00380018u), hn::Set(half, 0x00280008u)));
  }
  static HWY_INLINE Numbers both(const uint16_t* first, const uint16_t* second) {
    const hn::FixedTag<uint16_t, 16> half;
    return hn::Combine(Halves(), hn::Load(half, second), hn::Load(half, first));
  }
  static HWY_INLINE Numbers look_up(const Numbers* of, Numbers number) {
    return {_mm512_permutex2var_epi16(of[0].raw, number.raw, of[1].raw)};
  }

  Numbers starts_[2], frequencies_[2], eighth_;
};

template <size_t count>
HWY_INLINE void decode_groups_of(const SymbolStarts* starts, EightLanes* of, const uint8_t* const* tables,
                                 size_t groups, size_t each, uint8_t* const* symbols) {
  Streams<count> streams(of);
  for (size_t g = 0; g < groups; ++g) {
    FourTables four[count / 4];
    for (size_t q = 0; q < count / 4; ++q) four[q].load(starts, tables + 4 * q, g);
    for (size_t i = each * g; i < each * (g + 1); i += 8)
      for (size_t q = 0; q < count / 4; ++q) {
        const States even = streams.x[2 * q], odd = streams.x[2 * q + 1];
        const auto slot = hn::And(words_of(even, odd), hn::Set(Halves(), uint16_t(rans_total - 1)));
        Numbers frequency, offset;
        const Numbers symbol = four[q].decode(slot, frequency, offset);
        const auto advanced = [](States state, States times, States more) {
          return hn::Add(hn::Mul(times, hn::ShiftRight<rans_precision_bits>(state)), more);
        };
        streams.refill(2 * q, advanced(even, even_words(frequency), even_words(offset)));
        streams.refill(2 * q + 1, advanced(odd, odd_words(frequency), odd_words(offset)));
        uint8_t* const* const out = symbols + 4 * q;
        store_pair(even_words(symbol), out[0] + i, out[1] + i);
        store_pair(odd_words(symbol), out[2] + i, out[3] + i);
      }
    streams.check();
  }
  streams.give_back();
}

template <size_t count>
HWY_INLINE void decode_symbols_of(const RansSlot* slots, EightLanes* of, const uint8_t* const* tables,
                                  size_t eights, uint8_t* const* symbols) {
  const Words du;
  const hn::FixedTag<int32_t, 16> di;
  const hn::FixedTag<uint8_t, 8> d8;
  Streams<count> streams(of);
  for (size_t i = 0; i < 8 * eights; i += 8) {
    for (size_t p = 0; p < count / 2; ++p) {
      const auto numbers = hn::Combine(hn::FixedTag<uint8_t, 16>(), hn::LoadU(d8, tables[2 * p + 1] + i),
                                       hn::LoadU(d8, tables[2 * p] + i));
      const auto where = hn::Or(hn::ShiftLeft<rans_precision_bits>(hn::PromoteTo(du, numbers)),
                                hn::And(streams.x[p], hn::Set(du, rans_total - 1)));
      const auto slot = hn::GatherIndex(du, reinterpret_cast<const uint32_t*>(slots), hn::BitCast(di, where));
      const auto frequency =
          hn::Add(hn::And(hn::ShiftRight<4>(slot), hn::Set(du, rans_total - 1)), hn::Set(du, 1u));
      streams.refill(p, hn::Add(hn::Mul(frequency, hn::ShiftRight<rans_precision_bits>(streams.x[p])),
                                hn::ShiftRight<16>(slot)));
      store_pair(hn::And(slot, hn::Set(du, 15u)), symbols[2 * p] + i, symbols[2 * p + 1] + i);
    }
    streams.check();
  }
  streams.give_back();
}

void decode_groups(const RansTables& with, std::span<EightLanes> streams, const uint8_t* const* tables,
                   size_t groups, size_t each, uint8_t* const* symbols) {
  if (streams.size() == 8)
    decode_groups_of<8>(with.starts, streams.data(), tables, groups, each, symbols);
  else
    decode_groups_of<4>(with.starts, streams.data(), tables, groups, each, symbols);
}

void decode_symbols(const RansTables& with, std::span<EightLanes> streams, const uint8_t* const* tables,
                    size_t eights, uint8_t* const* symbols) {
  if (streams.size() == 8)
    decode_symbols_of<8>(with.slots, streams.data(), tables, eights, symbols);
  else
    decode_symbols_of<4>(with.slots, streams.data(), tables, eights, symbols);
}

#elif HWY_CAP_GE256

constexpr size_t fours = 4;

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
      du, hn::BitCast(d16, hn::TableLookupBytesOr0(words, hn::LoadU(bytes, word_handing[bits[0]].data()))));
  x = hn::IfThenElse(takes, hn::Or(hn::ShiftLeft<16>(advanced), handed), advanced);
  next += 2 * unsigned(__builtin_popcount(bits[0]));
  hn::StoreU(hn::TruncateTo(d8, hn::And(slot, hn::Set(du, 15u))), d8, symbols);
}

/// Streams whose states are in registers.
struct FourStreams {
  Lanes x[fours];
  const char* next[fours];
  EightLanes* const of;

  explicit HWY_INLINE FourStreams(EightLanes* streams) : of(streams) {
    for (size_t k = 0; k < fours; ++k) {
      x[k] = hn::LoadU(hn::FixedTag<uint32_t, 8>(), streams[k].states);
      next[k] = within(streams[k].next, streams[k]);
    }
  }
  HWY_INLINE void check() {
    for (size_t k = 0; k < fours; ++k) next[k] = within(next[k], of[k]);
  }
  HWY_INLINE void give_back() const {
    for (size_t k = 0; k < fours; ++k) {
      hn::StoreU(x[k], hn::FixedTag<uint32_t, 8>(), of[k].states);
      of[k].next = next[k];
    }
  }
};

void decode_four_groups(const RansSlot* slots, EightLanes* of, const uint8_t* const* tables, size_t groups,
                        size_t each, uint8_t* const* symbols) {
  const auto slot_bits = hn::Set(hn::FixedTag<uint32_t, 8>(), rans_total - 1);
  FourStreams streams(of);
  for (size_t g = 0; g < groups; ++g) {
    const RansSlot* table[fours];
    for (size_t k = 0; k < fours; ++k) table[k] = slots + (size_t(tables[k][g]) << rans_precision_bits);
    for (size_t i = 0; i < each; i += 8)
      for (size_t k = 0; k < fours; ++k)
        take_eight(table[k], hn::And(streams.x[k], slot_bits), streams.x[k], streams.next[k],
                   symbols[k] + each * g + i);
    streams.check();
  }
  streams.give_back();
}

void decode_four_symbols(const RansSlot* slots, EightLanes* of, const uint8_t* const* tables, size_t eights,
                         uint8_t* const* symbols) {
  const hn::FixedTag<uint32_t, 8> du;
  const hn::FixedTag<uint8_t, 8> d8;
  const auto slot_bits = hn::Set(du, rans_total - 1);
  FourStreams streams(of);
  for (size_t i = 0; i < 8 * eights; i += 8) {
    for (size_t k = 0; k < fours; ++k) {
      const auto table = hn::ShiftLeft<rans_precision_bits>(hn::PromoteTo(du, hn::LoadU(d8, tables[k] + i)));
      take_eight(slots, hn::Or(table, hn::And(streams.x[k], slot_bits)), streams.x[k], streams.next[k],
                 symbols[k] + i);
    }
    streams.check();
  }
  streams.give_back();
}

void decode_groups(const RansTables& with, std::span<EightLanes> streams, const uint8_t* const* tables,
                   size_t groups, size_t each, uint8_t* const* symbols) {
  for (size_t k = 0; k < streams.size(); k += fours)
    decode_four_groups(with.slots, streams.data() + k, tables + k, groups, each, symbols + k);
}

void decode_symbols(const RansTables& with, std::span<EightLanes> streams, const uint8_t* const* tables,
                    size_t eights, uint8_t* const* symbols) {
  for (size_t k = 0; k < streams.size(); k += fours)
    decode_four_symbols(with.slots, streams.data() + k, tables + k, eights, symbols + k);
}

#else

void decode_groups(const RansTables& with, std::span<EightLanes> streams, const uint8_t* const* tables,
                   size_t groups, size_t each, uint8_t* const* symbols) {
  for (size_t k = 0; k < streams.size(); k += turns)
    decode_groups_in_turns<8>(with.slots, streams.data() + k, tables + k, groups, each, symbols + k);
}

void decode_symbols(const RansTables& with, std::span<EightLanes> streams, const uint8_t* const* tables,
                    size_t eights, uint8_t* const* symbols) {
  for (size_t k = 0; k < streams.size(); k += turns)
    decode_symbols_in_turns<8>(with.slots, streams.data() + k, tables + k, eights, symbols + k);
}

#endif

template <uint32_t lanes>
void decode_following_in_turns(const RansSlot* slots, EightLanes* streams, const uint8_t* tables,
                               size_t count, uint8_t* const* symbols) {
  const RansSlot* after[element::rans_max_symbols];
  for (size_t s = 0; s < element::rans_max_symbols; ++s) after[s] = table_of_number(slots, tables[s]);
  EightLanes own[turns];
  const RansSlot* table[turns];
  uint8_t* out[turns];
  for (size_t k = 0; k < turns; ++k) {
    own[k] = streams[k];
    table[k] = after[0];
    out[k] = symbols[k];
  }
  const auto one = [&](size_t k, size_t i, size_t lane) {
    const uint32_t symbol = take_symbol<true>(own[k].states[lane % lanes], table[k], own[k].next);
    table[k] = after[symbol];
    out[k][i] = uint8_t(symbol);
  };
  size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    for (size_t k = 0; k < turns; ++k) own[k].next = within(own[k].next, own[k]);
    for (size_t lane = 0; lane < 8; ++lane)
      for (size_t k = 0; k < turns; ++k) one(k, i + lane, lane);
  }
  for (size_t k = 0; k < turns; ++k) own[k].next = within(own[k].next, own[k]);
  for (size_t lane = 0; i + lane < count; ++lane)
    for (size_t k = 0; k < turns; ++k) one(k, i + lane, lane);
  for (size_t k = 0; k < turns; ++k) streams[k] = own[k];
}

/// Calls with(std::integral_constant<uint32_t, lanes>, k) for every four streams, from the k-th on.
template <class With>
void in_fours(uint32_t lanes, size_t streams, With with) {
  for (size_t k = 0; k < streams; k += turns) switch (lanes) {
      case 1:
        with(std::integral_constant<uint32_t, 1>(), k);
        break;
      case 2:
        with(std::integral_constant<uint32_t, 2>(), k);
        break;
      case 4:
        with(std::integral_constant<uint32_t, 4>(), k);
        break;
      default:
        with(std::integral_constant<uint32_t, 8>(), k);
        break;
    }
}

void decode_groups_of_lanes(const RansTables& with, uint32_t lanes, std::span<EightLanes> streams,
                            const uint8_t* const* tables, size_t groups, size_t each,
                            uint8_t* const* symbols) {
  if (lanes == 8) return decode_groups(with, streams, tables, groups, each, symbols);
  in_fours(lanes, streams.size(), [&](auto own, size_t k) {
    decode_groups_in_turns<own()>(with.slots, streams.data() + k, tables + k, groups, each, symbols + k);
  });
}

void decode_symbols_of_lanes(const RansTables& with, uint32_t lanes, std::span<EightLanes> streams,
                             const uint8_t* const* tables, size_t eights, uint8_t* const* symbols) {
  if (lanes == 8) return decode_symbols(with, streams, tables, eights, symbols);
  in_fours(lanes, streams.size(), [&](auto own, size_t k) {
    decode_symbols_in_turns<own()>(with.slots, streams.data() + k, tables + k, eights, symbols + k);
  });
}

void decode_following(const RansTables& with, uint32_t lanes, std::span<EightLanes> streams,
                      const uint8_t* tables, size_t count, uint8_t* const* symbols) {
  in_fours(lanes, streams.size(), [&](auto own, size_t k) {
    decode_following_in_turns<own()>(with.slots, streams.data() + k, tables, count, symbols + k);
  });
}

}  // namespace jsq::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jsq::cpu {

HWY_EXPORT(decode_groups_of_lanes);
HWY_EXPORT(decode_symbols_of_lanes);
HWY_EXPORT(decode_following);

SymbolStarts make_symbol_starts(std::span<const uint32_t, element::rans_max_symbols> frequencies) {
  SymbolStarts made;
  uint32_t start = 0;
  for (size_t s = 0; s < element::rans_max_symbols; ++s) {
    made.start[s] = uint16_t(start);
    made.frequency[s] = uint16_t(frequencies[s]);
    start += frequencies[s];
  }
  return made;
}

void decode_groups_beside(const RansTables& with, uint32_t lanes, std::span<EightLanes> streams,
                          const uint8_t* const* tables, size_t groups, size_t each, uint8_t* const* symbols) {
  HWY_DYNAMIC_DISPATCH(decode_groups_of_lanes)(with, lanes, streams, tables, groups, each, symbols);
}

void decode_symbols_beside(const RansTables& with, uint32_t lanes, std::span<EightLanes> streams,
                           const uint8_t* const* tables, size_t eights, uint8_t* const* symbols) {
  HWY_DYNAMIC_DISPATCH(decode_symbols_of_lanes)(with, lanes, streams, tables, eights, symbols);
}

void decode_following_beside(const RansTables& with, uint32_t lanes, std::span<EightLanes> streams,
                             const uint8_t* tables, size_t count, uint8_t* const* symbols) {
  HWY_DYNAMIC_DISPATCH(decode_following)(with, lanes, streams, tables, count, symbols);
}

}  // namespace jsq::cpu
#endif

// Bytes of eight elements are moved together and apart in 64-bit registers, what they stand for is worked out
// in vectors; pieces of some runs take turns, so that neither waits for what the other has just stored.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/class_runs.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <cstring>

#include "kernels/cpu/class_runs.hpp"

#if HWY_ARCH_X86
#include <immintrin.h>
#endif

HWY_BEFORE_NAMESPACE();
namespace jsq::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using element::run_length;

// Moving bits by a mask needs BMI2, which Highway's AVX2 has.
#if HWY_ARCH_X86 && HWY_CAP_GE256

constexpr bool has_runs = true;

constexpr size_t piece = 64;  // runs

/// Bytes of a piece's active runs, one an element.
struct alignas(64) Bytes {
  uint8_t of[piece * run_length];
};

HWY_INLINE uint64_t eight(const uint8_t* bytes) {
  uint64_t word;
  std::memcpy(&word, bytes, 8);
  return word;
}

/// A table of sixteen bytes from one of a few.
template <size_t count>
HWY_INLINE hn::Vec<hn::FixedTag<uint8_t, 16> > table_of(const uint8_t (&entries)[count]) {
  alignas(16) uint8_t table[16] = {};
  std::memcpy(table, entries, count);
  return hn::Load(hn::FixedTag<uint8_t, 16>(), table);
}

/// The classes of a run, in two halves.
struct RunOfTokens {
  hn::Vec<hn::FixedTag<uint8_t, 16> > first, second;
  HWY_INLINE void classes(const uint8_t* tokens, hn::Vec<hn::FixedTag<uint8_t, 16> >* halves) const {
    const hn::FixedTag<uint8_t, 16> d;
    const auto token = hn::LoadU(d, tokens);
    const auto even = hn::TableLookupBytes(first, token), odd = hn::TableLookupBytes(second, token);
    halves[0] = hn::InterleaveLower(d, even, odd);
    halves[1] = hn::InterleaveUpper(d, even, odd);
  }
};

size_t list_tables(const RunClasses& with, const uint8_t* buckets, size_t runs, const uint8_t* tokens,
                   uint8_t* tables, size_t (&in_planes)[RunClasses::most_classes]) {
  const hn::FixedTag<uint8_t, 16> d;
  const RunOfTokens run{table_of(with.first), table_of(with.second)};
  const auto raw_mask = table_of(with.raw_mask);
  uint8_t planes[RunClasses::most_classes];  // the classes that have one
  size_t plane_count = 0;
  for (uint8_t j = 1; j < RunClasses::most_classes; ++j)
    if (with.has_plane(j)) planes[plane_count++] = j;
  alignas(16) uint8_t by_bucket[element::max_activity_buckets][16] = {};
  for (size_t b = 0; b < element::max_activity_buckets; ++b)
    std::memcpy(by_bucket[b], with.tables[b], RunClasses::most_classes);
#if HWY_TARGET <= HWY_AVX3
  const hn::FixedTag<uint32_t, 16> du;
  uint8_t* out = tables;
  for (size_t r = 0; r < runs; ++r) {
    if (buckets[r] == 0) continue;
    hn::Vec<decltype(d)> classes[2];
    run.classes(tokens, classes);
    tokens += run_tokens;
    const auto table = hn::Load(d, by_bucket[buckets[r]]);
    for (size_t half = 0; half < 2; ++half) {
      const auto with_symbol = hn::TableLookupBytes(raw_mask, classes[half]);
      const __mmask16 kept = _mm_test_epi8_mask(with_symbol.raw, with_symbol.raw);
      const auto numbers = hn::PromoteTo(du, hn::TableLookupBytes(table, classes[half]));
      const hn::Vec<decltype(du)> listed{_mm512_maskz_compress_epi32(kept, numbers.raw)};
      hn::StoreU(hn::TruncateTo(d, listed), d, out);
      out += unsigned(__builtin_popcount(kept));
      for (size_t p = 0; p < plane_count; ++p)
        in_planes[planes[p]] += hn::CountTrue(d, hn::Eq(classes[half], hn::Set(d, planes[p])));
    }
  }
#else
  Bytes numbers, kept;
  uint8_t* out = tables;
  for (size_t r = 0; r < runs;) {
    size_t active = 0;
    for (; r < runs && active < piece; ++r) {
      if (buckets[r] == 0) continue;
      hn::Vec<decltype(d)> classes[2];
      run.classes(tokens, classes);
      tokens += run_tokens;
      const auto table = hn::Load(d, by_bucket[buckets[r]]);
      for (size_t half = 0; half < 2; ++half) {
        const size_t at = active * run_length + 16 * half;
        hn::Store(hn::TableLookupBytes(table, classes[half]), d, numbers.of + at);
        const auto with_symbol = hn::TableLookupBytes(raw_mask, classes[half]);
        hn::Store(hn::VecFromMask(d, hn::Ne(with_symbol, hn::Zero(d))), d, kept.of + at);
        for (size_t p = 0; p < plane_count; ++p)
          in_planes[planes[p]] += hn::CountTrue(d, hn::Eq(classes[half], hn::Set(d, planes[p])));
      }
      ++active;
    }
    for (size_t i = 0; i < active * run_length; i += 8) {
      const uint64_t mask = eight(kept.of + i), listed = _pext_u64(eight(numbers.of + i), mask);
      std::memcpy(out, &listed, 8);
      out += unsigned(__builtin_popcountll(mask)) / 8;
    }
  }
#endif
  return size_t(out - tables);
}

/// Streams of bits that elements take some of, and the masks of those. `planes`: there may be more than one.
template <bool planes>
struct BitStreams {
  static constexpr size_t at_most = planes ? RunClasses::most_classes : 1;
  hn::Vec<hn::FixedTag<uint8_t, 16> > mask[at_most];
  const char* bytes[at_most];
  size_t most[at_most], taken[at_most] = {};
  uint8_t number[at_most];
  size_t count = 0;

  HWY_INLINE BitStreams(const RunClasses& with, const RunBits (&streams)[RunClasses::most_classes]) {
    for (uint8_t j = 0; j < at_most; ++j) {
      if (j > 0 && with.plane_mask[j] == 0) continue;
      uint8_t plane[RunClasses::most_classes] = {};
      plane[j] = with.plane_mask[j];
      mask[count] = j == 0 ? table_of(with.raw_mask) : table_of(plane);
      bytes[count] = streams[j].bytes;
      most[count] = streams[j].most;
      number[count++] = j;
    }
  }
  HWY_INLINE size_t size() const { return planes ? count : 1; }
  HWY_INLINE bool overrun() const {
    bool over = false;
    for (size_t s = 0; s < size(); ++s) over |= taken[s] > most[s];
    return over;
  }
  HWY_INLINE void give_back(RunBits (&streams)[RunClasses::most_classes]) const {
    for (size_t s = 0; s < size(); ++s) streams[number[s]].taken = taken[s];
  }
};

/// The values of those of sixteen elements that are `members` of classes with wide code words.
void write_wide(const RunClasses& with, const uint8_t* classes, uint32_t members,
                RunBits (&bits_of)[RunClasses::most_classes], float* values) {
  for (; members != 0; members &= members - 1) {
    const int l = __builtin_ctz(members);
    const uint8_t j = classes[l];
    RunBits& plane = bits_of[j];
    const auto* const at = reinterpret_cast<const uint8_t*>(plane.bytes) + plane.taken / 8;
    const auto window = uint16_t((at[0] << 8 | at[1]) << plane.taken % 8);
    values[l] = plane.values[window >> (16 - with.wide[j])];
    plane.taken += with.wide[j];
  }
}

/// The values of sixteen elements. The arithmetic is that of dequantize_in_class for `cell`, operation by
/// operation; of class 0 everything is 0.
struct CellValues {
  using F = hn::CappedTag<float, 16>;
  using U = hn::RebindToUnsigned<F>;
  using B = hn::Rebind<uint8_t, F>;
  hn::Vec<F> low, step, high;
  hn::Vec<U> low_bits;

  explicit HWY_INLINE CellValues(const RunClasses& with) {
    // Registers are four numbers again and again, so that every lane's number is within reach.
    alignas(64) float lows[16], steps[16], highs[16];
    alignas(64) uint32_t bits[16];
    for (size_t l = 0; l < 16; ++l) {
      const size_t j = l % RunClasses::most_classes;
      lows[l] = with.low[j];
      steps[l] = with.step[j];
      highs[l] = with.high[j];
      bits[l] = with.low_bits[j];
    }
    low = hn::Load(F(), lows);
    step = hn::Load(F(), steps);
    high = hn::Load(F(), highs);
    low_bits = hn::Load(U(), bits);
  }

  HWY_INLINE hn::Vec<F> of(hn::Vec<U> class_of, hn::Vec<U> symbol, hn::Vec<U> bits) const {
    const F df;
    const U du;
    const hn::RebindToSigned<F> di;
    const auto of = hn::IndicesFromVec(df, class_of);
    const auto shift = hn::TableLookupLanes(low_bits, hn::IndicesFromVec(du, class_of));
    const auto sign = hn::Shr(bits, shift);
    const auto index = hn::Add(hn::Shl(hn::Sub(symbol, sign), shift), bits);
    const auto centre = hn::Add(hn::TableLookupLanes(low, of),
                                hn::Mul(hn::Add(hn::ConvertTo(df, hn::BitCast(di, index)), hn::Set(df, 0.5f)),
                                        hn::TableLookupLanes(step, of)));
    const auto most = hn::TableLookupLanes(high, of);
    const auto magnitude = hn::IfThenElse(hn::Gt(centre, most), most, centre);
    return hn::Or(magnitude, hn::BitCast(df, hn::ShiftLeft<31>(sign)));
  }
};

#if HWY_TARGET <= HWY_AVX3

/// Sixteen elements at once: raw bits go to four bits each of one word, symbols to the lanes of those that
/// are kept.
template <bool planes>
void write_values_of(const RunClasses& with, const uint8_t* buckets, size_t runs, const uint8_t* tokens,
                     const uint8_t* symbols, RunBits (&bits_of)[RunClasses::most_classes], float* values) {
  static_assert(element::raw_magnitude_bits(8) + 1 <= 4);
  const hn::FixedTag<uint8_t, 16> d;
  const CellValues::U du;
  const hn::FixedTag<uint64_t, 8> d64;
  const RunOfTokens run{table_of(with.first), table_of(with.second)};
  const auto raw_mask = table_of(with.raw_mask), wide = table_of(with.wide),
             backwards = hn::Sub(hn::Set(d, 15), hn::Iota(d, 0));
  BitStreams<planes> streams(with, bits_of);
  const auto first_eight = hn::Lt(hn::Iota(hn::RebindToSigned<CellValues::U>(), 0),
                                  hn::Set(hn::RebindToSigned<CellValues::U>(), 8));
  // Element l's bits are the (15 - l)-th four of a word.
  const auto half_of =
      hn::IndicesFromVec(du, hn::IfThenElseZero(hn::RebindMask(du, first_eight), hn::Set(du, 1)));
  const auto shift_of = hn::And(hn::ShiftLeft<2>(hn::Sub(hn::Set(du, 15), hn::Iota(du, 0))), hn::Set(du, 31));
  const CellValues cells(with);
  for (size_t r = 0; r < runs; ++r, values += run_length) {
    if (buckets[r] == 0) {
      std::memset(values, 0, run_length * sizeof(float));
      continue;
    }
    if (streams.overrun()) break;
    hn::Vec<decltype(d)> halves[2];
    run.classes(tokens, halves);
    tokens += run_tokens;
    for (size_t half = 0; half < 2; ++half) {
      const auto classes = halves[half];
      const auto with_symbol = planes ? hn::TableLookupBytes(raw_mask, classes) : classes;
      const __mmask16 kept = _mm_test_epi8_mask(with_symbol.raw, with_symbol.raw);
      const auto symbol = hn::PromoteTo(du, hn::LoadU(d, symbols));
      symbols += unsigned(__builtin_popcount(kept));
      const auto last_first = hn::TableLookupBytes(classes, backwards);
      uint64_t fours = 0;
      for (size_t s = 0; s < streams.size(); ++s) {
        // Fours of bits from bytes of them, the last element's lowest; the first element's bits come first.
        const auto masks = hn::TableLookupBytes(streams.mask[s], last_first);
        const __m128i pairs = _mm_maddubs_epi16(masks.raw, _mm_set1_epi16(0x1001));
        const auto places = uint64_t(_mm_cvtsi128_si64(_mm_packus_epi16(pairs, pairs)));
        const auto length = unsigned(__builtin_popcountll(places));
        const size_t position = streams.taken[s];
        const char* const at = streams.bytes[s] + position / 8;
        uint64_t window;
        std::memcpy(&window, at, 8);
        window = __builtin_bswap64(window) << position % 8 | uint32_t(uint8_t(at[8])) >> (8 - position % 8);
        fours |= _pdep_u64(window >> (64 - length) % 64, places);
        streams.taken[s] = position + length;
      }
      const auto bits =
          hn::And(hn::Shr(hn::TableLookupLanes(hn::BitCast(du, hn::Set(d64, fours)), half_of), shift_of),
                  hn::Set(du, 15));
      hn::StoreU(cells.of(hn::PromoteTo(du, classes), {_mm512_maskz_expand_epi32(kept, symbol.raw)}, bits),
                 CellValues::F(), values + 16 * half);
      if constexpr (planes) {
        const auto is_wide = hn::TableLookupBytes(wide, classes);
        const __mmask16 members = _mm_test_epi8_mask(is_wide.raw, is_wide.raw);
        if (HWY_UNLIKELY(members != 0)) {
          alignas(16) uint8_t class_of[16];
          hn::Store(classes, d, class_of);
          write_wide(with, class_of, members, bits_of, values + 16 * half);
        }
      }
    }
  }
  streams.give_back(bits_of);
}

#else

template <bool planes>
void write_values_of(const RunClasses& with, const uint8_t* buckets, size_t runs, const uint8_t* tokens,
                     const uint8_t* symbols, RunBits (&bits_of)[RunClasses::most_classes], float* values) {
  const hn::FixedTag<uint8_t, 16> d;
  const RunOfTokens run{table_of(with.first), table_of(with.second)};
  const auto raw_mask = table_of(with.raw_mask), wide = table_of(with.wide);
  const CellValues cells(with);
  BitStreams<planes> streams(with, bits_of);
  Bytes classes, kept, masks[RunClasses::most_classes], symbols_of;  // masks[0] becomes the bits
  uint32_t active_run[piece];
  for (size_t r = 0; r < runs;) {
    size_t active = 0;
    for (; r < runs && active < piece; ++r) {
      if (buckets[r] == 0) {
        std::memset(values + r * run_length, 0, run_length * sizeof(float));
        continue;
      }
      hn::Vec<decltype(d)> halves[2];
      run.classes(tokens, halves);
      tokens += run_tokens;
      for (size_t half = 0; half < 2; ++half) {
        const size_t at = active * run_length + 16 * half;
        hn::Store(halves[half], d, classes.of + at);
        hn::Store(hn::VecFromMask(d, hn::Ne(hn::TableLookupBytes(raw_mask, halves[half]), hn::Zero(d))), d,
                  kept.of + at);
        for (size_t s = 0; s < streams.size(); ++s)
          hn::Store(hn::TableLookupBytes(streams.mask[s], halves[half]), d, masks[s].of + at);
      }
      active_run[active++] = uint32_t(r);
    }
    for (size_t i = 0; i < active * run_length; i += 8) {
      if (i % run_length == 0 && streams.overrun()) return streams.give_back(bits_of);
      const uint64_t mask = eight(kept.of + i), apart = _pdep_u64(eight(symbols), mask);
      std::memcpy(symbols_of.of + i, &apart, 8);
      symbols += unsigned(__builtin_popcountll(mask)) / 8;
      uint64_t bits = 0;
      for (size_t s = 0; s < streams.size(); ++s) {
        // The first element's bits come first, at the upper end.
        const uint64_t places = __builtin_bswap64(eight(masks[s].of + i));
        const auto length = unsigned(__builtin_popcountll(places));
        const size_t position = streams.taken[s];
        uint64_t window;
        std::memcpy(&window, streams.bytes[s] + position / 8, 8);
        window = __builtin_bswap64(window) << position % 8 >> 1 >> (63 - length);
        bits |= __builtin_bswap64(_pdep_u64(window, places));
        streams.taken[s] = position + length;
      }
      std::memcpy(masks[0].of + i, &bits, 8);
    }
    const CellValues::F df;
    const CellValues::U du;
    const CellValues::B d8;
    const auto load = [&](const uint8_t* bytes) HWY_ATTR { return hn::PromoteTo(du, hn::LoadU(d8, bytes)); };
    for (size_t a = 0; a < active; ++a)
      for (size_t l = 0; l < run_length; l += hn::Lanes(df)) {
        const size_t at = a * run_length + l;
        hn::StoreU(cells.of(load(classes.of + at), load(symbols_of.of + at), load(masks[0].of + at)), df,
                   values + active_run[a] * size_t(run_length) + l);
      }
    for (size_t i = 0; planes && i < active * run_length; i += 16) {
      const auto is_wide = hn::Ne(hn::TableLookupBytes(wide, hn::Load(d, classes.of + i)), hn::Zero(d));
      if (HWY_LIKELY(hn::AllFalse(d, is_wide))) continue;
      uint8_t members[8] = {};
      hn::StoreMaskBits(d, is_wide, members);
      write_wide(with, classes.of + i, members[0] | uint32_t(members[1]) << 8, bits_of,
                 values + active_run[i / run_length] * size_t(run_length) + i % run_length);
    }
  }
  streams.give_back(bits_of);
}

#endif

void write_values(const RunClasses& with, const uint8_t* buckets, size_t runs, const uint8_t* tokens,
                  const uint8_t* symbols, RunBits (&bits_of)[RunClasses::most_classes], float* values) {
  if (with.has_planes())
    write_values_of<true>(with, buckets, runs, tokens, symbols, bits_of, values);
  else
    write_values_of<false>(with, buckets, runs, tokens, symbols, bits_of, values);
}

#else

constexpr bool has_runs = false;

size_t list_tables(const RunClasses&, const uint8_t*, size_t, const uint8_t*, uint8_t*,
                   size_t (&)[RunClasses::most_classes]) {
  return 0;
}
void write_values(const RunClasses&, const uint8_t*, size_t, const uint8_t*, const uint8_t*,
                  RunBits (&)[RunClasses::most_classes], float*) {}

#endif

bool has_loops() {
  return has_runs;
}

}  // namespace jsq::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jsq::cpu {

HWY_EXPORT(has_loops);
HWY_EXPORT(list_tables);
HWY_EXPORT(write_values);

bool reads_runs() {
  return HWY_DYNAMIC_DISPATCH(has_loops)();
}

size_t list_run_tables(const RunClasses& classes, const uint8_t* buckets, size_t runs, const uint8_t* tokens,
                       uint8_t* tables, size_t (&in_planes)[RunClasses::most_classes]) {
  return HWY_DYNAMIC_DISPATCH(list_tables)(classes, buckets, runs, tokens, tables, in_planes);
}

void write_run_values(const RunClasses& classes, const uint8_t* buckets, size_t runs, const uint8_t* tokens,
                      const uint8_t* symbols, RunBits (&streams)[RunClasses::most_classes], float* values) {
  HWY_DYNAMIC_DISPATCH(write_values)(classes, buckets, runs, tokens, symbols, streams, values);
}

}  // namespace jsq::cpu
#endif

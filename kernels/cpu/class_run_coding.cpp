// What an element is coded as is worked out in vectors, where those that are kept are moved together; their
// raw bits are, in 64-bit registers. Pieces of some runs take turns, so that neither waits for what the other
// has just stored.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/class_run_coding.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <array>
#include <cstring>

#include "kernels/cpu/class_run_coding.hpp"
#include "kernels/element/float_bits.hpp"

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

using F = hn::CappedTag<float, 16>;
using U = hn::RebindToUnsigned<F>;
using I = hn::RebindToSigned<F>;
using B = hn::Rebind<uint8_t, F>;
constexpr size_t lanes = 16;  // of the tables, at most

/// A number of each class, again and again, so that every lane's number is within reach.
template <class D, class T>
HWY_INLINE hn::Vec<D> of_classes(D d, const T (&numbers)[RunCoding::most_classes]) {
  alignas(64) hn::TFromD<D> table[lanes];
  for (size_t l = 0; l < lanes; ++l) table[l] = hn::TFromD<D>(numbers[l % RunCoding::most_classes]);
  return hn::Load(d, table);
}

#if HWY_TARGET <= HWY_AVX3

/// The lanes of the mask, moved together.
HWY_INLINE hn::Vec<U> compressed(hn::Vec<U> v, hn::Mask<U> mask) {
  return hn::Compress(v, mask);
}

#else

/// The lanes of every mask. Highway's own table is made anew on the stack by every loop that uses it.
constexpr auto members_of_mask = [] {
  std::array<std::array<uint8_t, 8>, 256> table{};
  for (size_t mask = 0; mask < 256; ++mask)
    for (size_t lane = 0, at = 0; lane < 8; ++lane)
      if (mask >> lane & 1) table[mask][at++] = uint8_t(lane);
  return table;
}();

HWY_INLINE hn::Vec<U> compressed(hn::Vec<U> v, hn::Mask<U> mask) {
  const U du;
  uint8_t bits[8];
  hn::StoreMaskBits(du, mask, bits);
  const auto members = hn::LoadU(B(), members_of_mask[bits[0]].data());
  return hn::TableLookupLanes(v, hn::IndicesFromVec(du, hn::PromoteTo(du, members)));
}

#endif

HWY_INLINE uint64_t eight(const void* bytes) {
  uint64_t word;
  std::memcpy(&word, bytes, 8);
  return word;
}

/// Bits behind each other, the upper ones first.
struct RawBits {
  char* out = nullptr;
  uint64_t held = 0;  // at the upper end
  unsigned filled = 0;
  /// The low `count` bits, at most 32.
  HWY_INLINE void put(uint64_t bits, unsigned count) {
    held |= bits << 1 << (63 - filled - count);
    const uint64_t bytes = __builtin_bswap64(held);
    std::memcpy(out, &bytes, 8);
    filled += count;
    out += filled / 8;
    held <<= filled & ~7u;
    filled &= 7;
  }
  size_t bytes_from(const char* begin) const { return size_t(out - begin) + (filled > 0); }
};

constexpr size_t piece = 64;    // runs
constexpr size_t ahead = 1024;  // elements

/// What the elements of a piece's active runs are coded as.
struct Elements {
  /// Of those with symbols: the id, raw bits above it, and the mask of these above them.
  alignas(64) uint32_t listed[piece * run_length + lanes];
  /// Code words of those in planes, by class.
  alignas(64) uint32_t codes[RunCoding::most_classes][piece * run_length + lanes];
  alignas(64) uint8_t classes[piece * run_length];
  uint8_t bucket[piece];
};
constexpr uint32_t raw_at = 16, mask_at = 24;

#if HWY_TARGET <= HWY_AVX3

/// Sixteen bytes below 16 as fours of bits of a word, the first at its upper end.
HWY_INLINE uint64_t fours(hn::Vec<B> bytes) {
  static_assert(element::raw_magnitude_bits(8) + 1 <= 4);
  const B d8;
  const auto backwards = hn::TableLookupBytes(bytes, hn::Sub(hn::Set(d8, 15), hn::Iota(d8, 0)));
  const __m128i pairs = _mm_maddubs_epi16(backwards.raw, _mm_set1_epi16(0x1001));
  return uint64_t(_mm_cvtsi128_si64(_mm_packus_epi16(pairs, pairs)));
}

#endif

/// Appends ids and raw bits.
HWY_INLINE void put_listed(const uint32_t* listed, size_t count, uint16_t* ids, RawBits& raw) {
  const U du;
  const B d8;
  const hn::Rebind<uint16_t, F> d16;
  const size_t step = hn::Lanes(du);
  for (size_t i = 0; i < count; i += step) {
    const auto all = hn::LoadU(du, listed + i);
    hn::StoreU(hn::TruncateTo(d16, all), d16, ids + i);
    const auto bits = hn::TruncateTo(d8, hn::ShiftRight<raw_at>(all)),
               masks = hn::TruncateTo(d8, hn::ShiftRight<mask_at>(all));
#if HWY_TARGET <= HWY_AVX3
    const uint64_t mask = fours(masks), word = _pext_u64(fours(bits), mask);
    const auto length = unsigned(__builtin_popcountll(mask));
    const unsigned last = length > 32 ? 32 : length;
    if (length > 32) raw.put(word >> 32, length - 32);
    raw.put(word & (~uint64_t(0) >> (64 - last) % 64), last);
#else
    alignas(16) uint8_t bytes_of_bits[lanes], bytes_of_masks[lanes];
    hn::StoreU(bits, d8, bytes_of_bits);
    hn::StoreU(masks, d8, bytes_of_masks);
    for (size_t k = 0; k < step; k += 8) {
      const uint64_t mask = __builtin_bswap64(eight(bytes_of_masks + k));
      raw.put(_pext_u64(__builtin_bswap64(eight(bytes_of_bits + k)), mask),
              unsigned(__builtin_popcountll(mask)));
    }
#endif
  }
}

/// Appends code words, `bits` of each.
HWY_INLINE void put_plane(const uint32_t* codes, size_t count, uint32_t bits, RawBits& plane) {
  const U du;
  const B d8;
  const size_t step = hn::Lanes(du);
  const uint32_t mask = ((1u << bits) - 1) * 0x01010101u;
  for (size_t i = 0; i < count; i += step) {
    alignas(16) uint8_t bytes[lanes];
    hn::StoreU(hn::TruncateTo(d8, hn::LoadU(du, codes + i)), d8, bytes);
    for (size_t k = 0; k < step && i + k < count; k += 4) {
      uint32_t four;
      std::memcpy(&four, bytes + k, 4);
      const auto left = uint32_t(count - i - k), listed = left < 4 ? left : 4;
      plane.put(_pext_u32(__builtin_bswap32(four), mask) >> bits * (4 - listed), bits * listed);
    }
  }
}

template <uint32_t class_count>
void code(const RunCoding& with, const float* values, size_t runs, RunSymbols& symbols) {
  const F df;
  const U du;
  const I di;
  const B d8;
  const size_t step = hn::Lanes(df);
  const auto key_bits = hn::Set(di, int32_t(element::magnitude_mask));
  hn::Vec<I> least[class_count];
  for (uint32_t j = 1; j < class_count; ++j) least[j] = hn::Set(di, with.thresholds[j - 1] - 1);
  const auto low = of_classes(df, with.low), divisor = of_classes(df, with.divisor),
             last = of_classes(df, with.last);
  const auto low_bits = of_classes(du, with.low_bits),
             masks = hn::ShiftLeft<mask_at>(of_classes(du, with.raw_mask));
  hn::Vec<U> magnitudes[element::max_activity_buckets];  // and the masks
  for (size_t b = 0; b < element::max_activity_buckets; ++b)
    magnitudes[b] = hn::Or(of_classes(du, with.magnitudes[b]), masks);
  bool has_planes = false;
  for (uint32_t j = 1; j < class_count; ++j) has_planes |= with.plane_mask[j] != 0;

  Elements elements;
  uint16_t *token_ids = symbols.token_ids, *magnitude_ids = symbols.magnitude_ids;
  RawBits raw{symbols.raw}, planes[class_count];
  for (uint32_t j = 1; j < class_count; ++j) planes[j].out = symbols.planes[j];
  uint64_t above[class_count + 1] = {};  // elements of class j or more
  for (size_t r = 0; r < runs;) {
    size_t active = 0, listed = 0, in_plane[class_count] = {};
    for (; r < runs && active < piece; ++r) {
      const float* const run = values + r * run_length;
      // Values come from memory, of which the processor itself asks for too little ahead.
      __builtin_prefetch(run + ahead);
      __builtin_prefetch(run + ahead + run_length / 2);
      // Most runs at high ratios have nothing that is kept.
      auto largest = hn::And(hn::BitCast(di, hn::LoadU(df, run)), key_bits);
      for (size_t l = step; l < run_length; l += step)
        largest = hn::Max(largest, hn::And(hn::BitCast(di, hn::LoadU(df, run + l)), key_bits));
      if (hn::AllFalse(di, hn::Gt(largest, least[1]))) {
        symbols.buckets[r] = 0;
        continue;
      }
      alignas(64) uint32_t class_of[run_length];
      uint8_t* const classes = elements.classes + active * run_length;
      uint32_t activity = 0;
      for (size_t l = 0; l < run_length; l += step) {
        const auto key = hn::And(hn::BitCast(di, hn::LoadU(df, run + l)), key_bits);
        auto index = hn::Zero(di);
        for (uint32_t j = 1; j < class_count; ++j) {
          const auto reaches = hn::Gt(key, least[j]);
          index = hn::Sub(index, hn::VecFromMask(di, reaches));
          const auto count = uint32_t(hn::CountTrue(di, reaches));
          above[j] += count;
          activity += count;
        }
        hn::Store(hn::BitCast(du, index), du, class_of + l);
        hn::StoreU(hn::TruncateTo(d8, hn::BitCast(du, index)), d8, classes + l);
      }
      const uint32_t bucket = 32 - uint32_t(__builtin_clz(activity));
      symbols.buckets[r] = uint8_t(bucket);
      elements.bucket[active++] = uint8_t(bucket);
      for (size_t l = 0; l < run_length; l += step) {
        const auto value = hn::LoadU(df, run + l);
        const auto class_index = hn::Load(du, class_of + l);
        const auto of = hn::IndicesFromVec(df, class_index);
        const auto of_bits = hn::IndicesFromVec(du, class_index);
        // As in quantize_in_class; what is left out is at 0 of a class that ends there.
        const auto most = hn::TableLookupLanes(last, of);
        const auto y = hn::Div(hn::Sub(hn::Abs(value), hn::TableLookupLanes(low, of)),
                               hn::TableLookupLanes(divisor, of));
        const auto index = hn::BitCast(du, hn::ConvertTo(di, hn::IfThenElse(hn::Lt(y, most), y, most)));
        const auto shift = hn::TableLookupLanes(low_bits, of_bits);
        const auto symbol = hn::Shr(index, shift);
        const auto sign = hn::ShiftRight<31>(hn::BitCast(du, value));
        const auto bits = hn::Add(index, hn::Shl(hn::Sub(sign, symbol), shift));
        const auto id = hn::Add(symbol, hn::TableLookupLanes(magnitudes[bucket], of_bits));
        const auto kept = hn::RebindMask(du, hn::Gt(hn::BitCast(di, id), hn::Set(di, (1 << mask_at) - 1)));
        hn::StoreU(compressed(hn::Add(id, hn::ShiftLeft<raw_at>(bits)), kept), du, elements.listed + listed);
        listed += hn::CountTrue(du, kept);
        for (uint32_t j = 1; has_planes && j < class_count; ++j) {
          if (with.plane_mask[j] == 0) continue;
          const auto members = hn::Eq(class_index, hn::Set(du, j));
          hn::StoreU(compressed(bits, members), du, elements.codes[j] + in_plane[j]);
          in_plane[j] += hn::CountTrue(du, members);
        }
      }
    }
    for (size_t a = 0; a < active; ++a) {
      // A class in each half of the words.
      const hn::CappedTag<uint16_t, run_length / 2> dw;
      const auto first = hn::Set(dw, with.tokens[elements.bucket[a]]), low = hn::Set(dw, 255),
                 factor = hn::Set(dw, class_count);
      for (size_t t = 0; t < run_length / 2; t += hn::Lanes(dw)) {
        const auto pair =
            hn::LoadU(dw, reinterpret_cast<const uint16_t*>(elements.classes + a * run_length + 2 * t));
        const auto token = hn::Add(hn::And(pair, low), hn::Mul(hn::ShiftRight<8>(pair), factor));
        hn::StoreU(hn::Add(first, token), dw, token_ids + t);
      }
      token_ids += run_length / 2;
    }
    for (size_t l = 0; l < lanes; l += step) hn::StoreU(hn::Zero(du), du, elements.listed + listed + l);
    put_listed(elements.listed, listed, magnitude_ids, raw);
    magnitude_ids += listed;
    for (uint32_t j = 1; j < class_count; ++j)
      put_plane(elements.codes[j], in_plane[j], with.low_bits[j] + 1, planes[j]);
  }
  symbols.tokens = size_t(token_ids - symbols.token_ids);
  symbols.magnitudes = size_t(magnitude_ids - symbols.magnitude_ids);
  symbols.raw_bytes = raw.bytes_from(symbols.raw);
  for (uint32_t j = 1; j < class_count; ++j) {
    symbols.members[j] = above[j] - above[j + 1];
    if (with.plane_mask[j] != 0) symbols.plane_bytes[j] = planes[j].bytes_from(symbols.planes[j]);
  }
}

void code_all_runs(const RunCoding& with, const float* values, size_t runs, RunSymbols& symbols) {
  if (with.classes == 3)
    code<3>(with, values, runs, symbols);
  else
    code<4>(with, values, runs, symbols);
}

#else

constexpr bool has_runs = false;

void code_all_runs(const RunCoding&, const float*, size_t, RunSymbols&) {}

#endif

bool has_coding() {
  return has_runs;
}

}  // namespace jsq::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jsq::cpu {

HWY_EXPORT(has_coding);
HWY_EXPORT(code_all_runs);

bool codes_runs() {
  return HWY_DYNAMIC_DISPATCH(has_coding)();
}

void code_runs(const RunCoding& with, const float* values, size_t runs, RunSymbols& symbols) {
  HWY_DYNAMIC_DISPATCH(code_all_runs)(with, values, runs, symbols);
}

}  // namespace jsq::cpu
#endif

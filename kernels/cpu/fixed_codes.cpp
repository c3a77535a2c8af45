// Codes of any width by shifts of vectors and one shuffle of bytes. Whole registers are stored and loaded, so
// that the last octets, behind which nothing may be touched, are packed in a buffer of their own.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/fixed_codes.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cstring>

#include "kernels/cpu/fixed_codes.hpp"

HWY_BEFORE_NAMESPACE();
namespace jsq::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

void pack_octet(const int32_t* levels, uint32_t low, uint32_t width, uint8_t* bytes) {
  uint64_t window = 0;
  uint32_t held = 0;
  for (size_t i = 0; i < 8; ++i) {
    window = window << width | (uint32_t(levels[i]) - low);
    for (held += width; held >= 8; held -= 8) *bytes++ = uint8_t(window >> (held - 8));
  }
}

uint32_t unpack_octet(const uint8_t* bytes, uint32_t width, uint32_t low, int32_t* levels) {
  uint64_t window = 0;
  uint32_t held = 0, greatest = 0;
  for (size_t i = 0; i < 8; ++i) {
    for (; held < width; held += 8) window = window << 8 | *bytes++;
    held -= width;
    const uint32_t code = uint32_t(window >> held) & ((1u << width) - 1);
    greatest = std::max(greatest, code);
    levels[i] = int32_t(code + low);
  }
  return greatest;
}

#if HWY_TARGET != HWY_SCALAR

constexpr size_t block_bytes = 16;  ///< of a shuffle; an octet of codes is at most as long
constexpr uint8_t nothing = 0x80;

/// Octets at the front in whose place a whole block of bytes ends before the last of them does.
HWY_INLINE size_t octets_of_blocks(size_t octets, uint32_t width) {
  return octets * width >= block_bytes ? (octets * width - block_bytes) / width + 1 : 0;
}

/// Two numbers of half an octet each, in the low bits of 64-bit lanes, become the octet's bytes: the first
/// number, which where it ends within a byte was moved up to that byte's end, and the second one.
struct OctetShuffle {
  alignas(block_bytes) uint8_t first[block_bytes], second[block_bytes];
  constexpr explicit OctetShuffle(uint32_t width) : first(), second() {
    const uint32_t whole = width / 2, cut = width % 2;  // bytes of half an octet, and whether four bits more
    for (uint32_t i = 0; i < block_bytes; ++i) {
      first[i] = uint8_t(i < whole + cut ? whole + cut - 1 - i : nothing);
      second[i] = uint8_t(i >= whole && i < width ? 8 + width - 1 - i : nothing);
    }
  }
};

constexpr OctetShuffle octet_shuffles[] = {
    OctetShuffle(1),  OctetShuffle(2),  OctetShuffle(3),  OctetShuffle(4),
    OctetShuffle(5),  OctetShuffle(6),  OctetShuffle(7),  OctetShuffle(8),
    OctetShuffle(9),  OctetShuffle(10), OctetShuffle(11), OctetShuffle(12),
    OctetShuffle(13), OctetShuffle(14), OctetShuffle(15), OctetShuffle(16)};

/// The two halves of each lane become one number, the lower half its upper `bits`.
template <class D, class V>
HWY_INLINE V join_halves(D d64, V numbers, uint32_t bits) {
  const auto upper = hn::And(numbers, hn::Set(d64, 0xffffffffu));
  return hn::Or(hn::ShiftLeftSame(upper, int(bits)), hn::ShiftRight<32>(numbers));
}

/// Packs octets of which `safe` may write a whole block of bytes; returns how many were packed.
size_t pack_vectors(const int32_t* levels, size_t safe, uint32_t low, uint32_t width, uint8_t* bytes,
                    CodedBits& total) {
  const hn::CappedTag<uint32_t, 16> d;
  const hn::Repartition<uint64_t, decltype(d)> d64;
  const hn::Repartition<uint8_t, decltype(d)> d8;
  const size_t lanes = hn::Lanes(d), at_once = lanes / 4;  // octets of two vectors
  const OctetShuffle& shuffle = octet_shuffles[width - 1];
  const auto first = hn::LoadDup128(d8, shuffle.first), second = hn::LoadDup128(d8, shuffle.second);
  const auto both = hn::Min(first, second);  // where each byte is of one half
  const auto base = hn::Set(d, low);
  alignas(64) uint8_t packed[4 * block_bytes];
  auto any_level = hn::Zero(d), any_code = hn::Zero(d);
  // The lane of the first half of an octet is even.
  const auto is_first = hn::Eq(hn::And(hn::Iota(d64, 0), hn::Set(d64, 1)), hn::Zero(d64));
  const bool cut = width % 2 != 0;
  size_t k = 0;
  for (; k + at_once <= safe; k += at_once, levels += 2 * lanes) {
    const auto level0 = hn::BitCast(d, hn::LoadU(hn::RebindToSigned<decltype(d)>(), levels));
    const auto level1 = hn::BitCast(d, hn::LoadU(hn::RebindToSigned<decltype(d)>(), levels + lanes));
    const auto code0 = hn::Sub(level0, base), code1 = hn::Sub(level1, base);
    any_level = hn::Or3(any_level, level0, level1);
    any_code = hn::Or3(any_code, code0, code1);
    const auto pairs0 = join_halves(d64, hn::BitCast(d64, code0), width),
               pairs1 = join_halves(d64, hn::BitCast(d64, code1), width);
    const auto pairs = hn::ConcatEven(d, hn::BitCast(d, pairs1), hn::BitCast(d, pairs0));
    const auto halves = join_halves(d64, hn::BitCast(d64, pairs), 2 * width);
    if (cut) {
      const auto moved = hn::BitCast(d8, hn::IfThenElse(is_first, hn::ShiftLeft<4>(halves), halves));
      hn::Store(hn::Or(hn::TableLookupBytesOr0(moved, first), hn::TableLookupBytesOr0(moved, second)), d8,
                packed);
    } else {
      hn::Store(hn::TableLookupBytesOr0(hn::BitCast(d8, halves), both), d8, packed);
    }
    for (size_t b = 0; b < at_once; ++b)
      std::memcpy(bytes + (k + b) * width, packed + b * block_bytes, block_bytes);
  }
  uint32_t lane[16];
  hn::StoreU(any_level, d, lane);
  for (size_t l = 0; l < lanes; ++l) total.levels |= lane[l];
  hn::StoreU(any_code, d, lane);
  for (size_t l = 0; l < lanes; ++l) total.codes |= lane[l];
  return k;
}

/// Where the bytes and bits of the codes of an octet are: each in the upper bits of a 32-bit lane.
struct CodePlaces {
  alignas(2 * block_bytes) uint8_t bytes[2 * block_bytes];
  alignas(2 * block_bytes) uint32_t shifts[8];
  explicit CodePlaces(uint32_t width) {
    for (uint32_t i = 0; i < 8; ++i) {
      const uint32_t bit = i * width;
      for (uint32_t b = 0; b < 4; ++b) {
        const uint32_t byte = bit / 8 + 3 - b;
        bytes[4 * i + b] = uint8_t(byte < block_bytes ? byte : nothing);
      }
      shifts[i] = bit % 8;
    }
  }
};

/// Returns how many octets were unpacked.
size_t unpack_vectors(const uint8_t* bytes, size_t octets, uint32_t width, uint32_t low, int32_t* levels,
                      uint32_t& greatest) {
  const hn::CappedTag<uint32_t, 8> d;
  const hn::Repartition<uint8_t, decltype(d)> d8;
  constexpr size_t lanes = hn::MaxLanes(d), parts = 8 / lanes;
  const CodePlaces places(width);
  const auto base = hn::Set(d, low);
  auto most = hn::Zero(d);
  const size_t safe = octets_of_blocks(octets, width);
  for (size_t k = 0; k < safe; ++k, bytes += width, levels += 8) {
    const auto octet = hn::LoadDup128(d8, bytes);
    for (size_t p = 0; p < parts; ++p) {
      const auto place = hn::Load(d8, places.bytes + p * hn::MaxLanes(d8));
      const auto shift = hn::Load(d, places.shifts + p * lanes);
      const auto above = hn::Shl(hn::BitCast(d, hn::TableLookupBytesOr0(octet, place)), shift);
      const auto code = hn::ShiftRightSame(above, int(32 - width));
      most = hn::Max(most, code);
      hn::StoreU(hn::BitCast(hn::RebindToSigned<decltype(d)>(), hn::Add(code, base)),
                 hn::RebindToSigned<decltype(d)>(), levels + p * lanes);
    }
  }
  uint32_t lane[lanes];
  hn::StoreU(most, d, lane);
  for (uint32_t code : lane) greatest = std::max(greatest, code);
  return safe;
}

#endif

void pack(const int32_t* levels, size_t octets, uint32_t low, uint32_t width, uint8_t* bytes,
          CodedBits& total) {
  size_t k = 0;
#if HWY_TARGET != HWY_SCALAR
  k = pack_vectors(levels, octets_of_blocks(octets, width), low, width, bytes, total);
  // The last ones into a buffer with room behind them.
  uint8_t last[2 * block_bytes + 4 * most_code_bits];
  const size_t packed = pack_vectors(levels + 8 * k, octets - k, low, width, last, total);
  std::memcpy(bytes + k * width, last, packed * width);
  k += packed;
#endif
  for (; k < octets; ++k) {
    pack_octet(levels + 8 * k, low, width, bytes + k * width);
    for (size_t i = 8 * k; i < 8 * k + 8; ++i) {
      total.levels |= uint32_t(levels[i]);
      total.codes |= uint32_t(levels[i]) - low;
    }
  }
}

uint32_t unpack(const uint8_t* bytes, size_t octets, uint32_t width, uint32_t low, int32_t* levels) {
  uint32_t greatest = 0;
  size_t k = 0;
#if HWY_TARGET != HWY_SCALAR
  k = unpack_vectors(bytes, octets, width, low, levels, greatest);
#endif
  for (; k < octets; ++k)
    greatest = std::max(greatest, unpack_octet(bytes + k * width, width, low, levels + 8 * k));
  return greatest;
}

}  // namespace jsq::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jsq::cpu {

HWY_EXPORT(pack);
HWY_EXPORT(unpack);

CodedBits pack_codes(std::span<const int32_t> levels, int32_t low, uint32_t width, uint8_t* bytes) {
  CodedBits total;
  HWY_DYNAMIC_DISPATCH(pack)(levels.data(), levels.size() / 8, uint32_t(low), width, bytes, total);
  return total;
}

uint32_t unpack_codes(const uint8_t* bytes, uint32_t width, int32_t low, std::span<int32_t> levels) {
  return HWY_DYNAMIC_DISPATCH(unpack)(bytes, levels.size() / 8, width, uint32_t(low), levels.data());
}

}  // namespace jsq::cpu
#endif

// The AVX-512 level takes and places the bits of 32 levels by one instruction each; processors with AVX2
// alone may run those from microcode, so that the levels below use a table of fours and single bits.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/level_signs.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "kernels/cpu/level_signs.hpp"
#include "kernels/cpu/levels.hpp"

HWY_BEFORE_NAMESPACE();
namespace jsq::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

constexpr size_t half = 32;

#if HWY_TARGET <= HWY_AVX3

/// Bit i becomes bit 63 - i.
HWY_INLINE uint64_t reversed(uint64_t bits) {
  bits = (bits & 0x5555555555555555u) << 1 | (bits >> 1 & 0x5555555555555555u);
  bits = (bits & 0x3333333333333333u) << 2 | (bits >> 2 & 0x3333333333333333u);
  bits = (bits & 0x0f0f0f0f0f0f0f0fu) << 4 | (bits >> 4 & 0x0f0f0f0f0f0f0f0fu);
  return __builtin_bswap64(bits);
}

/// The bits of `negative` where `nonzero` has ones, from the top down.
HWY_INLINE uint64_t gather_signs(uint32_t nonzero, uint32_t negative) {
  return reversed(_pext_u64(negative, nonzero));
}

/// Levels of 32 magnitudes and the signs from the top of `window` down; returns how many of them there were.
HWY_INLINE uint32_t restore_half(const uint8_t* magnitudes, uint64_t window, int32_t* levels) {
  const hn::FixedTag<uint8_t, half> d8;
  const hn::FixedTag<uint8_t, half / 2> d8_half;
  const hn::FixedTag<int32_t, half / 2> di;
  alignas(8) uint8_t bits[8] = {};
  hn::StoreMaskBits(d8, hn::Ne(hn::LoadU(d8, magnitudes), hn::Zero(d8)), bits);
  uint32_t nonzero;
  std::memcpy(&nonzero, bits, sizeof nonzero);
  const auto negative = uint32_t(_pdep_u64(reversed(window), nonzero));
  std::memcpy(bits, &negative, sizeof negative);
  for (size_t k = 0; k < 2; ++k) {
    const auto level = hn::PromoteTo(di, hn::LoadU(d8_half, magnitudes + half / 2 * k));
    const auto minus = hn::LoadMaskBits(di, bits + 2 * k);
    hn::StoreU(hn::IfThenElse(minus, hn::Neg(level), level), di, levels + half / 2 * k);
  }
  return uint32_t(std::popcount(nonzero));
}

#else

/// The sign bits of four levels, the first one the most significant, by which of them are not zero and which
/// are negative.
struct FourSigns {
  uint8_t bits, count;
};
constexpr auto four_signs = [] {
  std::array<FourSigns, 256> table{};
  for (uint32_t nonzero = 0; nonzero < 16; ++nonzero)
    for (uint32_t negative = 0; negative < 16; ++negative)
      for (uint32_t k = 0; k < 4; ++k) {
        if (!(nonzero >> k & 1)) continue;
        FourSigns& signs = table[nonzero << 4 | negative];
        signs.bits = uint8_t(signs.bits << 1 | (negative >> k & 1));
        ++signs.count;
      }
  return table;
}();

HWY_INLINE uint64_t gather_signs(uint32_t nonzero, uint32_t negative) {
  uint64_t window = 0;
  uint32_t filled = 0;
  for (uint32_t k = 0; k < 8; ++k, nonzero >>= 4, negative >>= 4) {
    const FourSigns signs = four_signs[(nonzero & 15) << 4 | (negative & 15)];
    filled += signs.count;
    window |= uint64_t(signs.bits) << (64 - filled) % 64;  // nothing yet and nothing to put: 0 << 0
  }
  return window;
}

HWY_INLINE uint32_t restore_half(const uint8_t* magnitudes, uint64_t window, int32_t* levels) {
  uint32_t count = 0;
  for (size_t i = 0; i < half; ++i) {
    const uint32_t present = magnitudes[i] != 0, negative = uint32_t(window >> 63) & present;
    levels[i] = int32_t((magnitudes[i] ^ (0u - negative)) + negative);
    window <<= present;
    count += present;
  }
  return count;
}

#endif

void pack(const int32_t* levels, size_t n, char* out) {
  constexpr size_t batch = 4096;
  uint64_t window = 0, nonzero[batch / 64], negative[batch / 64];
  uint32_t filled = 0;
  for (size_t first = 0; first < n; first += batch) {
    const size_t count = n - first < batch ? n - first : batch;
    level_masks({levels + first, count}, nonzero, negative);
    for (size_t w = 0; w < (count + 63) / 64; ++w)
      for (uint32_t shift = 0; shift < 64; shift += half) {
        const auto present = uint32_t(nonzero[w] >> shift);
        window |= gather_signs(present, uint32_t(negative[w] >> shift)) >> filled;
        filled += uint32_t(std::popcount(present));
        const uint64_t word = __builtin_bswap64(window);
        std::memcpy(out, &word, sizeof(word));
        out += filled / 8;
        window <<= filled / 8 * 8;
        filled %= 8;
      }
  }
}

uint64_t restore(const uint8_t* magnitudes, size_t n, const char* signs, size_t bytes, int32_t* levels) {
  uint64_t at = 0;  // in bits
  const auto next_bits = [&] {
    uint64_t word = 0;
    const size_t byte = size_t(at / 8);
    if (bytes >= 8 && byte <= bytes - 8)
      std::memcpy(&word, signs + byte, sizeof word);
    else if (byte < bytes)
      std::memcpy(&word, signs + byte, bytes - byte < 8 ? bytes - byte : 8);
    return __builtin_bswap64(word) << at % 8;
  };
  size_t i = 0;
  for (; i + half <= n; i += half) at += restore_half(magnitudes + i, next_bits(), levels + i);
  if (i == n) return at;
  uint8_t last_magnitudes[half] = {};
  int32_t last_levels[half];
  std::memcpy(last_magnitudes, magnitudes + i, n - i);
  at += restore_half(last_magnitudes, next_bits(), last_levels);
  std::memcpy(levels + i, last_levels, (n - i) * sizeof(int32_t));
  return at;
}

}  // namespace jsq::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jsq::cpu {

HWY_EXPORT(pack);
HWY_EXPORT(restore);

void pack_level_signs(std::span<const int32_t> levels, char* out) {
  HWY_DYNAMIC_DISPATCH(pack)(levels.data(), levels.size(), out);
}

uint64_t restore_level_signs(std::span<const uint8_t> magnitudes, std::string_view signs,
                             std::span<int32_t> levels) {
  return HWY_DYNAMIC_DISPATCH(restore)(magnitudes.data(), magnitudes.size(), signs.data(), signs.size(),
                                       levels.data());
}

}  // namespace jsq::cpu
#endif

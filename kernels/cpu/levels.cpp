#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/levels.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cstring>

#include "kernels/cpu/levels.hpp"

HWY_BEFORE_NAMESPACE();
namespace jsq::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

LevelBounds bounds(const int32_t* levels, size_t n) {
  int32_t least = levels[0], greatest = levels[0];
  for (size_t i = 0; i < n; ++i) {
    least = levels[i] < least ? levels[i] : least;
    greatest = levels[i] > greatest ? levels[i] : greatest;
  }
  return {least, greatest};
}

/// Symbols that are compared with each byte rather than looked up by it, which takes two to three cycles a
/// level however few symbols there are.
constexpr size_t compared_symbols = HWY_TARGET <= HWY_AVX3 ? 48 : HWY_CAP_GE256 ? 16 : 0;

/// Up to 256 symbols: eight levels become one word of bytes, which is taken apart faster than eight levels
/// are read.
void count_bytes(const int32_t* levels, size_t n, int32_t low, size_t symbols, uint32_t* tables) {
  constexpr size_t batch = 256;
  alignas(64) uint8_t codes[batch];
  size_t at = 0;
  for (; at + batch <= n; at += batch) {
    for (size_t i = 0; i < batch; ++i) codes[i] = uint8_t(uint32_t(levels[at + i]) - uint32_t(low));
    if (symbols <= compared_symbols) {
      const hn::CappedTag<uint8_t, 64> d;
      for (size_t s = 0; s < symbols; ++s) {
        const auto symbol = hn::Set(d, uint8_t(s));
        size_t found = 0;
        for (size_t i = 0; i < batch; i += hn::Lanes(d))
          found += hn::CountTrue(d, hn::Eq(hn::Load(d, codes + i), symbol));
        tables[s] += uint32_t(found);
      }
      continue;
    }
    for (size_t i = 0; i < batch; i += 8) {
      uint64_t word;
      std::memcpy(&word, codes + i, sizeof(word));
      for (size_t k = 0; k < 8; ++k) ++tables[(k % level_tables) * symbols + (word >> (8 * k) & 255)];
    }
  }
  for (; at < n; ++at) ++tables[uint32_t(levels[at]) - uint32_t(low)];
}

/// More symbols, up to 65,536: the same with four codes a word.
void count_words(const int32_t* levels, size_t n, int32_t low, size_t symbols, uint32_t* tables) {
  constexpr size_t batch = 256;
  alignas(64) uint16_t codes[batch];
  size_t at = 0;
  for (; at + batch <= n; at += batch) {
    for (size_t i = 0; i < batch; ++i) codes[i] = uint16_t(uint32_t(levels[at + i]) - uint32_t(low));
    for (size_t i = 0; i < batch; i += 4) {
      uint64_t word;
      std::memcpy(&word, codes + i, sizeof(word));
      for (size_t k = 0; k < 4; ++k) ++tables[(k % level_tables) * symbols + (word >> (16 * k) & 65535)];
    }
  }
  for (; at < n; ++at) ++tables[uint32_t(levels[at]) - uint32_t(low)];
}

/// The masks of up to 64 levels.
HWY_INLINE void masks_of_word(const int32_t* levels, size_t n, uint64_t& nonzero, uint64_t& negative) {
  uint64_t any = 0, minus = 0;
  for (size_t k = 0; k < n; ++k) {
    any |= uint64_t(levels[k] != 0) << k;
    minus |= uint64_t(levels[k] < 0) << k;
  }
  nonzero = any;
  negative = minus;
}

void masks(const int32_t* levels, size_t n, uint64_t* nonzero, uint64_t* negative) {
  size_t i = 0;
#if HWY_CAP_GE256
  // Bits go straight to their bytes: a word that was put together from bytes would wait for their stores.
  const hn::CappedTag<int32_t, 16> d;
  const auto zero = hn::Zero(d);
  auto* any = reinterpret_cast<uint8_t*>(nonzero);
  auto* minus = reinterpret_cast<uint8_t*>(negative);
  for (; i + 64 <= n; i += 64)
    for (size_t k = i; k < i + 64; k += hn::Lanes(d)) {
      const auto v = hn::LoadU(d, levels + k);
      hn::StoreMaskBits(d, hn::Ne(v, zero), any + k / 8);
      hn::StoreMaskBits(d, hn::Lt(v, zero), minus + k / 8);
    }
#endif
  for (; i < n; i += 64)
    masks_of_word(levels + i, n - i < 64 ? n - i : 64, nonzero[i / 64], negative[i / 64]);
}

void tokens_of(const int32_t* HWY_RESTRICT levels, size_t n, uint32_t direct, uint32_t offset,
               uint16_t* HWY_RESTRICT tokens) {
  for (size_t i = 0; i < n; ++i) {
    const auto sign = uint32_t(levels[i] >> 31);
    const uint32_t magnitude = (uint32_t(levels[i]) ^ sign) - sign;
    tokens[i] = uint16_t(magnitude_token(magnitude, direct, offset));
  }
}

}  // namespace jsq::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jsq::cpu {

HWY_EXPORT(bounds);
HWY_EXPORT(count_bytes);
HWY_EXPORT(count_words);
HWY_EXPORT(masks);
HWY_EXPORT(tokens_of);

LevelBounds level_bounds(std::span<const int32_t> levels) {
  if (levels.empty()) return {};
  return HWY_DYNAMIC_DISPATCH(bounds)(levels.data(), levels.size());
}

void count_levels(std::span<const int32_t> levels, int32_t low, size_t symbols, uint32_t* tables) {
  if (symbols <= 256)
    return HWY_DYNAMIC_DISPATCH(count_bytes)(levels.data(), levels.size(), low, symbols, tables);
  if (symbols <= 65536)
    return HWY_DYNAMIC_DISPATCH(count_words)(levels.data(), levels.size(), low, symbols, tables);
  for (size_t i = 0; i < levels.size(); ++i)
    ++tables[(i % level_tables) * symbols + (uint32_t(levels[i]) - uint32_t(low))];
}

void level_masks(std::span<const int32_t> levels, uint64_t* nonzero, uint64_t* negative) {
  HWY_DYNAMIC_DISPATCH(masks)(levels.data(), levels.size(), nonzero, negative);
}

void magnitude_tokens(std::span<const int32_t> levels, uint32_t direct, uint32_t offset, uint16_t* tokens) {
  HWY_DYNAMIC_DISPATCH(tokens_of)(levels.data(), levels.size(), direct, offset, tokens);
}

}  // namespace jsq::cpu
#endif

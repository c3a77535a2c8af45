#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/signs.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <array>

#include "kernels/cpu/signs.hpp"
#include "kernels/element/float_bits.hpp"

HWY_BEFORE_NAMESPACE();
namespace jsq::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

#if HWY_CAP_GE256
constexpr auto reversed_bits = [] {
  std::array<uint8_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte)
    for (uint32_t bit = 0; bit < 8; ++bit)
      table[byte] = uint8_t(table[byte] | (byte >> bit & 1) << (7 - bit));
  return table;
}();
#endif

HWY_INLINE uint8_t signs_of_eight(const float* values, size_t count) {
  uint32_t byte = 0;
  for (size_t i = 0; i < count; ++i) byte |= uint32_t(values[i] < 0) << (7 - i);
  return uint8_t(byte);
}

size_t pack(const float* HWY_RESTRICT values, size_t count, uint8_t* HWY_RESTRICT bytes) {
  size_t i = 0, negatives = 0;
#if HWY_CAP_GE256
  // Masks have the first lane in their lowest bit; a table turns each byte round.
  const hn::CappedTag<float, 16> d;
  constexpr size_t batch = 64;
  for (; i + batch <= count; i += batch) {
    uint64_t word = 0;
    uint8_t bits[8];
    for (size_t k = 0; k < batch; k += hn::Lanes(d)) {
      hn::StoreMaskBits(d, hn::Lt(hn::LoadU(d, values + i + k), hn::Zero(d)), bits);
      for (size_t b = 0; b < hn::Lanes(d) / 8; ++b) word |= uint64_t(bits[b]) << (k + 8 * b);
    }
    negatives += size_t(__builtin_popcountll(word));
    for (size_t b = 0; b < 8; ++b) bytes[i / 8 + b] = reversed_bits[word >> (8 * b) & 255];
  }
#endif
  for (; i < count; i += 8) {
    const uint8_t byte = signs_of_eight(values + i, count - i < 8 ? count - i : 8);
    bytes[i / 8] = byte;
    negatives += size_t(__builtin_popcount(byte));
  }
  return negatives;
}

void unpack(const uint8_t* HWY_RESTRICT bytes, float magnitude, float* HWY_RESTRICT values, size_t count) {
  const uint32_t bits = element::bits_as<uint32_t>(magnitude);
  uint32_t* HWY_RESTRICT out = reinterpret_cast<uint32_t*>(values);
  size_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const uint32_t two = uint32_t(bytes[i / 8]) << 8 | bytes[i / 8 + 1];
    for (uint32_t l = 0; l < 16; ++l) out[i + l] = bits ^ (two << (16 + l) & 0x80000000u);
  }
  for (; i < count; ++i) out[i] = bits ^ (uint32_t(bytes[i / 8]) << (24 + i % 8) & 0x80000000u);
}

}  // namespace jsq::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jsq::cpu {

HWY_EXPORT(pack);
HWY_EXPORT(unpack);

size_t pack_signs(std::span<const float> values, uint8_t* bytes) {
  return HWY_DYNAMIC_DISPATCH(pack)(values.data(), values.size(), bytes);
}

void values_of_signs(const uint8_t* bytes, float magnitude, std::span<float> values) {
  HWY_DYNAMIC_DISPATCH(unpack)(bytes, magnitude, values.data(), values.size());
}

}  // namespace jsq::cpu
#endif

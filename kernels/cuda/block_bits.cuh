// The bits of a block that lies anywhere in device memory.
#pragma once

#include <cstdint>

namespace jsq::cuda {

/// The bytes of a block, read as aligned words. Bits beyond the end are anything, and reading them moves
/// beyond the end, which nobody takes for sound; no word without a byte of the block is touched.
struct BlockBits {
  const uint32_t* words;
  uint32_t offset;  ///< bits of the first word before the block
  uint32_t last;    ///< word
  uint32_t size;    ///< bytes

  __device__ BlockBits(const uint8_t* data, uint32_t bytes)
      : words(reinterpret_cast<const uint32_t*>(reinterpret_cast<uint64_t>(data) & ~uint64_t(3))),
        offset(8 * uint32_t(reinterpret_cast<uint64_t>(data) & 3)),
        last((offset + 8 * bytes - 1) / 32),
        size(bytes) {}
  __device__ uint32_t word(uint32_t at) const { return at <= last ? __byte_perm(words[at], 0, 0x0123) : 0u; }
  /// `count` <= 32 bits at bit `position`.
  __device__ uint32_t bits(uint32_t position, uint32_t count) const {
    const uint32_t at = (position + offset) / 32, shift = (position + offset) % 32;
    uint64_t window = uint64_t(word(at)) << 32;
    if (shift + count > 32) window |= word(at + 1);
    return count == 0 ? 0u : uint32_t(window << shift >> (64 - count));
  }
  /// Whether the bits from `position` to the next byte are zeros.
  __device__ bool padded(uint32_t position) const {
    return (position & 7) == 0 || bits(position, 8 - (position & 7)) == 0;
  }
};

}  // namespace jsq::cuda

// How the levels of a level block are written (SPEC.md, "Level blocks"): the packers' numbers, Elias' omega
// code and the tokens of the entropy coder, which encoders and decoders of every processor share.
#pragma once

#include <cstdint>

#include "kernels/element/bit_length.hpp"
#include "kernels/element/float_bits.hpp"
#include "kernels/element/hostdevice.hpp"

namespace jsq::element {

/// The numbers are those of the wire format.
enum class LevelPacker : uint8_t {
  fixed = 0,         ///< ceil(log2 A) bits a level
  base243 = 1,       ///< five levels of three in a byte
  elias_sparse = 2,  ///< gap, sign and magnitude of each level that is not zero (QSGD for few levels)
  elias_dense = 3,   ///< magnitude and sign of every level (QSGD for many levels)
  entropy = 4,       ///< rANS-coded magnitude tokens, then signs and low bits
};
constexpr uint32_t level_packers = 5;

/// A code in the low `length` bits of `bits`, to be sent most significant bit first.
struct OmegaCode {
  uint64_t bits;
  uint32_t length;
};

/// Elias' omega code of `value`, at most 43 bits.  \pre value >= 1
JSQ_HD constexpr OmegaCode omega_code(uint32_t value) {
  OmegaCode code{0, 1};
  for (uint32_t n = value; n > 1; n = bit_length(n) - 1) {
    code.bits |= uint64_t(n) << code.length;
    code.length += bit_length(n);
  }
  return code;
}

/// The magnitude itself below `direct`, otherwise offset + its binary length, which is the exponent of the
/// exact float; the choice is a mask, so that loops become vectors.  \pre magnitude < 2^14
JSQ_HD uint32_t magnitude_token(uint32_t magnitude, uint32_t direct, uint32_t offset) {
  const uint32_t length = (bits_as<uint32_t>(float(int32_t(magnitude))) >> 23) - 126;
  const uint32_t is_small = 0u - uint32_t(magnitude < direct);
  return (magnitude & is_small) | ((offset + length) & ~is_small);
}

/// How magnitudes become tokens: those below `direct` are their own, the others are offset + their binary
/// length.
struct TokenScheme {
  uint32_t direct;
  uint32_t offset;
  JSQ_HD uint32_t token(uint32_t magnitude) const { return magnitude_token(magnitude, direct, offset); }
  /// Bits of the magnitude below the token.
  JSQ_HD uint32_t raw_bits(uint32_t token) const { return token < direct ? 0 : token - offset - 1; }
  JSQ_HD uint32_t first_magnitude(uint32_t token) const {
    return token < direct ? token : 1u << raw_bits(token);
  }
};
constexpr TokenScheme token_schemes[] = {{16, 11}, {8, 4}, {4, 1}};

}  // namespace jsq::element

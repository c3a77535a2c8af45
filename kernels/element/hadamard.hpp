// A randomized Hadamard rotation: its random signs, element by element, and the padding of its last block.
#pragma once

#include <cstdint>

#include "kernels/element/bit_length.hpp"
#include "kernels/element/float_bits.hpp"
#include "kernels/element/hostdevice.hpp"

namespace jsq::element {

/// Elements that share a random word (RandomPurpose::signs), a bit each.
constexpr uint32_t signs_of_word = 32;

/// The bit of this element, storage index modulo signs_of_word, of the word that it shares, as bit 31.
JSQ_HD uint32_t sign_of_word(uint32_t word, uint32_t element) {
  return word << (signs_of_word - 1 - element);
}

/// g, negated when bit 31 of `word` is set. Its own inverse.
JSQ_HD float with_random_sign(float g, uint32_t word) {
  return bits_as<float>(bits_as<uint32_t>(g) ^ (word & 0x80000000u));
}

/// Elements with the padding of the last Hadamard block, to the next power of two of what is left for it.
/// \pre block_log2 <= 31
JSQ_HD uint64_t padded_length(uint64_t elements, uint32_t block_log2) {
  const auto rest = uint32_t(elements & ((uint64_t(1) << block_log2) - 1));
  return rest == 0 ? elements : elements - rest + (uint64_t(1) << bit_length(rest - 1));
}

}  // namespace jsq::element

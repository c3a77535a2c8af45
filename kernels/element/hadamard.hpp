// The random signs of a randomized Hadamard rotation, element by element.
#pragma once

#include <cstdint>

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

}  // namespace jsq::element

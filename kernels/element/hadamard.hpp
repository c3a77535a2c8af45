// The random signs of a randomized Hadamard rotation, element by element.
#pragma once

#include <cstdint>

#include "kernels/element/float_bits.hpp"
#include "kernels/element/hostdevice.hpp"

namespace jsq::element {

/// g, negated when bit 31 of its random word (RandomPurpose::signs) is set. Its own inverse.
JSQ_HD float with_random_sign(float g, uint32_t word) {
  return bits_as<float>(bits_as<uint32_t>(g) ^ (word & 0x80000000u));
}

}  // namespace jsq::element

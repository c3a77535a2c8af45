// Samples that stand in step with nothing: of every group of neighbours, one at a place of its own.
#pragma once

#include <cstdint>

namespace jsq {

/// The place in [0, size) of the one that is taken of group i. Multiples of the golden ratio are spread
/// evenly, so that no period of the data meets that of the choice.  \pre size < 2^32
constexpr uint64_t scattered_place(uint64_t i, uint64_t size) {
  constexpr uint32_t golden = 0x9E3779B9;  // 2^32 times the golden ratio's fraction
  return uint64_t(uint32_t(i) * golden) * size >> 32;
}

}  // namespace jsq

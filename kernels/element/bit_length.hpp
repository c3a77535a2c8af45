// Binary lengths of integers.
#pragma once

#include <cstdint>

#include "kernels/element/hostdevice.hpp"

namespace jsq::element {

/// Bits of the binary form without leading zeros: 0 for 0, 1 for 1, 2 for 2 and 3.
JSQ_HD constexpr uint32_t bit_length(uint32_t value) {
#if defined(__CUDA_ARCH__)
  return 32u - uint32_t(__clz(int(value)));
#else
  return value == 0 ? 0u : 32u - uint32_t(__builtin_clz(value));
#endif
}

}  // namespace jsq::element

// Products of f32 numbers added up in double. Such a product is exact, so that a fused multiply-add, which
// rounds once, gives the bits of a product and a sum: the SIMD levels that have one may use it, and every
// level agrees.
#pragma once

#include <hwy/base.h>
#include <hwy/detect_targets.h>

#include <cstdint>

namespace jsq::cpu {

/// Whether the SIMD level of this Highway target multiplies and adds in one instruction.
constexpr bool multiplies_and_adds(int64_t target) {
  return HWY_ARCH_X86 ? target <= HWY_AVX2 : HWY_ARCH_ARM_A64 && target <= HWY_NEON;
}

/// sum + a b. `a` and `b` are numbers of f32, so that a b has at most 48 bits and is far from double's
/// limits.
template <bool fused>
HWY_INLINE double add_exact_product(double sum, double a, double b) {
  if constexpr (fused) return __builtin_fma(a, b, sum);
  return sum + a * b;
}

}  // namespace jsq::cpu

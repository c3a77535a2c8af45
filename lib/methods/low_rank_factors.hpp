// Two thin factors as a frame holds them.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/element/float_bits.hpp"
#include "lib/core/bytes.hpp"
#include "lib/methods/low_rank.hpp"

namespace jsq {

/// values = outer row . inner row x 2^exponent.
struct StoredFactors {
  FactorType type = FactorType::f32;
  bool seeded = false;  ///< the inner factor is the seed's
  size_t rank = 0;
  int exponent = 0;
  std::vector<float> inner, outer;  ///< column by column; of a decoder, inner only
};

constexpr float largest_factor_number = 65504;

inline size_t number_bytes(FactorType type) {
  return type == FactorType::f16 ? 2 : 4;
}

inline float read_number(FactorType type, ByteReader& in) {
  const float number = type == FactorType::f16 ? element::f16_to_f32(in.u16()) : in.f32();
  if (!(std::fabs(number) <= largest_factor_number)) in.damaged("a factor's number is not of the range");
  return number;
}

/// Runs that `count` elements from `first` on have a part of.
inline uint64_t touched_runs(const MatrixView& view, uint64_t first, size_t count) {
  return (first + count - 1) / view.inner() - first / view.inner() + 1;
}

}  // namespace jsq

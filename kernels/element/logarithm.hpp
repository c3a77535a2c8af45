// A natural logarithm by correctly rounded operations alone: libraries differ in its last bits from processor
// to processor.
#pragma once

#include <cstdint>

#include "kernels/element/float_bits.hpp"

namespace jsq::element {

/// ln x of a positive finite number, to about 2^-51 of it or of 1.
JSQ_HD double natural_logarithm(float x) {
  constexpr uint64_t fraction = (uint64_t(1) << 52) - 1, one = uint64_t(1023) << 52;
  constexpr double root_of_two = 0x1.6a09e667f3bcdp+0, ln_two = 0x1.62e42fefa39efp-1;
  const uint64_t bits = bits_as<uint64_t>(double(x));  // normal, even where x is not
  double exponent = double(int64_t(bits >> 52) - 1023), m = bits_as<double>((bits & fraction) | one);
  if (m > root_of_two) {
    m *= 0.5;
    exponent += 1;
  }
  // ln m = 2 artanh s = 2 (s + s^3 / 3 + s^5 / 5 + ...), |s| <= 0.172.
  const double s = (m - 1) / (m + 1), z = s * s;
  constexpr int terms = 11;
  double series = 0;
  for (int k = terms; k > 0; --k) series = series * z + 1.0 / double(2 * k + 1);
  return exponent * ln_two + 2 * (s + s * z * series);
}

}  // namespace jsq::element

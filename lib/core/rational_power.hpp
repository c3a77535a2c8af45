// x^(p/q) from products alone, so that it is the same on every machine: what may decide bytes where pow may
// not.
#pragma once

#include <cstdint>

namespace jsq {

/// base^(numerator / denominator) for base in (0, 1], by bisection.
inline double rational_power(double base, uint64_t numerator, uint64_t denominator) {
  const auto power = [](double x, uint64_t exponent) {
    double result = 1;
    for (; exponent > 0; exponent >>= 1, x *= x)
      if (exponent & 1) result *= x;
    return result;
  };
  const double wanted = power(base, numerator);
  double low = 0, high = 1;
  for (int round = 0; round < 60; ++round) {
    const double middle = (low + high) / 2;
    (power(middle, denominator) <= wanted ? low : high) = middle;
  }
  return low;
}

}  // namespace jsq

// How transforms of parts are undone (SPEC.md, "Transforms"): in integers of 1/256 step, up to the value.
#pragma once

#include <cstdint>

#include "kernels/element/hostdevice.hpp"

namespace jsq::element {

/// Largest magnitude that has a value.
constexpr int64_t most_units = (int64_t(1) << 37) - 1;

/// An integer's value; `factor`: 1/256 step. The product is exact.
JSQ_HD float value_of_units(double units, double factor) {
  constexpr auto most = double(most_units);
  constexpr double largest = 0x1.fffffep127;
  const double within = units < -most ? -most : most < units ? most : units, value = within * factor;
  return float(value < -largest ? -largest : largest < value ? largest : value);
}

/// The prediction of a sum of products of factors.
JSQ_HD constexpr int64_t prediction_of_sum(int64_t sum) {
  return (sum + (int64_t(1) << 15)) >> 16;
}

/// Largest magnitude of a coefficient of a cosine transform; what is beyond is cut.
constexpr int64_t most_coefficient = int64_t(1) << 34;
JSQ_HD constexpr int64_t cut_coefficient(int64_t x) {
  return x < -most_coefficient ? -most_coefficient : most_coefficient < x ? most_coefficient : x;
}
/// Fraction bits of coefficients between the axes of a kernel, added first and taken last.
constexpr int cosine_fraction_bits = 8;
JSQ_HD constexpr int64_t without_fraction(int64_t x) {
  return (x + (int64_t(1) << (cosine_fraction_bits - 1))) >> cosine_fraction_bits;
}
/// Along an axis, the other way: of the sum of numbers times their cosines.
JSQ_HD constexpr double coefficient_of_sum(double sum) {
  return sum * 0x1p-16;
}
/// As lines hold it that low-rank factors are found from.
JSQ_HD constexpr float number_of_line(double x) {
  constexpr double largest = 0x1.fffffep127;
  return float(x < -largest ? -largest : largest < x ? largest : x);
}
/// Along an axis: of the sum of coefficients times their cosines, which have 16 bits of fraction.
JSQ_HD constexpr int64_t element_of_sum(int64_t sum) {
  return (sum + (int64_t(1) << 15)) >> 16;
}

}  // namespace jsq::element

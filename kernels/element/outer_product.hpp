// What a sum of outer products of thin factors is multiplied by: a power of two, in f32 where no product can
// leave its range, else in double.
#pragma once

#include <cstdint>

#include "kernels/element/dither.hpp"
#include "kernels/element/table_rounding.hpp"

namespace jsq::element {

struct OuterScale {
  bool in_range = true;
  float scale = 1;    ///< of sums in f32, always
  double factor = 1;  ///< after that, where the exponent is not in range
};
/// \pre -1022 <= exponent <= 1023
JSQ_HD OuterScale outer_scale(int32_t exponent) {
  OuterScale scale;
  scale.in_range = exponent >= -126 && exponent <= 40;
  if (scale.in_range)
    scale.scale = power_of_two(exponent);
  else
    scale.factor = double_power_of_two(exponent);
  return scale;
}
JSQ_HD float scaled_outer(const OuterScale& scale, float sum) {
  const float value = sum * scale.scale;
  return scale.in_range ? value : scaled_finite(value, scale.factor);
}

}  // namespace jsq::element

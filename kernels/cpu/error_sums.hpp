// What a report needs to know about decoded values: sums of their errors, formed in a defined order.
#pragma once

#include <span>

namespace jsq::cpu {

struct ErrorSums {
  double squared_error = 0;   ///< sum of (decoded - value)^2
  double dot = 0;             ///< sum of value * decoded
  double decoded_energy = 0;  ///< sum of decoded^2
  double error_sum = 0;       ///< sum of decoded - value
  double max_error = 0;       ///< largest |decoded - value|
};

/// The sums over two spans of one size. In each stretch of 65,536 elements lane l adds elements l, l + 16,
/// ... in double, the 16 lanes are folded by halving, and stretches are added left to right: the order of
/// distortion(), at any size and SIMD level.
ErrorSums error_sums(std::span<const float> values, std::span<const float> decoded);

}  // namespace jsq::cpu

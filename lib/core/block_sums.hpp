// Sums that coding a block leaves behind: the error of its decoded values and the energy of each class.
#pragma once

#include <algorithm>
#include <array>

#include "kernels/element/class_plan.hpp"

namespace jsq {

/// Sums of one block; they are added blocks left to right, so that every thread count gives the same figures.
struct BlockSums {
  std::array<uint64_t, element::max_classes> members{};     ///< kept elements of each class
  std::array<double, element::max_classes> class_energy{};  ///< sum of g^2 (methods without classes use none)
  double squared_error = 0;                                 ///< sum of (g - g^)^2, dropped elements included
  double dot = 0;                                           ///< sum of g g^
  double decoded_energy = 0;                                ///< sum of g^^2
  double error_sum = 0;                                     ///< sum of g^ - g
  double max_error = 0;
  uint64_t nominal_bits = 0;  ///< as the method's paper counts
  double entropy_bits = 0;    ///< empirical entropy of the symbols, scales included
  double expected_error =
      0;  ///< expectation of squared_error over the rounding, before the stored dtype rounds

  void add(const BlockSums& next) {
    for (size_t j = 0; j < class_energy.size(); ++j) {
      members[j] += next.members[j];
      class_energy[j] += next.class_energy[j];
    }
    squared_error += next.squared_error;
    dot += next.dot;
    decoded_energy += next.decoded_energy;
    error_sum += next.error_sum;
    max_error = std::max(max_error, next.max_error);
    nominal_bits += next.nominal_bits;
    entropy_bits += next.entropy_bits;
    expected_error += next.expected_error;
  }
};

}  // namespace jsq

// The default quantizer (cell) over the kept elements of a block, with the errors it makes, vectorised.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/element/class_plan.hpp"

namespace jsq::cpu {

/// Sums over kept elements, in double: 16 lanes (kept element k on lane k mod 16), folded by halving.
struct KeptSums {
  uint64_t members[element::max_classes] = {};
  double class_energy[element::max_classes] = {};
  double squared_error = 0, dot = 0, decoded_energy = 0, error_sum = 0, max_error = 0;
};

/// codes[k] and kept_classes[k] of values[kept[k]], whose class is classes[kept[k]]; sums of the errors of
/// the cells' centres. \pre plan.quantizer is cell. The code words equal quantize_in_class.
KeptSums quantize_cells(const element::ClassPlan& plan, const float* values, const uint8_t* classes,
                        std::span<const uint32_t> kept, uint8_t* kept_classes, uint8_t* codes);

/// The code words and classes alone.
void code_cells(const element::ClassPlan& plan, const float* values, const uint8_t* classes,
                std::span<const uint32_t> kept, uint8_t* kept_classes, uint8_t* codes);

}  // namespace jsq::cpu

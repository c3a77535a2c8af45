// What coding a population by classes is expected to lose, from the histogram of its magnitudes alone.
#pragma once

#include "kernels/element/class_plan.hpp"
#include "lib/allocators/magnitude_index.hpp"

namespace jsq {

/// The sum of (g - g^)^2, the magnitudes of a cell being spread evenly over its keys but for the largest of
/// all, which is known. Cutoffs inside ties are not looked at.  \pre a quantizer that rounds to nearest
double modelled_squared_error(const MagnitudeIndex& index, const element::ClassPlan& plan);

}  // namespace jsq

// rdoq's plans for an error target: the fewest bytes that meet it.
#pragma once

#include "jsq/target.hpp"
#include "lib/methods/rdoq_choice.hpp"
#include "lib/methods/rdoq_coding.hpp"

namespace jsq {

/// For nmse or cosine: chooses transforms, too.  \throws Error unreachable_target.
RdoqPlan plan_for_loss(RdoqCoding& coding, TransformChooser& chooser, const Target& target);
/// For maxabs, below the largest value. Without transforms: errors of coefficients add up in an element.
/// \throws Error unreachable_target.
RdoqPlan plan_for_largest_error(RdoqCoding& coding, const Target& target);

}  // namespace jsq

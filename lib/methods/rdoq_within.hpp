// rdoq's plans for a budget: the step and the weight of a bit that come closest to it from below, for the
// transforms and layouts that there are.
#pragma once

#include <optional>

#include "lib/methods/rdoq_coding.hpp"

namespace jsq {

/// The plan that comes closest to `wanted` bytes from below; nothing where none fits.
std::optional<RdoqMeasured> fullest_within(RdoqCoding& coding, double wanted);
/// The same at the present weight of a bit, in so many attempts.
std::optional<RdoqMeasured> best_within(RdoqCoding& coding, double wanted, int attempts = 7);
/// The same with dependent levels, near a plan without; nothing where none fits.
std::optional<RdoqMeasured> dependent_within(const RdoqCoding& coding, const RdoqMeasured& independent,
                                             double wanted);
/// Moves the weight of a bit until the bytes meet the budget: tables and step stay. The best that fits, or
/// what was given. `widest`: by how much the weight may change; far from the one that tables were trained
/// for, it costs more error than another step does.
RdoqMeasured trim(const RdoqCoding& coding, const RdoqMeasured& given, double wanted, double widest);

}  // namespace jsq

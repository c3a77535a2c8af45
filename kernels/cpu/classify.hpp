// Magnitudes -> class map -> run activities, for the reference and every SIMD level alike.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/element/class_plan.hpp"

namespace jsq::cpu {

/// classes[i] = class of values[i], whose pool index is first_index + i.  classes.size() == values.size().
void classify(std::span<const float> values, uint64_t first_index, const element::ClassPlan& plan,
              std::span<uint8_t> classes);

/// buckets[r] = activity bucket of run r (32 consecutive entries of `classes`; the last run may be short).
/// buckets.size() == ceil(classes.size() / 32).
void run_activities(std::span<const uint8_t> classes, std::span<uint8_t> buckets);

}  // namespace jsq::cpu

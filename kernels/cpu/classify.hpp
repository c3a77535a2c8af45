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

/// counts[(j - 1) * runs + r] = entries of run r that are in class j or above, for j = 1..class_count-1 and
/// the runs = ceil(classes.size() / 32) runs. Their sum over j is the run's activity.
void count_runs(std::span<const uint8_t> classes, uint32_t class_count, std::span<uint8_t> counts);

/// Sums over the elements of class 0 of a plan (pool index of values[0]: first_index), in double. Stretches
/// between tie cutoffs are summed apart, each in 16 lanes (lane l adds elements l, l + 16, ...) folded by
/// halving.
struct DroppedSums {
  double sum = 0, energy = 0;
  float max_magnitude = 0;
};
DroppedSums sum_dropped(std::span<const float> values, uint64_t first_index, const element::ClassPlan& plan);

/// The lanes of a stretch, while it is summed piece by piece.
struct DroppedLanes {
  static constexpr size_t lanes = 16;
  double sum[lanes] = {}, energy[lanes] = {};
  uint32_t largest[lanes] = {};
};

/// classify(), list_nonzero() and, unless `dropped` is null, sum_dropped(), in one pass over the values.
size_t classify_and_list(std::span<const float> values, uint64_t first_index, const element::ClassPlan& plan,
                         uint8_t* classes, uint32_t* kept, DroppedSums* dropped);

/// Writes the indices i with classes[i] != 0, ascending, and returns how many. `indices` has room for
/// classes.size() + 16.
size_t list_nonzero(std::span<const uint8_t> classes, uint32_t* indices);

}  // namespace jsq::cpu

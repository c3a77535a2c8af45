// Sums over the elements of a class block while it is coded, in the contract's order: what is dropped by
// stretches between tie cutoffs, what is kept by its number.
#pragma once

#include "kernels/cuda/class_coding.cuh"

namespace jsq::cuda::class_coding {

/// Borders of the stretches of a block, ascending; thread 0.
__device__ inline void find_borders(const element::ClassPlan& plan, const BlockView& block, Shared& s) {
  uint32_t count = 0;
  for (uint32_t j = 1; j < plan.classes; ++j) {
    if (plan.cutoff[j] <= block.first_pool_index || plan.cutoff[j] - block.first_pool_index >= block.count)
      continue;
    const uint32_t border = uint32_t(plan.cutoff[j] - block.first_pool_index);
    uint32_t at = count;
    while (at > 0 && s.borders[at - 1] > border) --at;
    if (at > 0 && s.borders[at - 1] == border) continue;
    for (uint32_t k = count; k > at; --k) s.borders[k] = s.borders[k - 1];
    s.borders[at] = border;
    ++count;
  }
  s.border_count = count;
}

/// Sums over dropped elements. The lower half of the warp adds g, the upper g^2; lane l of each adds elements
/// l, l + 16, ... of a stretch.
struct DroppedSummer {
  double lane_sum = 0, total = 0;
  uint32_t stretch = 0, next_border = 0;

  __device__ void close() {
    const double folded = fold_lanes(lane_sum);
    if (lane_of() % element::sum_lanes == 0) total += folded;
    lane_sum = 0;
  }
  __device__ void add(const Shared& s, const Tile& values, uint32_t at, uint32_t end) {
    const uint32_t lane = lane_of() % element::sum_lanes;
    const bool squares = lane_of() >= element::sum_lanes;
    for (uint32_t from = at; from < end;) {
      const bool closes = next_border < s.border_count && s.borders[next_border] <= end;
      const uint32_t to = closes ? s.borders[next_border] : end;
      for (uint32_t i = from + ((lane - (from - stretch)) & (element::sum_lanes - 1)); i < to;
           i += element::sum_lanes) {
        const double g = values.dropped[i - at];
        lane_sum += squares ? g * g : g;
      }
      __syncwarp();
      if (closes) {
        close();
        stretch = to;
        ++next_border;
      }
      from = to;
    }
  }
};

/// Sums over kept elements: lane l adds the kept elements l, l + 16, ... The halves of the warp share the
/// sums out.
struct KeptSummer {
  double squared_error = 0, error_sum = 0, max_error = 0;  // lower half
  double dot = 0, decoded_energy = 0;                      // upper half

  __device__ void add(Shared& s, const Tile& values, uint32_t first, uint32_t count) {
    const uint32_t lane = lane_of() % element::sum_lanes;
    for (uint32_t i = (lane - first) & (element::sum_lanes - 1); i < count; i += element::sum_lanes) {
      const double g = values.kept[i], decoded = values.decoded[i];
      if (lane_of() < element::sum_lanes) {
        const double error = decoded - g, magnitude = error < 0 ? -error : error;
        squared_error += error * error;
        error_sum += error;
        max_error = magnitude > max_error ? magnitude : max_error;
      } else {
        dot += g * decoded;
        decoded_energy += decoded * decoded;
        s.class_energy[values.kept_class[i]][lane] += g * g;
      }
    }
    __syncwarp();
  }
  __device__ void finish(Shared& s, ClassSums& sums) {
    const double error = fold_lanes(squared_error), error_total = fold_lanes(error_sum);
    const double products = fold_lanes(dot), decoded = fold_lanes(decoded_energy);
    max_error = max_of_lanes(max_error);
    if (lane_of() == 0) {
      sums.squared_error = error;
      sums.error_sum = error_total;
      sums.max_error = max_error;
    } else if (lane_of() == element::sum_lanes) {
      sums.dot = products;
      sums.decoded_energy = decoded;
    }
    for (uint32_t j = 0; j < max_classes; ++j) {
      const double energy = fold_lanes(s.class_energy[j][lane_of() % element::sum_lanes]);
      if (lane_of() == 0) sums.class_energy[j] = energy;
    }
  }
};

}  // namespace jsq::cuda::class_coding

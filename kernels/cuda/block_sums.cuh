// What thread blocks that round a block of values have in common: the scales of its buckets, and the sums of
// its errors in the contract's order, 16 lanes by index. A half warp holds the lanes of one sum.
#pragma once

#include "kernels/cuda/levels.hpp"
#include "kernels/cuda/warp.cuh"

namespace jsq::cuda {

/// The norm as a scale, which stays finite.
__device__ inline float scale_of_energy(double energy) {
  const double norm = sqrt(energy),
               most = double(element::magnitude_of_key(element::first_nonfinite_key - 1));
  return norm >= most ? element::magnitude_of_key(element::first_nonfinite_key - 1) : float(norm);
}

/// Scales of the buckets of `n` values: a half warp takes one, its lane l elements l, l + 16, ... All
/// threads.
__device__ inline void find_scales(BucketNorm norm, uint32_t bucket, const float* values, uint32_t n,
                                   float* scales) {
  constexpr uint32_t lanes = element::sum_lanes, unroll = 8;
  const uint32_t buckets = (n + bucket - 1) / bucket;
  const uint32_t lane = lane_of() % lanes, half_warp = threadIdx.x / lanes;
  for (uint32_t round = 0; round < buckets; round += blockDim.x / lanes) {
    const uint32_t b = round + half_warp, at = b * bucket;
    const uint32_t end = b >= buckets ? 0 : n - at < bucket ? n : at + bucket;
    double energy = 0;
    uint32_t key = 0;
    for (uint32_t i = at + lane; i < end; i += unroll * lanes) {
      float g[unroll];
#pragma unroll
      for (uint32_t k = 0; k < unroll; ++k) g[k] = i + k * lanes < end ? values[i + k * lanes] : 0.0f;
#pragma unroll
      for (uint32_t k = 0; k < unroll; ++k) {
        energy += double(g[k]) * double(g[k]);
        const uint32_t other = element::magnitude_key(g[k]);
        key = key > other ? key : other;
      }
    }
    __syncwarp();
    energy = fold_lanes(energy);
    for (uint32_t half = lanes / 2; half > 0; half /= 2) {
      const uint32_t other = __shfl_down_sync(all_lanes, key, half, int(lanes));
      key = key > other ? key : other;
    }
    if (lane == 0 && b < buckets)
      scales[b] = norm == BucketNorm::l2 ? scale_of_energy(energy) : element::magnitude_of_key(key);
  }
}

/// Four neighbouring doubles of each lane of a warp to shared memory. Half of the lanes store them the other
/// way round, so that no two meet in a bank.
__device__ inline void store_four(double* to, const double* four) {
  const bool turned = lane_of() & 4;
  const double2 low = {four[0], four[1]}, high = {four[2], four[3]};
  *reinterpret_cast<double2*>(to + (turned ? 2 : 0)) = turned ? high : low;
  *reinterpret_cast<double2*>(to + (turned ? 0 : 2)) = turned ? low : high;
}

/// One lane of one of the sums that tell how far decoded values are off.
struct ErrorLane {
  enum Which : uint32_t { squared_error, dot, decoded_energy, error_sum, none };
  double sum = 0;
  double max_error = 0;  ///< of error_sum

  __device__ void add(Which which, double g, double decoded) {
    const double error = decoded - g;
    if (which == squared_error) {
      sum += error * error;
    } else if (which == dot) {
      sum += g * decoded;
    } else if (which == decoded_energy) {
      sum += decoded * decoded;
    } else {
      const double magnitude = error < 0 ? -error : error;
      sum += error;
      max_error = magnitude > max_error ? magnitude : max_error;
    }
  }
  /// Folds the lanes of a half warp. All lanes of a warp.
  __device__ void finish(Which which, LevelSums& sums) const {
    const double folded = fold_lanes(sum), most = max_of_lanes(max_error);
    if (lane_of() % element::sum_lanes != 0) return;
    if (which == squared_error) sums.squared_error = folded;
    if (which == dot) sums.dot = folded;
    if (which == decoded_energy) sums.decoded_energy = folded;
    if (which == error_sum) {
      sums.error_sum = folded;
      sums.max_error = most;
    }
  }
};

}  // namespace jsq::cuda

// What the lanes of a warp do together in every kernel: where a thread is, loads of four neighbours, and sums
// in the order of the contract (16 lanes by index, folded by halving; chains from left to right).
#pragma once

#include <cstdint>

#include "kernels/element/float_bits.hpp"
#include "kernels/element/summary.hpp"

namespace jsq::cuda {

constexpr uint32_t warp_size = 32;
constexpr uint32_t all_lanes = 0xffffffffu;

__device__ inline uint32_t lane_of() {
  return threadIdx.x % warp_size;
}
__device__ inline uint32_t warp_of() {
  return threadIdx.x / warp_size;
}
__device__ inline uint32_t lanes_below() {
  return (1u << lane_of()) - 1;
}

/// Values i to i + 3 of `count`, zeros behind the end; in one piece where they are aligned.
__device__ inline void load_four(const float* values, uint32_t i, uint32_t count, float* four) {
  if (i + 4 <= count && reinterpret_cast<uint64_t>(values + i) % sizeof(float4) == 0) {
    const float4 loaded = *reinterpret_cast<const float4*>(values + i);
    four[0] = loaded.x, four[1] = loaded.y, four[2] = loaded.z, four[3] = loaded.w;
    return;
  }
#pragma unroll
  for (uint32_t k = 0; k < 4; ++k) four[k] = i + k < count ? values[i + k] : 0.0f;
}

/// Stores values i to i + 3 of `count`, those that are there; in one piece where they are aligned.
__device__ inline void store_values(float* values, uint32_t i, uint32_t count, const float* four) {
  if (i + 4 <= count && reinterpret_cast<uint64_t>(values + i) % sizeof(float4) == 0) {
    *reinterpret_cast<float4*>(values + i) = float4{four[0], four[1], four[2], four[3]};
    return;
  }
#pragma unroll
  for (uint32_t k = 0; k < 4; ++k)
    if (i + k < count) values[i + k] = four[k];
}

/// `count` zeros, by all threads.
__device__ inline void store_zeros(float* values, uint32_t count) {
  for (uint32_t i = threadIdx.x; i < count; i += blockDim.x) values[i] = 0.0f;
}

__device__ inline double magnitude(float g) {
  return double(element::magnitude_of_key(element::magnitude_key(g)));
}
__device__ inline double sum_of_four(const float* g) {
  return (magnitude(g[0]) + magnitude(g[1])) + (magnitude(g[2]) + magnitude(g[3]));
}

/// One chain of additions: the sum in front of this lane's four, whose own is `four`; `sum` becomes that
/// behind the warp's. Every lane adds the whole chain.
__device__ inline double add_chain(double four, double& sum) {
  double mine = 0;
#pragma unroll
  for (uint32_t l = 0; l < warp_size; ++l) {
    if (l == lane_of()) mine = sum;
    sum += __shfl_sync(all_lanes, four, int(l));
  }
  return mine;
}

/// Brings a description of a block to shared memory, where reading it again costs nothing. All threads.
template <class View>
__device__ inline void share_view(View& shared, const View& view) {
  static_assert(sizeof(View) % sizeof(uint32_t) == 0);
  for (uint32_t w = threadIdx.x; w < sizeof(View) / sizeof(uint32_t); w += blockDim.x)
    reinterpret_cast<uint32_t*>(&shared)[w] = reinterpret_cast<const uint32_t*>(&view)[w];
  __syncthreads();
}

/// Sum of the values of the lanes before this one; `total` is that of all.
__device__ inline uint32_t sum_before(uint32_t value, uint32_t& total) {
  uint32_t sum = value;
  for (uint32_t distance = 1; distance < warp_size; distance *= 2) {
    const uint32_t other = __shfl_up_sync(all_lanes, sum, distance);
    if (lane_of() >= distance) sum += other;
  }
  total = __shfl_sync(all_lanes, sum, int(warp_size - 1));
  return sum - value;
}

/// The largest value of the lanes before this one, 0 in front of the first; `value` becomes the largest up to
/// this one.
__device__ inline uint32_t largest_before(uint32_t& value) {
  for (uint32_t distance = 1; distance < warp_size; distance *= 2) {
    const uint32_t other = __shfl_up_sync(all_lanes, value, distance);
    if (lane_of() >= distance && other > value) value = other;
  }
  const uint32_t before = __shfl_up_sync(all_lanes, value, 1);
  return lane_of() == 0 ? 0 : before;
}

/// Lane l + lane[l + half], half by half, within each half of the warp: the contract's folding of 16 lanes.
__device__ inline double fold_lanes(double value) {
  for (uint32_t half = element::sum_lanes / 2; half > 0; half /= 2)
    value += __shfl_down_sync(all_lanes, value, half, int(element::sum_lanes));
  return value;
}

/// The largest of 16 lanes, for the first of them; of numbers that are not NaN.
__device__ inline double max_of_lanes(double value) {
  for (uint32_t half = element::sum_lanes / 2; half > 0; half /= 2) {
    const double other = __shfl_down_sync(all_lanes, value, half, int(element::sum_lanes));
    value = value > other ? value : other;
  }
  return value;
}

}  // namespace jsq::cuda

// What the kernels of class blocks have in common: runs of 32 elements taken by warps, arrays that lie in
// shared memory as far as it reaches and in global memory beyond, and bits put into words, most significant
// first.
#pragma once

#include "kernels/cuda/device.hpp"

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

/// An array whose first entries are in shared memory and the rest in global memory.
template <class T>
struct Spilling {
  T* near = nullptr;
  T* far = nullptr;
  uint32_t reach = 0;  ///< entries in shared memory
  __device__ T get(uint32_t i) const { return i < reach ? near[i] : far[i - reach]; }
  __device__ void set(uint32_t i, T value) const {
    if (i < reach)
      near[i] = value;
    else
      far[i - reach] = value;
  }
};

/// A kept element of a block: its index, class and code word in one word, ordered by index.
constexpr uint32_t kept_index_bits = 20;
__device__ inline uint32_t make_kept(uint32_t index, uint32_t code, uint32_t j) {
  return index | code << kept_index_bits | j << (kept_index_bits + 8);
}
__device__ inline uint32_t kept_index(uint32_t kept) {
  return kept & ((1u << kept_index_bits) - 1);
}
__device__ inline uint32_t kept_code(uint32_t kept) {
  return kept >> kept_index_bits & 255u;
}
__device__ inline uint32_t kept_class(uint32_t kept) {
  return kept >> (kept_index_bits + 8);
}

/// The class of the element with this key and pool index.
__device__ inline uint32_t class_of(const element::ClassPlan& plan, uint32_t key, uint64_t pool_index) {
  uint32_t j = 0;
  for (uint32_t t = 1; t < plan.classes; ++t)
    j += int32_t(key) >= int32_t(element::effective_threshold(plan, t, pool_index)) ? 1u : 0u;
  return j;
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

/// Lane l + lane[l + half], half by half, within each half of the warp: the contract's folding of 16 lanes.
__device__ inline double fold_lanes(double value) {
  for (uint32_t half = element::sum_lanes / 2; half > 0; half /= 2)
    value += __shfl_down_sync(all_lanes, value, half, int(element::sum_lanes));
  return value;
}

/// Puts the low `count` bits of `value` at bit `position` of words that were zero there. Several threads may
/// own bits of one word.
__device__ inline void put_bits(uint32_t* words, uint32_t position, uint32_t value, uint32_t count) {
  if (count == 0) return;
  const uint32_t word = position >> 5, free = 32 - (position & 31);
  if (count <= free) {
    atomicOr(&words[word], value << (free - count));
    return;
  }
  atomicOr(&words[word], value >> (count - free));
  atomicOr(&words[word + 1], value << (32 - (count - free)));
}

/// `count` one bits.
__device__ inline void put_ones(uint32_t* words, uint32_t position, uint32_t count) {
  while (count > 0) {
    const uint32_t n = count < 32 - (position & 31) ? count : 32 - (position & 31);
    put_bits(words, position, n == 32 ? all_lanes : (1u << n) - 1, n);
    position += n;
    count -= n;
  }
}

/// Byte `at` of bits put by put_bits.
__device__ inline uint32_t byte_of(const uint32_t* words, uint32_t at) {
  return words[at >> 2] >> (24 - 8 * (at & 3)) & 255u;
}

}  // namespace jsq::cuda

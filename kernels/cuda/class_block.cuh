// What the kernels of class blocks have in common: runs of 32 elements taken by warps, a chain that the other
// warps feed or empty, arrays that lie in shared memory as far as it reaches and in global memory beyond, and
// bits put into words, most significant first.
#pragma once

#include "kernels/cuda/device.hpp"
#include "kernels/cuda/grid.hpp"
#include "kernels/cuda/warp.cuh"

namespace jsq::cuda {

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

// A block's entropy coder is one chain of steps, which warp 0 goes along; the other warps are its helpers.
constexpr uint32_t block_warps = 8, block_threads = block_warps * warp_size;

/// This warp's share of `count` items, among the helpers or so many `takers`.
struct Share {
  uint32_t first, end;
  __device__ explicit Share(uint32_t count, uint32_t takers = block_warps - 1,
                            uint32_t taker = warp_of() - 1) {
    const uint32_t each = (count + takers - 1) / takers;
    first = taker * each < count ? taker * each : count;
    end = first + each < count ? first + each : count;
  }
};

/// What the helpers have counted in chunks, of which so many are under way.
template <uint32_t under_way>
struct PartSums {
  uint32_t of[under_way][block_warps];
  /// All lanes of a helper.
  __device__ void put(uint32_t chunk, uint32_t counted) {
    if (lane_of() == 0) of[chunk % under_way][warp_of()] = counted;
  }
  /// By the helpers before this one; `total` is that of all.
  __device__ uint32_t before(uint32_t chunk, uint32_t& total) const {
    uint32_t sum = 0;
    total = 0;
    for (uint32_t w = 1; w < block_warps; ++w) {
      sum += w < warp_of() ? of[chunk % under_way][w] : 0;
      total += of[chunk % under_way][w];
    }
    return sum;
  }
};

/// Thread blocks of a launch, and shared memory that each may have.
struct BlockRoom {
  uint32_t grid = 1;
  uint64_t shared_bytes = 0;
  bool two = false;  ///< on a processor
};
/// A processor takes two blocks at a time where there are more than processors and each finds `least_bytes`
/// of shared memory.
inline BlockRoom room_of_blocks(uint32_t blocks, uint64_t least_bytes) {
  constexpr uint64_t reserved = 1024;  // of each, by the runtime
  const auto processors = uint32_t(device_attribute(cudaDevAttrMultiProcessorCount));
  const uint64_t most = device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin),
                 half = device_attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor) / 2 - reserved;
  const bool two = blocks > processors && least_bytes <= half;
  return {std::min(processors * (two ? 2 : 1), std::max(blocks, 1u)), two ? std::min(half, most) : most, two};
}

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

/// Whether magnitudes of class j are entropy-coded.
__device__ inline bool magnitude_coded(const ClassComposition& c, uint32_t j) {
  return j > 0 && (c.magnitudes_coded >> (j - 1) & 1);
}
__device__ inline uint32_t bytes_of(uint32_t bits) {
  return (bits + 7) / 8;
}

/// The next `bytes` of the dynamic shared memory.
__device__ inline char* carve(char*& at, uint32_t bytes) {
  char* begin = at;
  at += (bytes + 15) / 16 * 16;
  return begin;
}

/// The class of the element with this key and pool index.
__device__ inline uint32_t class_of(const element::ClassPlan& plan, uint32_t key, uint64_t pool_index) {
  uint32_t j = 0;
  for (uint32_t t = 1; t < plan.classes; ++t)
    j += int32_t(key) >= int32_t(element::effective_threshold(plan, t, pool_index)) ? 1u : 0u;
  return j;
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

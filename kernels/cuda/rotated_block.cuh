// How a thread block rotates a block of values and back: random signs, and Walsh-Hadamard transforms, stretch
// by stretch: as many Hadamard blocks as fit a tile of shared memory, or one that is larger, which lies in
// global memory and passes through the tile. The stages of a transform have the order of their distances, so
// that every sum is the processor's.
#pragma once

#include <algorithm>

#include "kernels/cuda/level_kernels.hpp"
#include "kernels/cuda/warp.cuh"
#include "kernels/element/hadamard.hpp"
#include "kernels/element/philox.hpp"

namespace jsq::cuda::rotated {

constexpr uint32_t warps = 8, threads = warps * warp_size;
constexpr uint32_t each = 4;  ///< neighbouring elements of a thread: one Philox block
constexpr uint32_t row = threads * each;
constexpr uint32_t held = 16;  ///< elements that a thread holds in a pass of a transform
constexpr uint32_t segment = warp_size * held;
constexpr uint32_t tile = warps * segment;
constexpr uint32_t longest = uint32_t(element::sum_chunk);  ///< Hadamard block, and block of values
constexpr uint32_t sign_words = longest / element::signs_of_word;
static_assert(longest <= tile * held);

struct Shared {
  float tile_values[tile];
  uint32_t signs[sign_words];  ///< of a stretch
  float entries[element::table_entries];
  uint8_t cells[element::most_table_entry + 1];
  element::RotationShape shape[2];  ///< of whole Hadamard blocks, and of a shorter one at the end
};
/// Hadamard blocks of a stretch: `main` elements each, from `tail_first` on one of `tail`.
struct Sizes {
  uint32_t main, tail_first, tail;
  __device__ uint32_t at(uint32_t i) const { return i < tail_first ? main : tail; }
};

/// One stage of a register that has a partner `distance` lanes away.
__device__ inline float stage_across(float x, uint32_t distance, bool takes_part) {
  const float other = __shfl_xor_sync(all_lanes, x, int(distance));
  const float result = lane_of() & distance ? other - x : x + other;
  return takes_part ? result : x;
}
__device__ inline void stage(float& low, float& high) {
  const float a = low, b = high;
  low = a + b;
  high = a - b;
}

/// Transforms a tile of x in place, by way of `y` (which may be x): the stages up to half a tile. All
/// threads; x is to be seen by all before, and is after.
__device__ inline void transform_tile(float* x, float* y, uint32_t first, uint32_t length,
                                      const Sizes& sizes) {
  {
    const uint32_t base = segment * warp_of() + lane_of();
    float r[held];
#pragma unroll
    for (uint32_t k = 0; k < held; ++k) {
      const uint32_t i = first + base + warp_size * k;
      r[k] = i < length ? x[base + warp_size * k] : 0.0f;
    }
#pragma unroll
    for (uint32_t distance = 1; distance < warp_size; distance *= 2)
#pragma unroll
      for (uint32_t k = 0; k < held; ++k)
        r[k] = stage_across(r[k], distance, 2 * distance <= sizes.at(first + base + warp_size * k));
#pragma unroll
    for (uint32_t apart = 1; apart < held; apart *= 2)
#pragma unroll
      for (uint32_t k = 0; k < held; ++k)
        if ((k & apart) == 0 && 2 * apart * warp_size <= sizes.at(first + base + warp_size * k))
          stage(r[k], r[k | apart]);
#pragma unroll
    for (uint32_t k = 0; k < held; ++k) y[base + warp_size * k] = r[k];
  }
  __syncthreads();
  if (x == y && sizes.main <= segment && sizes.tail <= segment) return;
  for (uint32_t at = threadIdx.x; at < segment; at += threads) {
    float r[warps];
#pragma unroll
    for (uint32_t j = 0; j < warps; ++j) r[j] = y[segment * j + at];
#pragma unroll
    for (uint32_t apart = 1; apart < warps; apart *= 2)
#pragma unroll
      for (uint32_t j = 0; j < warps; ++j)
        if ((j & apart) == 0 && 2 * apart * segment <= sizes.at(first + segment * j + at))
          stage(r[j], r[j | apart]);
#pragma unroll
    for (uint32_t j = 0; j < warps; ++j)
      if (first + segment * j + at < length) x[segment * j + at] = r[j];
  }
  __syncthreads();
}

/// Hadamard transforms of a stretch of `length` elements, unnormalised. As above.
__device__ inline void transform(float* x, float* room, uint32_t length, const Sizes& sizes) {
  if (x == room) return transform_tile(x, x, 0, length, sizes);
  for (uint32_t first = 0; first < length; first += tile)
    transform_tile(x + first, room, first, length, sizes);
  const uint32_t size = sizes.at(0);  // such a stretch is one Hadamard block
  for (uint32_t at = threadIdx.x; at < tile; at += threads) {
    float r[held];
#pragma unroll
    for (uint32_t k = 0; k < held; ++k) r[k] = tile * k < length ? x[tile * k + at] : 0.0f;
#pragma unroll
    for (uint32_t apart = 1; apart < held; apart *= 2)
#pragma unroll
      for (uint32_t k = 0; k < held; ++k)
        if ((k & apart) == 0 && 2 * apart * tile <= size) stage(r[k], r[k | apart]);
#pragma unroll
    for (uint32_t k = 0; k < held; ++k)
      if (tile * k < length) x[tile * k + at] = r[k];
  }
  __syncthreads();
}

/// A block of values and its Hadamard blocks, stretch by stretch. Members are called by all threads.
template <class NormAt>
struct RotatedBlock {
  const Rotation& rotation;
  Shared& s;
  uint32_t tensor;
  uint64_t first_element;
  uint32_t count;  ///< of values
  NormAt norm_at;  ///< of a Hadamard block, by its number
  uint32_t block, length, tail_first, tail;
  // Of the stretch.
  uint32_t first = 0, end = 0;
  float* x = nullptr;

  __device__ RotatedBlock(const Rotation& r, Shared& shared, uint32_t number, uint64_t element, uint32_t n,
                          double tensor_length, NormAt norm)
      : rotation(r), s(shared), tensor(number), first_element(element), count(n), norm_at(norm) {
    block = 1u << rotation.block_log2;
    length = uint32_t(element::padded_length(n, rotation.block_log2));
    tail_first = n / block * block;
    tail = length - tail_first;
    if (threadIdx.x < 2) {
      const double size = threadIdx.x == 0 ? block : tail > 0 ? tail : 1;
      s.shape[threadIdx.x] = element::rotation_shape(rotation.clamp, rotation.granularity, size,
                                                     rotation.norm_of_block ? size : tensor_length);
    }
    for (uint32_t e = threadIdx.x; e < element::table_entries; e += threads)
      s.entries[e] = rotation.table.entries[e];
    for (uint32_t c = threadIdx.x; c <= element::most_table_entry; c += threads)
      s.cells[c] = uint8_t(rotation.table.cells[c]);
  }

  /// The stretch from `at` on; `far` is memory for one that no tile holds.
  __device__ void begin(uint32_t at, float* far) {
    first = at;
    const uint32_t reach = block > tile ? block : tile;
    end = length - at < reach ? length : at + reach;
    x = end - at > tile ? far : s.tile_values;
    const uint64_t word = (first_element + first) / element::signs_of_word;
    for (uint32_t q = threadIdx.x; q < sign_words / 4; q += threads) {
      if (4 * element::signs_of_word * q >= end - first) break;
      const uint64_t quad = word / 4 + q;
      const element::PhiloxBlock words = element::philox4x32_10(
          {{uint32_t(quad), uint32_t(quad >> 32), tensor, uint32_t(element::RandomPurpose::signs)}},
          uint32_t(rotation.seed), uint32_t(rotation.seed >> 32));
#pragma unroll
      for (uint32_t k = 0; k < 4; ++k) s.signs[4 * q + k] = words.word[k];
    }
    __syncthreads();
  }
  __device__ uint32_t size() const {
    return end - first;
  }
  __device__ Sizes sizes(uint32_t main) const {
    return {main, tail_first > first ? tail_first - first : 0, tail};
  }
  __device__ const element::RotationShape& shape_at(uint32_t i) const {
    return s.shape[first + i < tail_first ? 0 : 1];
  }
  __device__ uint32_t number_of(uint32_t i) const {
    return (first + i) >> rotation.block_log2;
  }
  /// The sign of element i of the stretch, in bit 31.
  __device__ uint32_t sign_at(uint32_t i) const {
    return element::sign_of_word(s.signs[i / element::signs_of_word], i % element::signs_of_word);
  }
  __device__ void transform_all() {
    transform(x, s.tile_values, size(), sizes(block));
  }
  /// 2 T - g of a level.
  __device__ float centred(int32_t level) const {
    const int32_t index = level + rotation.table.middle;
    return element::centred_entry(rotation.table.has_entries ? s.entries[index] : float(index),
                                  rotation.granularity);
  }
  /// x <- the values that it stands for, where x is 2 T - g: put(i, value) of every element that is no
  /// padding.
  template <class Put>
  __device__ void restore(Put put) {
    transform_all();
    uint32_t known = UINT32_MAX;
    double unit = 0;
    for (uint32_t i = threadIdx.x; i < size() && first + i < count; i += threads) {
      // Without norms of their own, Hadamard blocks differ in their sizes alone.
      const uint32_t number = number_of(i), kind = rotation.norm_of_block   ? number
                                                   : first + i < tail_first ? 0
                                                                            : 1;
      if (kind != known) unit = element::restored_unit(shape_at(i), norm_at(number));
      known = kind;
      put(i, element::with_random_sign(element::scaled_finite(x[i], unit), sign_at(i)));
    }
    __syncthreads();
  }
};

/// Thread blocks of a launch. Scratch memory of `room` holds what they need of it.
inline uint32_t prepare(uint32_t blocks, const Rotation& rotation, bool rounds, RotationRoom& room) {
  int device = 0, processors = 1;
  check(cudaGetDevice(&device), "asking for the device");
  check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device), "asking for the device");
  const uint32_t grid = std::min(blocks, 2 * uint32_t(processors));
  if (1u << rotation.block_log2 <= tile) return grid;
  room.coordinates.reserve(size_t(longest) * grid);
  if (rounds) room.errors.reserve(size_t(longest) * grid);
  return grid;
}

}  // namespace jsq::cuda::rotated

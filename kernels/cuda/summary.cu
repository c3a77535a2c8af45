// A warp takes a chunk of 65,536 elements, so that its sums have the order of the contract (16 lanes, folded
// by halving) without any other warp. Integers go through counters in shared memory, in any order.
#include "kernels/cuda/summary.hpp"

namespace jsq::cuda {
namespace {

using element::ChunkSums;
using element::KeyRange;

constexpr uint32_t warps = 8, warp_size = 32, threads = warps * warp_size;
constexpr uint32_t unroll = 8;  // loads of a warp that are under way together

__device__ uint32_t lane_of() {
  return threadIdx.x % warp_size;
}

/// Calls use(index, value, inside) for every element of a chunk, warp_size at a time, lanes side by side;
/// several loads are under way at once. Lanes behind the end get zeros.
template <class Use>
__device__ void for_elements(const ChunkView chunk, Use use) {
  const uint32_t lane = lane_of();
  for (uint32_t at = 0; at < chunk.count; at += unroll * warp_size) {
    float values[unroll];
#pragma unroll
    for (uint32_t k = 0; k < unroll; ++k) {
      const uint32_t i = at + k * warp_size + lane;
      values[k] = i < chunk.count ? chunk.values[i] : 0.0f;
    }
#pragma unroll
    for (uint32_t k = 0; k < unroll; ++k) {
      const uint32_t i = at + k * warp_size + lane;
      if (at + k * warp_size < chunk.count) use(i, values[k], i < chunk.count);
    }
  }
}

/// Lane l + lane[l + half], half by half, within each half of the warp.
__device__ double fold(double lane_sum) {
  for (uint32_t half = element::sum_lanes / 2; half > 0; half /= 2)
    lane_sum += __shfl_down_sync(0xffffffffu, lane_sum, half, int(element::sum_lanes));
  return lane_sum;
}

__device__ uint32_t sum_of_warp(uint32_t value) {
  return __reduce_add_sync(0xffffffffu, value);
}

/// Summary of one chunk by one warp. `Count`: adds an element to the histogram's bin.
template <class Count>
__device__ void summarise_chunk(const ChunkView chunk, ChunkSums& result, Count count_bin) {
  const uint32_t lane = lane_of();
  const bool first_half = lane < element::sum_lanes;
  // The lower half of the warp adds g and |g|, the upper g^2 and (unused) |g|; both halves meet elements in
  // index order.
  double sum = 0, sum_abs = 0;
  uint32_t zeros = 0, nan = 0, positive = 0, negative = 0, max_key = 0, first_nonfinite = 0xffffffffu;
  for_elements(chunk, [&](uint32_t i, float value, bool inside) {
    uint32_t key = element::magnitude_key(value);
    if (key >= element::first_nonfinite_key) {
      nan += key > element::first_nonfinite_key;
      positive += key == element::first_nonfinite_key && value > 0;
      negative += key == element::first_nonfinite_key && value < 0;
      if (first_nonfinite == 0xffffffffu) first_nonfinite = i;
      value = 0;
      key = 0xffffffffu;
    } else if (inside) {
      zeros += key == 0;
      max_key = max_key > key ? max_key : key;
    }
    // Zeros are many and would queue up at one counter: they are added to bin 0 at the end.
    if (inside && key != 0 && key != 0xffffffffu) count_bin(key >> element::summary_bin_shift, 1);
    const float other = __shfl_xor_sync(0xffffffffu, value, int(element::sum_lanes));
    const double early = first_half ? value : other, late = first_half ? other : value;
    // Zeros behind the chunk's end change no sum: sums start at +0 and never become -0.
    sum += first_half ? early : early * early;
    sum += first_half ? late : late * late;
    sum_abs += early < 0 ? -early : early;
    sum_abs += late < 0 ? -late : late;
  });
  sum = fold(sum);
  sum_abs = fold(sum_abs);
  const double energy = __shfl_sync(0xffffffffu, sum, int(element::sum_lanes));
  zeros = sum_of_warp(zeros);
  nan = sum_of_warp(nan);
  positive = sum_of_warp(positive);
  negative = sum_of_warp(negative);
  max_key = __reduce_max_sync(0xffffffffu, max_key);
  first_nonfinite = __reduce_min_sync(0xffffffffu, first_nonfinite);
  if (lane != 0) return;
  if (zeros) count_bin(0, zeros);
  result.sum = sum;
  result.sum_abs = sum_abs;
  result.energy = energy;
  result.zeros = zeros;
  result.nan = nan;
  result.positive_infinite = positive;
  result.negative_infinite = negative;
  result.first_nonfinite = first_nonfinite == 0xffffffffu ? UINT64_MAX : first_nonfinite;
  result.max_key = max_key;
}

/// Counters of a block in shared memory, where they fit: a stretch of 2^32 elements a block at most.
__global__ void __launch_bounds__(threads)
    summary_shared(const ChunkView* chunks, uint32_t count, ChunkSums* sums, unsigned long long* histogram) {
  extern __shared__ uint32_t bins[];
  for (uint32_t b = threadIdx.x; b < element::summary_bins; b += threads) bins[b] = 0;
  __syncthreads();
  for (uint32_t c = blockIdx.x * warps + threadIdx.x / warp_size; c < count; c += gridDim.x * warps)
    summarise_chunk(chunks[c], sums[c], [&](uint32_t bin, uint32_t n) { atomicAdd(&bins[bin], n); });
  __syncthreads();
  for (uint32_t b = threadIdx.x; b < element::summary_bins; b += threads)
    if (bins[b]) atomicAdd(&histogram[b], static_cast<unsigned long long>(bins[b]));
}

__global__ void __launch_bounds__(threads)
    summary_global(const ChunkView* chunks, uint32_t count, ChunkSums* sums, unsigned long long* histogram) {
  for (uint32_t c = blockIdx.x * warps + threadIdx.x / warp_size; c < count; c += gridDim.x * warps)
    summarise_chunk(chunks[c], sums[c], [&](uint32_t bin, uint32_t n) {
      atomicAdd(&histogram[bin], static_cast<unsigned long long>(n));
    });
}

__global__ void __launch_bounds__(threads)
    refine_chunks(const ChunkView* chunks, uint32_t count, const KeyRange* ranges, uint32_t range_count,
                  unsigned long long* counts) {
  for (uint32_t c = blockIdx.x * warps + threadIdx.x / warp_size; c < count; c += gridDim.x * warps)
    for_elements(chunks[c], [&](uint32_t, float value, bool inside) {
      const uint32_t key = element::magnitude_key(value);
      // The last range that starts at or below the key.
      uint32_t low = 0, high = range_count;
      while (low < high) {
        const uint32_t middle = (low + high) / 2;
        if (ranges[middle].low <= key)
          low = middle + 1;
        else
          high = middle;
      }
      if (!inside || low == 0) return;
      const KeyRange range = ranges[low - 1];
      const uint32_t offset = key - range.low;
      if (offset < element::cells_of_range << range.shift)
        atomicAdd(&counts[element::cells_of_range * (low - 1) + (offset >> range.shift)], 1ull);
    });
}

__global__ void __launch_bounds__(threads)
    count_chunks(const ChunkView* chunks, uint32_t count, uint32_t key, uint32_t* equal) {
  for (uint32_t c = blockIdx.x * warps + threadIdx.x / warp_size; c < count; c += gridDim.x * warps) {
    uint32_t n = 0;
    for_elements(chunks[c], [&](uint32_t, float value, bool inside) {
      n += inside && element::magnitude_key(value) == key;
    });
    n = sum_of_warp(n);
    if (lane_of() == 0) equal[c] = n;
  }
}

__global__ void __launch_bounds__(threads)
    squares_of_chunks(const ChunkView* chunks, uint32_t count, const double* centres, double* squares) {
  for (uint32_t c = blockIdx.x * warps + threadIdx.x / warp_size; c < count; c += gridDim.x * warps) {
    const double centre = centres[c];
    const bool first_half = lane_of() < element::sum_lanes;
    double sum = 0;
    for_elements(chunks[c], [&](uint32_t, float value, bool inside) {
      const double off = double(value) - centre, square = inside ? off * off : 0.0;
      const double late = __shfl_down_sync(0xffffffffu, square, int(element::sum_lanes));
      sum += first_half ? square : 0.0;
      sum += first_half ? late : 0.0;
    });
    sum = fold(sum);
    if (lane_of() == 0) squares[c] = sum;
  }
}

__global__ void __launch_bounds__(threads)
    keys_of_chunks(const ChunkView* chunks, uint32_t count, const uint64_t* first, uint32_t* keys) {
  for (uint32_t c = blockIdx.x * warps + threadIdx.x / warp_size; c < count; c += gridDim.x * warps)
    for_elements(chunks[c], [&](uint32_t i, float value, bool inside) {
      if (inside) keys[first[c] + i] = element::magnitude_key(value);
    });
}

uint32_t blocks_for(uint32_t chunks) {
  int device = 0, processors = 1;
  check(cudaGetDevice(&device), "asking for the device");
  check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device), "asking for the device");
  const uint32_t wanted = (chunks + warps - 1) / warps;
  return wanted < uint32_t(processors) ? wanted : uint32_t(processors);
}

}  // namespace

void launch_summary(const ChunkView* chunks, uint32_t count, ChunkSums* sums, unsigned long long* histogram,
                    const Stream& stream) {
  if (count == 0) return;
  constexpr int bytes = int(element::summary_bins * sizeof(uint32_t));
  int device = 0, most = 0;
  check(cudaGetDevice(&device), "asking for the device");
  check(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
        "asking for shared memory");
  if (most >= bytes) {
    check(cudaFuncSetAttribute(summary_shared, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
          "asking for shared memory");
    summary_shared<<<blocks_for(count), threads, bytes, stream>>>(chunks, count, sums, histogram);
  } else {
    summary_global<<<blocks_for(count), threads, 0, stream>>>(chunks, count, sums, histogram);
  }
  check_launch("summary");
}

void launch_refine(const ChunkView* chunks, uint32_t count, const KeyRange* ranges, uint32_t range_count,
                   unsigned long long* counts, const Stream& stream) {
  if (count == 0 || range_count == 0) return;
  refine_chunks<<<4 * blocks_for(count), threads, 0, stream>>>(chunks, count, ranges, range_count, counts);
  check_launch("refine");
}

void launch_count_key(const ChunkView* chunks, uint32_t count, uint32_t key, uint32_t* equal,
                      const Stream& stream) {
  if (count == 0) return;
  count_chunks<<<4 * blocks_for(count), threads, 0, stream>>>(chunks, count, key, equal);
  check_launch("count_key");
}

void launch_squares_about(const ChunkView* chunks, uint32_t count, const double* centres, double* squares,
                          const Stream& stream) {
  if (count == 0) return;
  squares_of_chunks<<<4 * blocks_for(count), threads, 0, stream>>>(chunks, count, centres, squares);
  check_launch("squares_about");
}

void launch_keys(const ChunkView* chunks, uint32_t count, const uint64_t* first, uint32_t* keys,
                 const Stream& stream) {
  if (count == 0) return;
  keys_of_chunks<<<4 * blocks_for(count), threads, 0, stream>>>(chunks, count, first, keys);
  check_launch("keys");
}

}  // namespace jsq::cuda

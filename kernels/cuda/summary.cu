// A warp takes a chunk of 65,536 elements, so that its sums have the order of the contract (16 lanes, folded
// by halving) without any other warp. Integers may be added in any order.
#include "kernels/cuda/summary.hpp"

#include "kernels/cuda/warp.cuh"

namespace jsq::cuda {
namespace {

using element::ChunkSums;
using element::KeyRange;

constexpr uint32_t warps = 8, threads = warps * warp_size;
constexpr uint32_t unroll = 16;  // loads of a warp that are under way together

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

__device__ uint32_t sum_of_warp(uint32_t value) {
  return __reduce_add_sync(all_lanes, value);
}

/// Summary of one chunk by one warp. `Count`: adds an element that is not zero to the histogram's bin.
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
    if (inside && key != 0 && key != 0xffffffffu) count_bin(key >> element::summary_bin_shift);
    const float other = __shfl_xor_sync(all_lanes, value, int(element::sum_lanes));
    const double early = first_half ? value : other, late = first_half ? other : value;
    // Zeros behind the chunk's end change no sum: sums start at +0 and never become -0.
    sum += first_half ? early : early * early;
    sum += first_half ? late : late * late;
    sum_abs += early < 0 ? -early : early;
    sum_abs += late < 0 ? -late : late;
  });
  sum = fold_lanes(sum);
  sum_abs = fold_lanes(sum_abs);
  const double energy = __shfl_sync(all_lanes, sum, int(element::sum_lanes));
  zeros = sum_of_warp(zeros);
  nan = sum_of_warp(nan);
  positive = sum_of_warp(positive);
  negative = sum_of_warp(negative);
  max_key = __reduce_max_sync(all_lanes, max_key);
  first_nonfinite = __reduce_min_sync(all_lanes, first_nonfinite);
  if (lane != 0) return;
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

/// Counters of neighbouring bins in shared memory. Every lane has its own, so that no lane of a warp waits
/// for another's bank: a row of 32 words, each with the counters of two bins. Bins outside the window are
/// counted in global memory, at once.
struct Window {
  uint32_t* words;
  uint32_t low, bins;
  unsigned long long* histogram;

  __device__ void count(uint32_t bin) const {
    const uint32_t place = bin - low;
    if (place < bins)
      atomicAdd(&words[place / 2 * warp_size + lane_of()], place % 2 ? 0x10000u : 1u);
    else
      atomicAdd(&histogram[bin], 1ull);
  }
  /// Adds the counters to the histogram and clears them. All threads.
  __device__ void flush() const {
    for (uint32_t row = warp_of(); row < bins / 2; row += warps) {
      const uint32_t word = words[row * warp_size + lane_of()];
      words[row * warp_size + lane_of()] = 0;
      const uint32_t even = sum_of_warp(word & 0xffffu), odd = sum_of_warp(word >> 16);
      const uint32_t mine = lane_of() == 0 ? even : odd;
      if (lane_of() < 2 && mine != 0)
        atomicAdd(&histogram[low + 2 * row + lane_of()], static_cast<unsigned long long>(mine));
    }
  }
};

constexpr uint32_t bins_of_octave = 1u << (23 - element::summary_bin_shift);
constexpr uint32_t octaves_above = 2;  ///< the window's, above the largest magnitude of a sample
/// A lane meets 2,048 elements of a chunk: as many rounds of all warps leave its counters of 16 bits room.
constexpr uint32_t rounds_to_flush = 65535 / (warps * uint32_t(element::sum_chunk) / warp_size);

/// The first bin of a window that ends a little above the largest of some elements of the block's first
/// chunk.
__device__ uint32_t place_window(const ChunkView chunk, uint32_t bins, uint32_t& shared_key) {
  if (threadIdx.x == 0) shared_key = 0;
  __syncthreads();
  const uint32_t i = warp_of() * (chunk.count / warps) + lane_of();
  const uint32_t key = i < chunk.count ? element::magnitude_key(chunk.values[i]) : 0;
  if (key != 0 && key < element::first_nonfinite_key) atomicMax(&shared_key, key);
  __syncthreads();
  const uint32_t largest = shared_key != 0 ? shared_key : element::bits_as<uint32_t>(1.0f);
  const uint32_t wanted = (largest >> element::summary_bin_shift) + octaves_above * bins_of_octave;
  const uint32_t end = wanted < element::summary_bins ? wanted : element::summary_bins;
  return end > bins ? (end - bins) & ~1u : 0;
}

__global__ void __launch_bounds__(threads)
    summarise_chunks(const ChunkView* chunks, uint32_t count, uint32_t bins, ChunkSums* sums,
                     unsigned long long* histogram) {
  extern __shared__ uint32_t words[];
  __shared__ uint32_t sampled_key;
  for (uint32_t w = threadIdx.x; w < bins / 2 * warp_size; w += threads) words[w] = 0;
  const Window window{words, place_window(chunks[blockIdx.x], bins, sampled_key), bins, histogram};
  const uint32_t each_round = gridDim.x * warps;
  uint32_t round = 0;
  for (uint32_t first = 0; first < count; first += each_round) {
    // Neighbouring chunks go to different processors.
    const uint32_t c = first + warp_of() * gridDim.x + blockIdx.x;
    if (c < count) {
      summarise_chunk(chunks[c], sums[c], [&](uint32_t bin) { window.count(bin); });
      if (lane_of() == 0 && sums[c].zeros != 0)
        atomicAdd(&histogram[0], static_cast<unsigned long long>(sums[c].zeros));
    }
    if (++round % rounds_to_flush != 0) continue;
    __syncthreads();
    window.flush();
    __syncthreads();
  }
  __syncthreads();
  window.flush();
}

__global__ void __launch_bounds__(threads)
    refine_chunks(const ChunkView* chunks, uint32_t count, const KeyRange* ranges, uint32_t range_count,
                  unsigned long long* counts) {
  for (uint32_t c = blockIdx.x * warps + warp_of(); c < count; c += gridDim.x * warps)
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
  for (uint32_t c = blockIdx.x * warps + warp_of(); c < count; c += gridDim.x * warps) {
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
  for (uint32_t c = blockIdx.x * warps + warp_of(); c < count; c += gridDim.x * warps) {
    const double centre = centres[c];
    const bool first_half = lane_of() < element::sum_lanes;
    double sum = 0;
    for_elements(chunks[c], [&](uint32_t, float value, bool inside) {
      const double off = double(value) - centre, square = inside ? off * off : 0.0;
      const double late = __shfl_down_sync(all_lanes, square, int(element::sum_lanes));
      sum += first_half ? square : 0.0;
      sum += first_half ? late : 0.0;
    });
    sum = fold_lanes(sum);
    if (lane_of() == 0) squares[c] = sum;
  }
}

__global__ void __launch_bounds__(threads)
    keys_of_chunks(const ChunkView* chunks, uint32_t count, const uint64_t* first, uint32_t* keys) {
  for (uint32_t c = blockIdx.x * warps + warp_of(); c < count; c += gridDim.x * warps)
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
  int device = 0, most = 0, processors = 1;
  check(cudaGetDevice(&device), "asking for the device");
  check(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
        "asking for shared memory");
  check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device), "asking for the device");
  constexpr int row_bytes = warp_size * sizeof(uint32_t),
                other_bytes = 1024;  // the runtime's, and the sample's
  const uint32_t bins = uint32_t((most - other_bytes) / row_bytes) * 2;
  const int bytes = int(bins / 2) * row_bytes;
  check(cudaFuncSetAttribute(summarise_chunks, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
        "asking for shared memory");
  const uint32_t blocks = count < uint32_t(processors) ? count : uint32_t(processors);
  summarise_chunks<<<blocks, threads, bytes, stream>>>(chunks, count, bins, sums, histogram);
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

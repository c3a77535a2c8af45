// A thread block takes two chunks of 65,536 elements, so that their sums have the order of the contract (16
// lanes, folded by halving) without any other block. Integers may be added in any order.
#include "kernels/cuda/summary.hpp"

#include "kernels/cuda/grid.hpp"
#include "kernels/cuda/staged_chunks.cuh"

namespace jsq::cuda {
namespace {

using element::ChunkSums;
using element::KeyRange;

__device__ uint32_t sum_of_warp(uint32_t value) {
  return __reduce_add_sync(all_lanes, value);
}

constexpr uint32_t summing_warps = 2, summary_threads = loading_threads + summing_warps * warp_size;
constexpr uint32_t blocks_together = 2;  ///< on a processor

/// Counters of neighbouring bins in shared memory. Every lane has its own, so that no lane of a warp waits
/// for another's bank: a row of 32 words, each with the counters of four bins. One that comes to half of what
/// it can hold is moved to a counter of all lanes. Bins outside the window are counted in global memory.
struct Window {
  uint32_t* words;
  uint32_t* moved;  ///< by bin
  uint32_t bins;    ///< a multiple of 4
  unsigned long long* histogram;
  uint32_t low = 0;

  static constexpr uint32_t row_bins = 4, counter_bits = 8, row_words = warp_size + row_bins;  // with `moved`
  static constexpr uint32_t half_full = 0x80808080u;
  /// Counts that a warp may add to a counter before it looks whether some are half full: all warps together
  /// then leave all counters below 256.
  static constexpr uint32_t before_moving = 4;
  static_assert(127 + loading_warps * before_moving < 256);

  /// What the lane's word was; `place` is that of the bin in the window.
  __device__ uint32_t count(uint32_t place) const {
    return atomicAdd(&words[place / row_bins * warp_size + lane_of()], 1u << place % row_bins * counter_bits);
  }
  __device__ void move(uint32_t place) const {
    const uint32_t row = place / row_bins, word = atomicExch(&words[row * warp_size + lane_of()], 0u);
#pragma unroll
    for (uint32_t b = 0; b < row_bins; ++b)
      atomicAdd(&moved[row * row_bins + b], word >> b * counter_bits & 0xffu);
  }
  __device__ void clear() const {
    for (uint32_t w = threadIdx.x; w < bins / row_bins * row_words; w += summary_threads) words[w] = 0;
  }
  /// Adds the counters to the histogram and clears them: a thread a row, from another bank than its
  /// neighbours.
  __device__ void flush() const {
    for (uint32_t row = threadIdx.x; row < bins / row_bins; row += summary_threads) {
      uint32_t even = 0, odd = 0;  // of two bins each
#pragma unroll 4
      for (uint32_t k = 0; k < warp_size; ++k) {
        uint32_t& word = words[row * warp_size + (lane_of() + k) % warp_size];
        even += word & 0x00ff00ffu;
        odd += word >> counter_bits & 0x00ff00ffu;
        word = 0;
      }
#pragma unroll
      for (uint32_t b = 0; b < row_bins; ++b) {
        uint32_t& before = moved[row * row_bins + b];
        const uint32_t sum = before + ((b % 2 == 0 ? even : odd) >> b / 2 * 16 & 0xffffu);
        before = 0;
        if (sum != 0) atomicAdd(&histogram[low + row * row_bins + b], static_cast<unsigned long long>(sum));
      }
    }
  }
  /// Where a window begins whose elements lie about `centre`: bins of small magnitudes are sparse, but many.
  /// Never at bin 0, which zeros share.
  __device__ uint32_t low_about(uint32_t centre) const {
    const uint32_t below = bins / 8 * 5, wanted = centre > below ? centre - below : 1u;
    return wanted + bins < element::summary_bins ? wanted : element::summary_bins - bins;
  }
};

/// What may be counted in any order of a chunk.
struct Tally {
  uint32_t zeros = 0, nan = 0, positive = 0, negative = 0;
  uint32_t first_nonfinite = 0xffffffffu, max_key = 0;

  /// Counts an element that is not finite; in shared memory, since there are few.
  __device__ void leave_out(uint32_t index, float value, uint32_t key) {
    atomicAdd(key > element::first_nonfinite_key ? &nan : value > 0 ? &positive : &negative, 1u);
    atomicMin(&first_nonfinite, index);
  }
};

/// What a thread counts of a chunk.
struct OwnTally {
  uint32_t zeros = 0, max_key = 0;

  /// Counts the elements of a thread in a tile, zeros behind the end too, and sets those to 0 that are not
  /// finite.
  __device__ void count(const Window& window, Tally& all, uint32_t step, StagedTile& tile) {
    float g[staged_each];
    look_at(tile, g);
    uint32_t most = 0;
#pragma unroll
    for (uint32_t k = 0; k < staged_each; ++k) {
      const uint32_t key = element::magnitude_key(g[k]);
      most = most > key ? most : key;
    }
    if (most >= element::first_nonfinite_key) {
      most = 0;
#pragma unroll
      for (uint32_t k = 0; k < staged_each; ++k) {
        const uint32_t key = element::magnitude_key(g[k]);
        if (key < element::first_nonfinite_key) {
          most = most > key ? most : key;
          continue;
        }
        all.leave_out(step * staged_elements + own_four(k / 4) + k % 4, g[k], key);
        --zeros;  // as which it is counted below
        g[k] = tile.words[own_place(k / 4) + k % 4] = 0;
      }
    }
    max_key = max_key > most ? max_key : most;
    constexpr uint32_t some = Window::before_moving;
#pragma unroll
    for (uint32_t from = 0; from < staged_each; from += some) {
      uint32_t places[some], words[some];
#pragma unroll
      for (uint32_t k = 0; k < some; ++k) {
        const uint32_t key = element::magnitude_key(g[from + k]), bin = key >> element::summary_bin_shift;
        places[k] = bin - window.low;
        words[k] = 0;
        if (places[k] < window.bins)
          words[k] = window.count(places[k]);
        else if (key == 0)
          ++zeros;
        else
          atomicAdd(&window.histogram[bin], 1ull);
      }
#pragma unroll
      for (uint32_t k = 0; k < some; ++k)
        if (words[k] & Window::half_full) window.move(places[k]);
    }
  }
  /// All lanes of a warp.
  __device__ void add_to(Tally& all) const {
    const uint32_t warp_zeros = sum_of_warp(zeros), most = __reduce_max_sync(all_lanes, max_key);
    if (lane_of() != 0) return;
    atomicAdd(&all.zeros, warp_zeros);
    atomicMax(&all.max_key, most);
  }
};

/// Some elements of two chunks: their bins.
struct Sample {
  uint32_t bins = 0, count = 0;

  /// The values of a warp in a tile.
  __device__ void add(const StagedTile& tile) {
    float g[staged_each];
    look_at(tile, g);
    uint32_t own_bins = 0, own_count = 0;
#pragma unroll
    for (uint32_t k = 0; k < staged_each; ++k) {
      const uint32_t key = element::magnitude_key(g[k]);
      const bool counts = key != 0 && key < element::first_nonfinite_key;
      own_bins += counts ? key >> element::summary_bin_shift : 0;
      own_count += counts;
    }
    own_bins = sum_of_warp(own_bins);
    own_count = sum_of_warp(own_count);
    if (lane_of() != 0) return;
    atomicAdd(&bins, own_bins);
    atomicAdd(&count, own_count);
  }
  __device__ uint32_t mean_bin() const {
    return count != 0 ? bins / count : element::bits_as<uint32_t>(1.0f) >> element::summary_bin_shift;
  }
};

__global__ void __launch_bounds__(summary_threads, blocks_together)
    summarise_chunks(const ChunkView* chunks, uint32_t count, uint32_t bins, ChunkSums* sums,
                     unsigned long long* histogram) {
  extern __shared__ StagedTile tiles[];
  __shared__ Tally tallies[chunks_together];
  __shared__ Sample sample;
  auto* counters = reinterpret_cast<uint32_t*>(tiles + staged_tiles);
  Window window{counters, counters + bins / Window::row_bins * warp_size, bins, histogram};
  window.clear();
  if (threadIdx.x < chunks_together) tallies[threadIdx.x] = {};
  if (threadIdx.x == 0) sample = {};
  __syncthreads();
  for (uint32_t first = chunks_together * blockIdx.x; first < count; first += chunks_together * gridDim.x) {
    const bool there = first + own_chunk() < count;
    const ChunkView own = there ? chunks[first + own_chunk()] : ChunkView{};
    const uint32_t one = chunks[first].count, other = first + 1 < count ? chunks[first + 1].count : 0,
                   longest = one > other ? one : other;
    if (loads_chunks()) {
      bring_first(own, tiles);
      await_tile();
      sample.add(tiles[0]);
    }
    __syncthreads();
    const uint32_t low = window.low_about(sample.mean_bin()),
                   off = low > window.low ? low - window.low : window.low - low;
    if (off > bins / 8 || window.low == 0) {
      if (window.low != 0) window.flush();
      window.low = low;
    }
    __syncthreads();
    if (threadIdx.x == 0) sample = {};
    const uint32_t steps = staged_steps(longest);
    // Zeros behind a chunk's end change no sum: sums start at +0 and never become -0.
    if (loads_chunks()) {
      OwnTally tally;
      stage_tiles(own, steps, tiles, [&](uint32_t step, StagedTile& tile) {
        tally.count(window, tallies[loaded_chunk()], step, tile);
      });
      tally.add_to(tallies[loaded_chunk()]);
    } else if (warp_of() == loading_warps) {
      double sum = 0, sum_abs = 0;
      add_tiles(steps, tiles, [&](double g) {
        sum += g;
        sum_abs += fabs(g);
      });
      sum = fold_lanes(sum);
      sum_abs = fold_lanes(sum_abs);
      if (there && lane_of() % element::sum_lanes == 0) {
        sums[first + added_chunk()].sum = sum;
        sums[first + added_chunk()].sum_abs = sum_abs;
      }
    } else {
      double energy = 0;
      add_tiles(steps, tiles, [&](double g) { energy += g * g; });
      energy = fold_lanes(energy);
      if (there && lane_of() % element::sum_lanes == 0) sums[first + added_chunk()].energy = energy;
    }
    __syncthreads();
    if (!loads_chunks() || threadIdx.x % threads_of_chunk != 0) continue;
    Tally& tally = tallies[loaded_chunk()];
    if (there) {
      ChunkSums& result = sums[first + loaded_chunk()];
      // What lies behind the end was counted, too.
      const uint32_t looked_at = steps * staged_elements, zeros = tally.zeros - (looked_at - own.count);
      result.zeros = zeros;
      result.nan = tally.nan;
      result.positive_infinite = tally.positive;
      result.negative_infinite = tally.negative;
      result.first_nonfinite = tally.first_nonfinite == 0xffffffffu ? UINT64_MAX : tally.first_nonfinite;
      result.max_key = tally.max_key;
      if (zeros != 0) atomicAdd(&histogram[0], static_cast<unsigned long long>(zeros));
    }
    tally = {};
  }
  window.flush();
}

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
  // As many bins as leave room for another block on the processor.
  constexpr uint64_t row_bytes = Window::row_words * sizeof(uint32_t);
  constexpr uint64_t tile_bytes = sizeof(StagedTile[staged_tiles]), other_bytes = 256;
  const uint64_t room =
      std::min(device_attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor) / blocks_together -
                   device_attribute(cudaDevAttrReservedSharedMemoryPerBlock),
               device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin));
  const uint64_t rows = (room - tile_bytes - other_bytes) / row_bytes;
  const size_t bytes = tile_bytes + rows * row_bytes;
  check(cudaFuncSetAttribute(summarise_chunks, cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes)),
        "asking for shared memory");
  const uint32_t blocks = blocks_at_once(summarise_chunks, summary_threads, bytes,
                                         (count + chunks_together - 1) / chunks_together);
  summarise_chunks<<<blocks, summary_threads, bytes, stream>>>(
      chunks, count, uint32_t(Window::row_bins * rows), sums, histogram);
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

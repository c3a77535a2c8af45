// A thread block takes two chunks of 65,536 elements, so that their sums have the order of the contract (16
// lanes, folded by halving) without any other block. Integers may be added in any order.
#include "kernels/cuda/summary.hpp"

#include "kernels/cuda/any_order.cuh"
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
    const Pair pair(chunks, count, first);
    if (loads_chunks()) {
      bring_first(pair.own, tiles);
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
    // Zeros behind a chunk's end change no sum: sums start at +0 and never become -0.
    if (loads_chunks()) {
      OwnTally tally;
      stage_tiles(pair.own, pair.steps, tiles, [&](uint32_t step, StagedTile& tile) {
        tally.count(window, tallies[loaded_chunk()], step, tile);
      });
      tally.add_to(tallies[loaded_chunk()]);
    } else if (warp_of() == loading_warps) {
      double sum = 0, sum_abs = 0;
      add_tiles(pair.steps, tiles, [&](double g) {
        sum += g;
        sum_abs += fabs(g);
      });
      sum = fold_lanes(sum);
      sum_abs = fold_lanes(sum_abs);
      if (pair.there && lane_of() % element::sum_lanes == 0) {
        sums[first + added_chunk()].sum = sum;
        sums[first + added_chunk()].sum_abs = sum_abs;
      }
    } else {
      double energy = 0;
      add_tiles(pair.steps, tiles, [&](double g) { energy += g * g; });
      energy = fold_lanes(energy);
      if (pair.there && lane_of() % element::sum_lanes == 0) sums[first + added_chunk()].energy = energy;
    }
    __syncthreads();
    if (!loads_chunks() || threadIdx.x % threads_of_chunk != 0) continue;
    Tally& tally = tallies[loaded_chunk()];
    if (pair.there) {
      ChunkSums& result = sums[first + loaded_chunk()];
      // What lies behind the end was counted, too.
      const uint32_t looked_at = pair.steps * staged_elements,
                     zeros = tally.zeros - (looked_at - pair.own.count);
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

constexpr uint32_t squares_threads = loading_threads + warp_size;

__global__ void __launch_bounds__(squares_threads, blocks_together)
    squares_of_chunks(const ChunkView* chunks, uint32_t count, const double* centres, double* squares) {
  extern __shared__ StagedTile tiles[];
  for (uint32_t first = chunks_together * blockIdx.x; first < count; first += chunks_together * gridDim.x) {
    const Pair pair(chunks, count, first);
    if (loads_chunks()) {
      bring_first(pair.own, tiles);
      stage_tiles(pair.own, pair.steps, tiles, [](uint32_t, StagedTile&) {});
    } else {
      const uint32_t lane = lane_of() % element::sum_lanes;
      const double centre = pair.there ? centres[first + added_chunk()] : 0.0;
      double sum = 0;
      uint32_t left = (pair.own.count + element::sum_lanes - 1 - lane) / element::sum_lanes;
      add_tiles(pair.steps, tiles, [&](double g) {
        const double off = g - centre;
        if (left == 0) return;
        sum += off * off;
        --left;
      });
      sum = fold_lanes(sum);
      if (pair.there && lane == 0) squares[first + added_chunk()] = sum;
    }
    __syncthreads();
  }
}

/// Ranges that shared memory holds; more are read from where they are.
constexpr uint32_t shared_ranges = 512;

__global__ void __launch_bounds__(chunk_threads)
    refine_chunks(const ChunkView* chunks, uint32_t count, const KeyRange* ranges, uint32_t range_count,
                  unsigned long long* counts) {
  // Most keys lie in no range: a bit for each of the summary's bins tells which may.
  constexpr uint32_t bits = 32, words = (1u << (31 - element::summary_bin_shift)) / bits;
  __shared__ uint32_t bins_of_ranges[words];
  __shared__ KeyRange near[shared_ranges];
  for (uint32_t w = threadIdx.x; w < words; w += chunk_threads) bins_of_ranges[w] = 0;
  for (uint32_t r = threadIdx.x; r < range_count && r < shared_ranges; r += chunk_threads)
    near[r] = ranges[r];
  __syncthreads();
  for (uint32_t r = threadIdx.x; r < range_count; r += chunk_threads) {
    const KeyRange range = ranges[r];
    const uint32_t last = range.low + ((element::cells_of_range << range.shift) - 1);
    for (uint32_t bin = range.low >> element::summary_bin_shift;
         bin <= last >> element::summary_bin_shift && bin < words * bits; ++bin)
      atomicOr(&bins_of_ranges[bin / bits], 1u << bin % bits);
  }
  __syncthreads();
  const KeyRange* sought = range_count <= shared_ranges ? near : ranges;
  const KeyRange lowest = ranges[0], highest = ranges[range_count - 1];
  const uint32_t span = highest.low + (element::cells_of_range << highest.shift) - lowest.low;
  for (uint32_t c = blockIdx.x; c < count; c += gridDim.x)
    for_elements(chunks[c], [&](uint32_t, float value) {
      const uint32_t key = element::magnitude_key(value), bin = key >> element::summary_bin_shift;
      if (key - lowest.low >= span) return;
      if ((bins_of_ranges[bin / bits] >> bin % bits & 1) == 0) return;
      // The last range that starts at or below the key.
      uint32_t low = 0, high = range_count;
      while (low < high) {
        const uint32_t middle = (low + high) / 2;
        if (sought[middle].low <= key)
          low = middle + 1;
        else
          high = middle;
      }
      if (low == 0) return;
      const KeyRange range = sought[low - 1];
      const uint32_t offset = key - range.low;
      if (offset < element::cells_of_range << range.shift)
        atomicAdd(&counts[element::cells_of_range * (low - 1) + (offset >> range.shift)], 1ull);
    });
}

__global__ void __launch_bounds__(chunk_threads)
    count_chunks(const ChunkView* chunks, uint32_t count, uint32_t key, uint32_t* equal) {
  __shared__ uint32_t found;
  for (uint32_t c = blockIdx.x; c < count; c += gridDim.x) {
    if (threadIdx.x == 0) found = 0;
    __syncthreads();
    uint32_t n = 0;
    for_elements(chunks[c], [&](uint32_t, float value) { n += element::magnitude_key(value) == key; });
    n = sum_of_warp(n);
    if (lane_of() == 0 && n != 0) atomicAdd(&found, n);
    __syncthreads();
    if (threadIdx.x == 0) equal[c] = found;
  }
}

__global__ void __launch_bounds__(chunk_threads)
    keys_of_chunks(const ChunkView* chunks, uint32_t count, const uint64_t* first, uint32_t* keys) {
  for (uint32_t c = blockIdx.x; c < count; c += gridDim.x) {
    uint32_t* to = keys + first[c];
    for_elements(chunks[c], [&](uint32_t i, float value) { to[i] = element::magnitude_key(value); });
  }
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
  const uint32_t blocks = blocks_for_pairs(summarise_chunks, summary_threads, bytes, count);
  summarise_chunks<<<blocks, summary_threads, bytes, stream>>>(
      chunks, count, uint32_t(Window::row_bins * rows), sums, histogram);
  check_launch("summary");
}

void launch_refine(const ChunkView* chunks, uint32_t count, const KeyRange* ranges, uint32_t range_count,
                   unsigned long long* counts, const Stream& stream) {
  if (count == 0 || range_count == 0) return;
  launch_on_chunks("refine", refine_chunks, chunks, count, stream, ranges, range_count, counts);
}

void launch_count_key(const ChunkView* chunks, uint32_t count, uint32_t key, uint32_t* equal,
                      const Stream& stream) {
  if (count > 0) launch_on_chunks("count_key", count_chunks, chunks, count, stream, key, equal);
}

void launch_squares_about(const ChunkView* chunks, uint32_t count, const double* centres, double* squares,
                          const Stream& stream) {
  if (count > 0)
    launch_on_pairs("squares_about", squares_of_chunks, squares_threads, chunks, count, stream, centres,
                    squares);
}

void launch_keys(const ChunkView* chunks, uint32_t count, const uint64_t* first, uint32_t* keys,
                 const Stream& stream) {
  if (count > 0) launch_on_chunks("keys", keys_of_chunks, chunks, count, stream, first, keys);
}

}  // namespace jsq::cuda

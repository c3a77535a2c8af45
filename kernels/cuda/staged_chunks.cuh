// Sums of chunks in the contract's order at the speed of memory. Lane l of a chunk adds 4,096 elements one
// after the other, a chain that no second thread shortens; so a thread block takes two chunks: most of its
// warps load tiles of both, do what may take any order, and leave the values in shared memory, where a few
// others each add one or two sums, a half warp a chunk.
#pragma once

#include <cuda_pipeline.h>

#include "kernels/cuda/grid.hpp"
#include "kernels/cuda/summary.hpp"
#include "kernels/cuda/warp.cuh"

namespace jsq::cuda {

constexpr uint32_t staged_tiles = 3;  ///< one that is added, one that is looked at, one on its way
constexpr uint32_t chunks_together = 2;
constexpr uint32_t loading_warps = 16;  ///< of both chunks
constexpr uint32_t loading_threads = loading_warps * warp_size,
                   threads_of_chunk = loading_threads / chunks_together;
constexpr uint32_t staged_each = 8;  ///< elements of a thread in a tile: two loads of four
constexpr uint32_t staged_elements = staged_each * threads_of_chunk;  ///< of a chunk in a tile
constexpr uint32_t staged_rows = staged_elements / element::sum_lanes;
static_assert(chunks_together * element::sum_lanes == warp_size && staged_rows % 16 == 0);

/// Rows of 16 elements of both chunks side by side, in every second row the second chunk's first, so that
/// neither stores of fours nor loads of rows wait for a bank.
struct alignas(16) StagedTile {
  float words[staged_rows * warp_size];
};

__device__ inline bool loads_chunks() {
  return warp_of() < loading_warps;
}
/// Of the two chunks, that of a thread that loads.
__device__ inline uint32_t loaded_chunk() {
  return threadIdx.x / threads_of_chunk;
}
/// Of the two chunks, that of a thread that adds.
__device__ inline uint32_t added_chunk() {
  return lane_of() / element::sum_lanes;
}
__device__ inline uint32_t own_chunk() {
  return loads_chunks() ? loaded_chunk() : added_chunk();
}
/// A warp that loads has neighbouring elements of its chunk in a tile.
constexpr uint32_t staged_of_warp = staged_each * warp_size;
/// Of a warp that loads: where its elements begin in a tile of its chunk.
__device__ inline uint32_t own_stretch() {
  return threadIdx.x % threads_of_chunk / warp_size * staged_of_warp;
}
/// Of a thread that loads: where the q-th of its fours begins in a tile of its chunk.
__device__ inline uint32_t own_four(uint32_t q) {
  return own_stretch() + 4 * (q * warp_size + lane_of());
}
/// Where an element of a chunk lies in the tile of both.
__device__ inline uint32_t staged_place(uint32_t chunk, uint32_t at) {
  const uint32_t row = at / element::sum_lanes;
  return row * warp_size + (chunk ^ row % 2) * element::sum_lanes + at % element::sum_lanes;
}
/// Of a thread that loads: where the q-th of its fours lies in the tile of both chunks.
__device__ inline uint32_t own_place(uint32_t q) {
  constexpr uint32_t rows_apart = 4 * warp_size / element::sum_lanes;
  static_assert(rows_apart % 2 == 0);
  return staged_place(loaded_chunk(), own_four(0)) + q * rows_apart * warp_size;
}

/// The values of a thread that loads, in a tile that has come.
__device__ inline void look_at(const StagedTile& tile, float* g) {
#pragma unroll
  for (uint32_t q = 0; q < staged_each / 4; ++q) {
    const float4 four = *reinterpret_cast<const float4*>(&tile.words[own_place(q)]);
    g[4 * q] = four.x, g[4 * q + 1] = four.y, g[4 * q + 2] = four.z, g[4 * q + 3] = four.w;
  }
}

/// Leaves numbers of the elements of a thread that loads in a tile.
__device__ inline void leave(StagedTile& tile, const float* g) {
#pragma unroll
  for (uint32_t q = 0; q < staged_each / 4; ++q)  // an index of fours, so that they are stored together
    reinterpret_cast<float4*>(tile.words)[own_place(q) / 4] =
        float4{g[4 * q], g[4 * q + 1], g[4 * q + 2], g[4 * q + 3]};
}

/// Has the values of a thread that loads brought to a tile; `behind` stands for what lies behind the chunk's
/// end.
__device__ inline void bring(const ChunkView& chunk, uint32_t step, StagedTile& tile, float behind) {
#pragma unroll
  for (uint32_t q = 0; q < staged_each / 4; ++q) {
    const uint32_t i = step * staged_elements + own_four(q);
    const float* from = chunk.values + i;
    float* to = &tile.words[own_place(q)];
    if (i + 4 <= chunk.count && reinterpret_cast<uint64_t>(from) % sizeof(float4) == 0) {
      __pipeline_memcpy_async(to, from, sizeof(float4));
      continue;
    }
    for (uint32_t k = 0; k < 4; ++k)
      if (i + k < chunk.count)
        __pipeline_memcpy_async(to + k, from + k, sizeof(float));
      else
        to[k] = behind;
  }
  __pipeline_commit();
}

/// Calls use(numbers) for the elements of a lane in some tiles, in order; the next ones are on their way
/// meanwhile.
template <uint32_t N, class Use>
__device__ void for_rows(const StagedTile* const (&tiles)[N], Use use) {
  constexpr uint32_t some = 8 / N;
  const uint32_t even = lane_of(), odd = lane_of() ^ element::sum_lanes;
  float first[some][N], second[some][N];
  const auto load = [&](uint32_t row, float(&g)[some][N]) {
#pragma unroll
    for (uint32_t k = 0; k < some; ++k)
#pragma unroll
      for (uint32_t n = 0; n < N; ++n)
        g[k][n] = tiles[n]->words[(row + k) * warp_size + (k % 2 ? odd : even)];
  };
  load(0, first);
  for (uint32_t row = 0; row < staged_rows; row += 2 * some) {
    load(row + some, second);
#pragma unroll
    for (uint32_t k = 0; k < some; ++k) use(first[k]);
    if (row + 2 * some < staged_rows) load(row + 2 * some, first);
#pragma unroll
    for (uint32_t k = 0; k < some; ++k) use(second[k]);
  }
}

/// Between those that load and those that add, which come to it at different places.
__device__ inline void staged_barrier(uint32_t threads) {
  __barrier_sync_count(1, threads);
}

/// Two chunks of many.
struct Pair {
  bool there;      ///< is that of this thread?
  ChunkView own;   ///< of this thread; empty where it is not there
  uint32_t steps;  ///< tiles of the longer one

  template <class View>
  __device__ Pair(const View* chunks, uint32_t count, uint32_t first) : there(first + own_chunk() < count) {
    if (there) own = {chunks[first + own_chunk()].values, chunks[first + own_chunk()].count};
    const uint32_t one = chunks[first].count, other = first + 1 < count ? chunks[first + 1].count : 0;
    steps = ((one > other ? one : other) + staged_elements - 1) / staged_elements;
  }
};

/// Of warps that load: the first tiles are on their way.
__device__ inline void bring_first(const ChunkView& chunk, StagedTile* tiles, float behind = 0) {
  bring(chunk, 0, tiles[0], behind);
  bring(chunk, 1, tiles[1], behind);
}
/// Of a warp that loads: its part of the tile before the last that was brought is there.
__device__ inline void await_tile() {
  __pipeline_wait_prior(1);
}

/// Of warps that load, behind bring_first: calls use(step, tile) when a thread's own values of a tile have
/// come.
template <class Use>
__device__ void stage_tiles(const ChunkView& chunk, uint32_t steps, StagedTile* tiles, Use use,
                            float behind = 0) {
  for (uint32_t step = 0, turn = 0; step < steps; ++step) {
    await_tile();
    use(step, tiles[turn]);
    staged_barrier(blockDim.x);
    // Nobody looks at the tile before any more.
    turn = turn + 1 < staged_tiles ? turn + 1 : 0;
    if (step + 2 < steps)
      bring(chunk, step + 2, tiles[turn + 1 < staged_tiles ? turn + 1 : 0], behind);
    else
      __pipeline_commit();  // nothing
  }
}

/// Of the other warps: calls use(g) for the elements of a lane in order, and for what is behind a chunk's
/// end.
template <class Use>
__device__ void add_tiles(uint32_t steps, const StagedTile* tiles, Use use) {
  for (uint32_t step = 0, turn = 0; step < steps; ++step) {
    staged_barrier(blockDim.x);
    const StagedTile* const staged[] = {tiles + turn};
    for_rows(staged, [&](const float* g) { use(g[0]); });
    turn = turn + 1 < staged_tiles ? turn + 1 : 0;
  }
}

/// Blocks of a kernel that goes over pairs of chunks.
template <class Kernel>
uint32_t blocks_for_pairs(Kernel kernel, uint32_t threads, size_t shared_bytes, uint32_t chunks) {
  return blocks_at_once(kernel, threads, shared_bytes, (chunks + chunks_together - 1) / chunks_together);
}
/// A kernel that goes over pairs of chunks and has no other shared memory of variable size than their tiles.
template <class Kernel, class Chunk, class... Arguments>
void launch_on_pairs(const char* what, Kernel kernel, uint32_t threads, const Chunk* chunks, uint32_t count,
                     const Stream& stream, Arguments... arguments) {
  constexpr size_t bytes = sizeof(StagedTile[staged_tiles]);
  kernel<<<blocks_for_pairs(kernel, threads, bytes, count), threads, bytes, stream>>>(chunks, count,
                                                                                      arguments...);
  check_launch(what);
}

}  // namespace jsq::cuda

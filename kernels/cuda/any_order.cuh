// What may be counted of a chunk in any order: a thread block has a chunk, and goes on with another.
#pragma once

#include "kernels/cuda/grid.hpp"
#include "kernels/cuda/summary.hpp"
#include "kernels/cuda/warp.cuh"

namespace jsq::cuda {

constexpr uint32_t chunk_threads = 512;

/// Calls use(index, value) for the elements of a chunk, by all threads of a block.
template <class Use>
__device__ void for_elements(const ChunkView chunk, Use use) {
  constexpr uint32_t unroll = 8;  // loads of a thread that are under way together
  for (uint32_t at = threadIdx.x; at < chunk.count; at += unroll * chunk_threads) {
    float values[unroll];
#pragma unroll
    for (uint32_t k = 0; k < unroll; ++k) {
      const uint32_t i = at + k * chunk_threads;
      values[k] = i < chunk.count ? chunk.values[i] : 0.0f;
    }
#pragma unroll
    for (uint32_t k = 0; k < unroll; ++k)
      if (at + k * chunk_threads < chunk.count) use(at + k * chunk_threads, values[k]);
  }
}

/// A kernel of chunk_threads, of all chunks.
template <class Kernel, class... Arguments>
void launch_on_chunks(const char* what, Kernel kernel, const ChunkView* chunks, uint32_t count,
                      const Stream& stream, Arguments... arguments) {
  kernel<<<blocks_at_once(kernel, chunk_threads, 0, count), chunk_threads, 0, stream>>>(chunks, count,
                                                                                        arguments...);
  check_launch(what);
}

}  // namespace jsq::cuda

// What single methods ask for of chunks, beside the summary: sums of magnitudes in fours and of values by
// their sign, counts of large magnitudes, keys at even distances. Sums have the contract's order.
#include "kernels/cuda/any_order.cuh"
#include "kernels/cuda/level_kernels.hpp"
#include "kernels/cuda/resident_values.hpp"
#include "kernels/cuda/sparse.hpp"
#include "kernels/cuda/staged_chunks.cuh"

namespace jsq::cuda {
namespace {

/// Sums of fours of two chunks, one chunk behind the other.
struct FourTile {
  static constexpr uint32_t fours = staged_elements / 4;
  double sums[chunks_together][fours];

  /// One addition after the other, while the next numbers are on their way.
  __device__ void add(uint32_t chunk, double& sum) const {
    constexpr uint32_t some = 8;
    const auto* of = reinterpret_cast<const double2*>(sums[chunk]);
    double2 now[some / 2], next[some / 2];
#pragma unroll
    for (uint32_t k = 0; k < some / 2; ++k) now[k] = of[k];
#pragma unroll 2
    for (uint32_t at = some; at <= fours; at += some) {
#pragma unroll
      for (uint32_t k = 0; k < some / 2; ++k)
        if (at < fours) next[k] = of[at / 2 + k];
#pragma unroll
      for (uint32_t k = 0; k < some / 2; ++k) {
        sum += now[k].x;
        sum += now[k].y;
        now[k] = next[k];
      }
    }
  }
};

constexpr uint32_t fours_threads = loading_threads + warp_size;

/// A chain of 16,384 additions a chunk: one lane adds it, and has nothing else to do.
__global__ void __launch_bounds__(fours_threads, 2)
    sum_fours(const ChunkView* chunks, uint32_t count, double* sums) {
  extern __shared__ StagedTile tiles[];
  __shared__ FourTile staged[2];
  for (uint32_t first = chunks_together * blockIdx.x; first < count; first += chunks_together * gridDim.x) {
    const Pair pair(chunks, count, first);
    if (loads_chunks()) {
      bring_first(pair.own, tiles);
      stage_tiles(pair.own, pair.steps, tiles, [&](uint32_t step, StagedTile& tile) {
        float g[staged_each];
        look_at(tile, g);
#pragma unroll
        for (uint32_t q = 0; q < staged_each / 4; ++q)
          staged[step % 2].sums[loaded_chunk()][own_four(q) / 4] = sum_of_four(g + 4 * q);
      });
    } else {
      double sum = 0;
      for (uint32_t step = 0; step < pair.steps; ++step) {
        staged_barrier(fours_threads);
        staged[step % 2].add(added_chunk(), sum);
      }
      if (pair.there && lane_of() % element::sum_lanes == 0) sums[first + added_chunk()] = sum;
    }
    __syncthreads();
  }
}

constexpr uint32_t signs_threads = loading_threads + 2 * warp_size;

/// One warp adds what is not negative, one what is.
__global__ void __launch_bounds__(signs_threads, 2)
    sum_signs(const ChunkView* chunks, uint32_t count, SignSums* sums) {
  extern __shared__ StagedTile tiles[];
  __shared__ uint32_t negatives[chunks_together];
  for (uint32_t first = chunks_together * blockIdx.x; first < count; first += chunks_together * gridDim.x) {
    const Pair pair(chunks, count, first);
    if (threadIdx.x < chunks_together) negatives[threadIdx.x] = 0;
    __syncthreads();
    // Zeros behind the end add nothing.
    if (loads_chunks()) {
      uint32_t own = 0;
      bring_first(pair.own, tiles);
      stage_tiles(pair.own, pair.steps, tiles, [&](uint32_t, StagedTile& tile) {
        float g[staged_each];
        look_at(tile, g);
#pragma unroll
        for (uint32_t k = 0; k < staged_each; ++k) own += g[k] < 0;
      });
      own = __reduce_add_sync(all_lanes, own);
      if (lane_of() == 0) atomicAdd(&negatives[loaded_chunk()], own);
    } else {
      const uint32_t which = warp_of() - loading_warps;
      double sum = 0;
      if (which == 0)
        add_tiles(pair.steps, tiles, [&](double g) { sum += (g + fabs(g)) * 0.5; });
      else
        add_tiles(pair.steps, tiles, [&](double g) { sum += (g - fabs(g)) * 0.5; });
      sum = fold_lanes(sum);
      if (pair.there && lane_of() % element::sum_lanes == 0) sums[first + added_chunk()].of[which] = sum;
    }
    __syncthreads();
    if (threadIdx.x < chunks_together && first + threadIdx.x < count)
      sums[first + threadIdx.x].negatives = negatives[threadIdx.x];
    __syncthreads();
  }
}

__global__ void __launch_bounds__(chunk_threads)
    count_from(const ChunkView* chunks, uint32_t count, uint32_t* found, uint32_t key) {
  __shared__ uint32_t keys;
  for (uint32_t c = blockIdx.x; c < count; c += gridDim.x) {
    if (threadIdx.x == 0) keys = 0;
    __syncthreads();
    uint32_t own = 0;
    for_elements(chunks[c], [&](uint32_t, float value) { own += element::magnitude_key(value) >= key; });
    own = __reduce_add_sync(all_lanes, own);
    if (lane_of() == 0) atomicAdd(&keys, own);
    __syncthreads();
    if (threadIdx.x == 0) found[c] = keys;
  }
}

constexpr uint32_t threads = 128;

/// Elements of a piece at even distances, and where their keys go.
struct StridedView {
  const float* values = nullptr;
  uint64_t count = 0;
  uint32_t* keys = nullptr;
};

/// blockIdx.y: piece.
__global__ void __launch_bounds__(threads) take_keys(const StridedView* views, uint64_t stride) {
  const StridedView view = views[blockIdx.y];
  for (uint64_t i = blockIdx.x * threads + threadIdx.x; i < view.count; i += gridDim.x * threads)
    view.keys[i] = element::magnitude_key(view.values[i * stride]);
}

}  // namespace

/// One result a chunk of a pool.
class ChunkPass {
 public:
  static std::vector<uint32_t> strided_keys(ResidentValues& pool, uint64_t stride, uint64_t phase) {
    constexpr uint32_t blocks_each = 8;
    std::vector<uint32_t> all;
    DeviceBuffer<uint32_t> keys;
    DeviceBuffer<StridedView> device_views;
    std::vector<StridedView> views;
    uint64_t total = 0;
    const auto launch = [&](const Batch& batch) {
      views.clear();
      total = 0;
      std::vector<uint64_t> first;
      for (const Piece& piece : batch.pieces) {
        const uint64_t index = pool.pool_first_[piece.tensor] + piece.first,
                       skipped = (phase + stride - index % stride) % stride;
        if (skipped >= piece.count) continue;
        views.push_back({pool.values_of(piece) + skipped, (piece.count - skipped - 1) / stride + 1, nullptr});
        first.push_back(total);
        total += views.back().count;
      }
      if (views.empty()) return;
      keys.reserve(total);
      for (size_t v = 0; v < views.size(); ++v) views[v].keys = keys.data() + first[v];
      device_views.reserve(views.size());
      copy_to_device(device_views.data(), views.data(), views.size(), pool.compute_);
      constexpr size_t most = UINT16_MAX;
      for (size_t v = 0; v < views.size(); v += most) {
        take_keys<<<dim3(blocks_each, uint32_t(std::min(most, views.size() - v))), threads, 0,
                    pool.compute_>>>(device_views.data() + v, stride);
        check_launch("taking keys");
      }
    };
    pool.for_batches(launch, [&](const Batch&) { pool.append(all, keys, total); });
    return all;
  }

  /// launch(chunks, count, results, stream)
  template <class Result, class Launch>
  static std::vector<Result> run(PoolValues& values, Launch launch) {
    auto& pool = static_cast<ResidentValues&>(values);
    std::vector<Result> all;
    DeviceBuffer<Result> found;
    pool.for_batches(
        [&](const Batch& batch) {
          found.reserve(batch.chunks);
          if (batch.chunks > 0) launch(pool.chunks_of(batch), batch.chunks, found.data(), pool.compute_);
        },
        [&](const Batch& batch) { pool.append(all, found, batch.chunks); });
    return all;
  }
};

std::vector<double> sums_in_fours(PoolValues& pool) {
  return ChunkPass::run<double>(
      pool, [](const ChunkView* chunks, uint32_t count, double* sums, const Stream& stream) {
        launch_on_pairs("summing magnitudes", sum_fours, fours_threads, chunks, count, stream, sums);
      });
}

std::vector<SignSums> sums_by_sign(PoolValues& pool) {
  return ChunkPass::run<SignSums>(
      pool, [](const ChunkView* chunks, uint32_t count, SignSums* sums, const Stream& stream) {
        launch_on_pairs("summing by sign", sum_signs, signs_threads, chunks, count, stream, sums);
      });
}

std::vector<uint32_t> counts_from(PoolValues& pool, uint32_t key) {
  return ChunkPass::run<uint32_t>(
      pool, [key](const ChunkView* chunks, uint32_t count, uint32_t* found, const Stream& stream) {
        launch_on_chunks("counting magnitudes", count_from, chunks, count, stream, found, key);
      });
}

std::vector<uint32_t> strided_keys(PoolValues& pool, uint64_t stride, uint64_t phase) {
  return ChunkPass::strided_keys(static_cast<ResidentValues&>(pool), stride, phase);
}

}  // namespace jsq::cuda

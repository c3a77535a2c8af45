// What single methods ask for of chunks, beside the summary: sums of magnitudes in fours and of values by
// their sign, counts of large magnitudes, keys at even distances. A warp takes a chunk, so that sums have the
// contract's order.
#include "kernels/cuda/level_kernels.hpp"
#include "kernels/cuda/resident_values.hpp"
#include "kernels/cuda/sparse.hpp"
#include "kernels/cuda/warp.cuh"

namespace jsq::cuda {
namespace {

constexpr uint32_t warps = 4, threads = warps * warp_size;
constexpr uint32_t each = 4, turn = each * warp_size;

__global__ void __launch_bounds__(threads) sum_fours(const ChunkView* chunks, uint32_t count, double* sums) {
  const uint32_t c = blockIdx.x * warps + warp_of();
  if (c >= count) return;
  const ChunkView chunk = chunks[c];
  double sum = 0;
  for (uint32_t at = 0; at < chunk.count; at += turn) {
    float g[each];
    load_four(chunk.values, at + each * lane_of(), chunk.count, g);
    add_chain(sum_of_four(g), sum);
  }
  if (lane_of() == 0) sums[c] = sum;
}

/// The lower half of the warp adds what is not negative, the upper half what is; both meet elements in index
/// order.
__global__ void __launch_bounds__(threads)
    sum_signs(const ChunkView* chunks, uint32_t count, SignSums* sums) {
  constexpr uint32_t unroll = 8;
  const uint32_t c = blockIdx.x * warps + warp_of(), lane = lane_of();
  if (c >= count) return;
  const ChunkView chunk = chunks[c];
  const bool lower = lane < element::sum_lanes;
  const auto part = [&](float g) {
    const double value = g, magnitude = value < 0 ? -value : value;
    return (lower ? value + magnitude : value - magnitude) * 0.5;
  };
  double sum = 0;
  uint32_t negatives = 0;
  for (uint32_t at = 0; at < chunk.count; at += unroll * warp_size) {
    float g[unroll];
#pragma unroll
    for (uint32_t k = 0; k < unroll; ++k) {
      const uint32_t i = at + k * warp_size + lane;
      g[k] = i < chunk.count ? chunk.values[i] : 0.0f;
    }
#pragma unroll
    for (uint32_t k = 0; k < unroll; ++k) {
      const float other = __shfl_xor_sync(all_lanes, g[k], int(element::sum_lanes));
      // Zeros behind the end add nothing.
      sum += part(lower ? g[k] : other);
      sum += part(lower ? other : g[k]);
      negatives += g[k] < 0;
    }
  }
  sum = fold_lanes(sum);
  negatives = __reduce_add_sync(all_lanes, negatives);
  const double of_negatives = __shfl_sync(all_lanes, sum, int(element::sum_lanes));
  if (lane == 0) sums[c] = {{sum, of_negatives}, negatives};
}

__global__ void __launch_bounds__(threads)
    count_from(const ChunkView* chunks, uint32_t count, uint32_t* found, uint32_t key) {
  const uint32_t c = blockIdx.x * warps + warp_of();
  if (c >= count) return;
  const ChunkView chunk = chunks[c];
  uint32_t keys = 0;
  for (uint32_t at = 0; at < chunk.count; at += turn) {
    const uint32_t i = at + each * lane_of();
    float g[each];
    load_four(chunk.values, i, chunk.count, g);
#pragma unroll
    for (uint32_t k = 0; k < each; ++k) keys += i + k < chunk.count && element::magnitude_key(g[k]) >= key;
  }
  keys = __reduce_add_sync(all_lanes, keys);
  if (lane_of() == 0) found[c] = keys;
}

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
    pool.for_batches([&](const Batch& batch) {
      std::vector<StridedView> views;
      std::vector<uint64_t> first;
      uint64_t total = 0;
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
      const size_t before = all.size();
      all.resize(before + total);
      copy_to_host(all.data() + before, keys.data(), total, pool.compute_);
      pool.compute_.synchronize();
    });
    return all;
  }

  template <class Result, class Kernel, class... Arguments>
  static std::vector<Result> run(ResidentValues& pool, Kernel kernel, const char* what,
                                 Arguments... arguments) {
    std::vector<Result> all;
    DeviceBuffer<Result> found;
    pool.for_batches([&](const Batch& batch) {
      const uint32_t count = pool.put_chunks(batch);
      found.reserve(count);
      if (count > 0) {
        kernel<<<(count + warps - 1) / warps, threads, 0, pool.compute_>>>(pool.chunks_.data(), count,
                                                                           found.data(), arguments...);
        check_launch(what);
      }
      const size_t before = all.size();
      all.resize(before + count);
      copy_to_host(all.data() + before, found.data(), count, pool.compute_);
      pool.compute_.synchronize();
    });
    return all;
  }
};

std::vector<double> sums_in_fours(PoolValues& pool) {
  return ChunkPass::run<double>(static_cast<ResidentValues&>(pool), sum_fours, "summing magnitudes");
}

std::vector<SignSums> sums_by_sign(PoolValues& pool) {
  return ChunkPass::run<SignSums>(static_cast<ResidentValues&>(pool), sum_signs, "summing by sign");
}

std::vector<uint32_t> counts_from(PoolValues& pool, uint32_t key) {
  return ChunkPass::run<uint32_t>(static_cast<ResidentValues&>(pool), count_from, "counting magnitudes", key);
}

std::vector<uint32_t> strided_keys(PoolValues& pool, uint64_t stride, uint64_t phase) {
  return ChunkPass::strided_keys(static_cast<ResidentValues&>(pool), stride, phase);
}

}  // namespace jsq::cuda

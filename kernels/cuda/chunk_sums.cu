// Sums of chunks that single methods ask for, beside the summary: magnitudes in fours, and values by their
// sign. A warp takes a chunk, so that sums have the contract's order.
#include "kernels/cuda/level_kernels.hpp"
#include "kernels/cuda/resident_values.hpp"
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

}  // namespace

/// One result a chunk of a pool.
class ChunkPass {
 public:
  template <class Result, class Kernel>
  static std::vector<Result> run(ResidentValues& pool, Kernel kernel, const char* what) {
    std::vector<Result> all;
    DeviceBuffer<Result> found;
    pool.for_batches([&](const Batch& batch) {
      const uint32_t count = pool.put_chunks(batch);
      found.reserve(count);
      if (count > 0) {
        kernel<<<(count + warps - 1) / warps, threads, 0, pool.compute_>>>(pool.chunks_.data(), count,
                                                                           found.data());
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

}  // namespace jsq::cuda

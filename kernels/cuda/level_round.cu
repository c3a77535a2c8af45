// One thread block rounds one level block: the scales of its buckets, then tile by tile the levels, their
// counts and the sums of errors. All warps round a tile while three of them add up the one before, in the
// contract's order: 16 lanes by index, folded by halving; a half warp holds the lanes of one sum.
#include "kernels/cuda/block_sums.cuh"
#include "kernels/cuda/grid.hpp"
#include "kernels/cuda/level_gaps.cuh"
#include "kernels/cuda/level_kernels.hpp"
#include "kernels/element/philox.hpp"

namespace jsq::cuda {
namespace {

constexpr uint32_t warps = 8, threads = warps * warp_size;
constexpr uint32_t each = run_each;  ///< neighbouring elements of a thread: one Philox block
constexpr uint32_t tile = threads * each;
constexpr uint32_t most_runs = uint32_t(element::sum_chunk) / run_levels;
constexpr uint32_t most_near_symbols = 4096;  ///< whose counters are in shared memory

/// Rounded elements on their way to the sums.
struct Tile {
  double expected[tile];
  float g[tile], decoded[tile];
  float other[tile];  ///< nearest: before the stored type rounds; else: clipped
};

struct Shared {
  Tile tiles[2];
  RunEnds<most_runs> ends;
  unsigned long long gap_bits;
  uint32_t nonzeros, max_key;
};

struct Arguments {
  RoundPlan plan;
  const RoundView* blocks;
  uint32_t count;
  uint32_t near_symbols;
  LevelSums* sums;
};

/// Level of an element and what it will decode to; `expected` and `other` are for the sums.
__device__ int32_t round_element(const RoundPlan& plan, const LevelTensor& tensor, float g, float scale,
                                 uint32_t word, float& coded, float& other, double& expected) {
  if (tensor.signs) {
    const int32_t level = g < 0 ? 1 : 0;
    other = coded = level ? tensor.negative : tensor.scale;
    expected = 0;
    return level;
  }
  const float limit = tensor.limit, clipped = g < -limit ? -limit : limit < g ? limit : g;
  if (plan.nearest) {
    const int32_t level = element::grid_level_nearest(tensor.rule, clipped, scale);
    other = coded = element::grid_value(tensor.rule, level, scale);
    expected = 0;
    return level;
  }
  const int32_t level = element::grid_level(tensor.rule, clipped, scale, element::uniform_of_word(word));
  coded = element::grid_value(tensor.rule, level, scale);
  other = clipped;
  expected = element::grid_error(tensor.rule, clipped, scale);
  return level;
}

/// The sums of a half warp; which one it makes is its number.
struct Summer {
  enum Which : uint32_t { expected_error = ErrorLane::none, other_error, none };  // after those of errors
  uint32_t which = none;
  ErrorLane errors;
  double lane_sum = 0, total = 0;
  uint32_t bucket_end = 0, bucket_begin = 0, bucket_number = 0;

  /// The expected error of the bucket that ends is added to the others.
  __device__ void close_bucket(const RoundPlan& plan, const RoundView& view) {
    const double folded = fold_lanes(lane_sum);
    const float scale = plan.bucket ? view.scales[bucket_number] : view.tensor.scale;
    total += view.tensor.signs ? 0.0 : element::grid_error_unit(view.tensor.rule, scale) * folded;
    lane_sum = 0;
  }
  /// Elements at..end of the tile; both halves of the warp come along.
  __device__ void add(const RoundPlan& plan, const RoundView& view, const Tile& values, uint32_t at,
                      uint32_t end) {
    constexpr uint32_t lanes = element::sum_lanes;
    const uint32_t lane = lane_of() % lanes;
    if (which == expected_error || which == other_error) {
      // Both halves of one warp: buckets are closed together.
      for (uint32_t from = at; from < end;) {
        const uint32_t to = bucket_end < end ? bucket_end : end;
        if (which == expected_error)
          for (uint32_t i = from + ((lane - (from - bucket_begin)) & (lanes - 1)); i < to; i += lanes)
            lane_sum += values.expected[i - at];
        __syncwarp();
        if (to == bucket_end) {
          // The other half's lanes take part in the folding and keep their sum.
          const double kept = lane_sum, kept_total = total;
          close_bucket(plan, view);
          if (which == other_error) {
            lane_sum = kept;
            total = kept_total;
          }
          bucket_begin = bucket_end;
          bucket_end += plan.bucket;
          ++bucket_number;
          if (bucket_end > view.block.count || plan.bucket == 0) bucket_end = view.block.count;
        }
        from = to;
      }
    }
    if (which == expected_error || which == none) return;
    for (uint32_t i = lane; i < end - at; i += lanes) {
      const double g = values.g[i];
      if (which == other_error) {
        const double off = double(values.other[i]) - g;
        lane_sum += off * off;
      } else {
        errors.add(ErrorLane::Which(which), g, values.decoded[i]);
      }
    }
  }
  __device__ void finish(LevelSums& sums) {
    errors.finish(ErrorLane::Which(which), sums);
    const double folded = fold_lanes(lane_sum);
    if (lane_of() % element::sum_lanes != 0) return;
    if (which == expected_error) sums.expected_error = total;
    if (which == other_error) sums.other_error = folded;
  }
};

__global__ void __launch_bounds__(threads) round_blocks(const __grid_constant__ Arguments a) {
  extern __shared__ __align__(16) char room[];
  Shared& s = *reinterpret_cast<Shared*>(room);
  auto* near_counts = reinterpret_cast<uint32_t*>(room + sizeof(Shared));
  const RoundPlan& plan = a.plan;
  for (uint32_t b = blockIdx.x; b < a.count; b += gridDim.x) {
    const RoundView view = a.blocks[b];
    const LevelTensor tensor = view.tensor;
    const uint32_t n = view.block.count, symbols = tensor.symbols;
    const bool near = symbols <= a.near_symbols;
    uint32_t* counts = near ? near_counts : view.counts;
    __syncthreads();
    for (uint32_t i = threadIdx.x; near && i < symbols; i += threads) counts[i] = 0;
    s.ends.clear();
    if (threadIdx.x == 0) {
      s.gap_bits = 0;
      s.nonzeros = 0;
      s.max_key = 0;
    }
    if (plan.bucket) find_scales(plan.norm, plan.bucket, view.block.values, n, view.scales);
    __syncthreads();

    Summer summer;
    summer.which = threadIdx.x / element::sum_lanes;
    if (summer.which > Summer::none) summer.which = Summer::none;
    summer.bucket_end = plan.bucket && plan.bucket < n ? plan.bucket : n;
    const bool sums_here = warp_of() < 3;
    const bool wide = reinterpret_cast<uint64_t>(view.block.values) % sizeof(float4) == 0;
    uint32_t gap_bits = 0, nonzeros = 0, max_key = 0;
    for (uint32_t at = 0, turn = 0; at < n; at += tile, turn ^= 1) {
      Tile& values = s.tiles[turn];
      const uint32_t index = at + each * threadIdx.x;
      float g[each] = {};
      if (wide && index + each <= n) {
        const float4 four = *reinterpret_cast<const float4*>(view.block.values + index);
        g[0] = four.x;
        g[1] = four.y;
        g[2] = four.z;
        g[3] = four.w;
      } else {
        for (uint32_t k = 0; k < each; ++k) g[k] = index + k < n ? view.block.values[index + k] : 0.0f;
      }
      element::PhiloxBlock words{};
      if (!plan.nearest && !tensor.signs) {
        const uint64_t quad = (view.block.first_element + index) / each;
        words = element::philox4x32_10({{uint32_t(quad), uint32_t(quad >> 32), view.block.tensor,
                                         uint32_t(element::RandomPurpose::rounding)}},
                                       uint32_t(plan.stream), uint32_t(plan.stream >> 32));
      }
      int32_t level[each];
      float coded[each], decoded[each], other[each];
      double expected[each];
      uint32_t zeros = 0;
#pragma unroll
      for (uint32_t k = 0; k < each; ++k) {
        const bool inside = index + k < n;
        const float scale = plan.bucket && inside ? view.scales[(index + k) / plan.bucket] : tensor.scale;
        level[k] =
            inside ? round_element(plan, tensor, g[k], scale, words.word[k], coded[k], other[k], expected[k])
                   : 0;
        decoded[k] = inside ? element::round_to_stored(view.block.stored, coded[k]) : 0.0f;
        if (!inside) {
          other[k] = 0;
          expected[k] = 0;
        }
        const uint32_t key = element::magnitude_key(g[k]);
        max_key = max_key > key ? max_key : key;
        nonzeros += level[k] != 0;
        zeros += inside && level[k] == 0;
        if (inside && level[k] != 0) atomicAdd(&counts[uint32_t(level[k] - tensor.low)], 1u);
      }
      // Zeros are many and would queue up at one counter.
      zeros = __reduce_add_sync(all_lanes, zeros);
      if (lane_of() == 0 && zeros != 0) atomicAdd(&counts[uint32_t(-tensor.low)], zeros);
      *reinterpret_cast<float4*>(values.g + each * threadIdx.x) = {g[0], g[1], g[2], g[3]};
      *reinterpret_cast<float4*>(values.decoded + each * threadIdx.x) = {decoded[0], decoded[1], decoded[2],
                                                                         decoded[3]};
      *reinterpret_cast<float4*>(values.other + each * threadIdx.x) = {other[0], other[1], other[2],
                                                                       other[3]};
      store_four(values.expected + each * threadIdx.x, expected);
      if (index < n)
        *reinterpret_cast<short4*>(view.levels + index) = {short(level[0]), short(level[1]), short(level[2]),
                                                           short(level[3])};
      if (plan.count_gaps) gap_bits += s.ends.add(level, index, at / run_levels + warp_of());
      __syncthreads();
      // The other tile is written next, and this one again only behind the next barrier.
      if (sums_here) summer.add(plan, view, values, at, at + tile < n ? at + tile : n);
    }
    if (sums_here) summer.finish(a.sums[b]);
    gap_bits = __reduce_add_sync(all_lanes, gap_bits);
    nonzeros = __reduce_add_sync(all_lanes, nonzeros);
    max_key = __reduce_max_sync(all_lanes, max_key);
    if (lane_of() == 0) {
      atomicAdd(&s.gap_bits, static_cast<unsigned long long>(gap_bits));
      atomicAdd(&s.nonzeros, nonzeros);
      atomicMax(&s.max_key, max_key);
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; near && i < symbols; i += threads) view.counts[i] = counts[i];
    if (threadIdx.x == 0) {
      a.sums[b].gap_bits = s.gap_bits + (plan.count_gaps ? s.ends.between() : 0);
      a.sums[b].nonzeros = s.nonzeros;
      a.sums[b].max_key = s.max_key;
    }
  }
}

}  // namespace

void launch_round(const RoundPlan& plan, const RoundView* blocks, uint32_t count, uint32_t most_symbols,
                  LevelSums* sums, const Stream& stream) {
  if (count == 0) return;
  Arguments a{};
  a.plan = plan;
  a.blocks = blocks;
  a.count = count;
  a.near_symbols = most_symbols < most_near_symbols ? most_symbols : most_near_symbols;
  a.sums = sums;
  const auto bytes = uint32_t(sizeof(Shared) + a.near_symbols * sizeof(uint32_t));
  allow_shared(round_blocks, bytes);
  round_blocks<<<count, threads, bytes, stream>>>(a);
  check_launch("rounding blocks");
}

}  // namespace jsq::cuda

// Blocks that are rotated and rounded to a table of integers, as THC does, with their counts and sums. One
// thread block takes one block of values.
#include "kernels/cuda/block_sums.cuh"
#include "kernels/cuda/grid.hpp"
#include "kernels/cuda/level_gaps.cuh"
#include "kernels/cuda/rotated_block.cuh"

namespace jsq::cuda {
namespace {

using namespace rotated;

static_assert(each == run_each);
constexpr uint32_t half_warps = 2 * warps;
constexpr uint32_t most_runs = longest / run_levels;
constexpr uint32_t most_levels = 256;

/// What only rounding needs.
struct RoundingShared {
  Shared common;
  double tile_errors[tile];
  double part[half_warps];
  uint32_t counts[most_levels];
  RunEnds<most_runs> ends;
  unsigned long long gap_bits;
  uint32_t nonzeros, max_key;
};

struct RotateArguments {
  Rotation rotation;
  RoundPlan plan;
  const RoundView* blocks;
  uint32_t count;
  float* coordinates;  ///< `longest` of each thread block
  double* errors;
  LevelSums* sums;
};

/// Coordinates of a stretch to levels. x becomes what clamping added to each, `errors` what rounding is
/// expected to.
template <class Block>
__device__ void round_stretch(const RotateArguments& a, const RoundView& view, RoundingShared& s,
                              const Block& block, double* errors) {
  const Rotation& rotation = a.rotation;
  const element::RoundingTable& table = rotation.table;
  uint32_t gap_bits = 0, nonzeros = 0;
  for (uint32_t from = 0; from < block.size(); from += row) {
    const uint32_t i = from + each * threadIdx.x, index = block.first + i;
    element::PhiloxBlock words{};
    if (!a.plan.nearest && i < block.size()) {
      const uint64_t quad = (block.first_element + index) / each;
      words = element::philox4x32_10(
          {{uint32_t(quad), uint32_t(quad >> 32), block.tensor, uint32_t(element::RandomPurpose::rounding)}},
          uint32_t(a.plan.stream), uint32_t(a.plan.stream >> 32));
    }
    float coordinate[each] = {};
    if (i < block.size()) {
      const float4 four = *reinterpret_cast<const float4*>(block.x + i);
      coordinate[0] = four.x, coordinate[1] = four.y, coordinate[2] = four.z, coordinate[3] = four.w;
    }
    int32_t level[each] = {};
    float added[each] = {};
    double error[each] = {};
    element::TablePlacer placer;
    float norm = 0;
#pragma unroll
    for (uint32_t k = 0; k < each; ++k) {
      if (i + k >= block.size()) continue;
      if (k == 0 || (index + k) % block.block == 0 || index + k == block.tail_first) {
        norm = block.norm_at(block.number_of(i + k));
        placer = element::table_placer(block.shape_at(i + k), norm);
      }
      if (norm > 0) {
        const float z = element::deviations_of(placer, coordinate[k]),
                    inside = element::clamped_deviations(placer, z),
                    position = element::table_position(placer, inside);
        const auto whole = int32_t(position);
        const int32_t cell = table.has_entries        ? int32_t(s.common.cells[whole])
                             : whole < table.last - 1 ? whole
                                                      : table.last - 1;
        const float low = table.has_entries ? s.common.entries[cell] : float(cell),
                    high = table.has_entries ? s.common.entries[cell + 1] : float(cell + 1),
                    from_low = position - low, gap = high - low, way = element::table_way(from_low, gap);
        const bool up = a.plan.nearest ? way >= 0.5f : element::uniform_of_word(words.word[k]) < way;
        level[k] = cell + (up ? 1 : 0) - table.middle;
        added[k] = inside - z;
        error[k] = a.plan.nearest ? element::table_distance(position, up ? high : low)
                                  : element::table_rounding_error(from_low, gap);
      }
      nonzeros += level[k] != 0;
      atomicAdd(&s.counts[uint32_t(level[k] - view.tensor.low)], 1u);
    }
    if (i < block.size()) {
      *reinterpret_cast<float4*>(block.x + i) = {added[0], added[1], added[2], added[3]};
      store_four(errors + i, error);
      *reinterpret_cast<short4*>(view.levels + index) = {short(level[0]), short(level[1]), short(level[2]),
                                                         short(level[3])};
    }
    if (a.plan.count_gaps)
      gap_bits += s.ends.add(level, index, (block.first + from) / run_levels + warp_of());
  }
  gap_bits = __reduce_add_sync(all_lanes, gap_bits);
  nonzeros = __reduce_add_sync(all_lanes, nonzeros);
  if (lane_of() == 0) {
    atomicAdd(&s.gap_bits, static_cast<unsigned long long>(gap_bits));
    atomicAdd(&s.nonzeros, nonzeros);
  }
  __syncthreads();
}

/// Adds what is expected of the errors of a stretch to `expected`, Hadamard block by Hadamard block: a half
/// warp sums one.
template <class Block>
__device__ void add_expected(RoundingShared& s, const Block& block, const double* errors, double& expected) {
  constexpr uint32_t lanes = element::sum_lanes;
  const uint32_t half_warp = threadIdx.x / lanes, lane = threadIdx.x % lanes;
  // The upper half of a warp is a step behind, in other banks.
  const uint32_t behind = half_warp % 2 * lanes;
  for (uint32_t begin = 0; begin < block.size(); begin += half_warps * block.block) {
    const uint32_t at = begin + half_warp * block.block;
    const bool there = at < block.size();
    const uint32_t size = !there                                ? 0
                          : block.first + at < block.tail_first ? block.block
                                                                : block.tail,
                   left = there ? block.count - (block.first + at) : 0, count = size < left ? size : left;
    double rounding = 0, clamped = 0;
    for (uint32_t step = lane; step < size + behind; step += lanes) {
      const uint32_t i = step - behind;
      if (i >= size) continue;
      const double added = block.x[at + i];
      rounding += errors[at + i];
      clamped += i < count ? added * added : 0.0;
    }
    __syncwarp();
    rounding = fold_lanes(rounding);
    clamped = fold_lanes(clamped);
    if (lane == 0)
      s.part[half_warp] =
          !there ? 0.0
                 : element::rotation_error(block.shape_at(at), block.norm_at(block.number_of(at)), rounding,
                                           count < size ? clamped / double(size) : clamped, count, size);
    __syncthreads();
    if (threadIdx.x == 0)
      for (uint32_t h = 0; h < half_warps; ++h) expected += s.part[h];
    __syncthreads();
  }
}

__global__ void __launch_bounds__(threads, 2) rotate_blocks(const __grid_constant__ RotateArguments a) {
  extern __shared__ __align__(16) char room[];
  RoundingShared& s = *reinterpret_cast<RoundingShared*>(room);
  float* const far = a.coordinates + size_t(longest) * blockIdx.x;
  double* const far_errors = a.errors + size_t(longest) * blockIdx.x;
  for (uint32_t b = blockIdx.x; b < a.count; b += gridDim.x) {
    const RoundView view = a.blocks[b];
    const float* values = view.block.values;
    const uint32_t n = view.block.count;
    __syncthreads();
    if (a.rotation.norm_of_block)
      find_scales(BucketNorm::l2, 1u << a.rotation.block_log2, values, n, view.scales);
    for (uint32_t i = threadIdx.x; i < most_levels; i += threads) s.counts[i] = 0;
    s.ends.clear();
    if (threadIdx.x == 0) {
      s.gap_bits = 0;
      s.nonzeros = s.max_key = 0;
    }
    const auto norm_at = [&view, of_block = a.rotation.norm_of_block](uint32_t number) {
      return of_block ? view.scales[number] : view.tensor.scale;
    };
    RotatedBlock block(a.rotation, s.common, view.block.tensor, view.block.first_element, n,
                       view.tensor.length, norm_at);
    ErrorLane errors;
    const auto which = ErrorLane::Which(min(threadIdx.x / element::sum_lanes, uint32_t(ErrorLane::none)));
    double expected = 0;
    uint32_t max_key = 0;
    for (uint32_t at = 0; at < block.length; at = block.end) {
      block.begin(at, far);
      for (uint32_t i = threadIdx.x; i < block.size(); i += threads) {
        const float g = at + i < n ? values[at + i] : 0.0f;
        const uint32_t key = element::magnitude_key(g);
        max_key = max_key > key ? max_key : key;
        block.x[i] = at + i < n
                         ? element::with_random_sign(
                               element::scaled_finite(g, element::norm_divisor(norm_at(block.number_of(i)))),
                               block.sign_at(i))
                         : 0.0f;
      }
      __syncthreads();
      block.transform_all();
      double* const rounding = block.size() > tile ? far_errors : s.tile_errors;
      round_stretch(a, view, s, block, rounding);
      // What clamping added to the padded Hadamard block goes back, since padding does not count.
      if (block.end > n) transform(block.x, s.common.tile_values, block.size(), block.sizes(1));
      add_expected(s, block, rounding, expected);
      for (uint32_t from = 0; from < block.size(); from += row) {
        const uint32_t i = from + each * threadIdx.x;
        if (i >= block.size()) continue;
        const short4 level = *reinterpret_cast<const short4*>(view.levels + at + i);
        *reinterpret_cast<float4*>(block.x + i) = {block.centred(level.x), block.centred(level.y),
                                                   block.centred(level.z), block.centred(level.w)};
      }
      __syncthreads();
      block.restore(
          [&](uint32_t i, float value) { block.x[i] = element::round_to_stored(view.block.stored, value); });
      if (which != ErrorLane::none)
        for (uint32_t i = threadIdx.x % element::sum_lanes; i < block.size() && at + i < n;
             i += element::sum_lanes)
          errors.add(which, values[at + i], block.x[i]);
      __syncthreads();
    }
    if (threadIdx.x < (ErrorLane::none + 1) / 2 * warp_size) errors.finish(which, a.sums[b]);
    max_key = __reduce_max_sync(all_lanes, max_key);
    if (lane_of() == 0) atomicMax(&s.max_key, max_key);
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < view.tensor.symbols; i += threads) view.counts[i] = s.counts[i];
    if (threadIdx.x == 0) {
      LevelSums& sums = a.sums[b];
      sums.expected_error = expected;
      sums.other_error = 0;
      sums.gap_bits = s.gap_bits + (a.plan.count_gaps ? s.ends.between() : 0);
      sums.nonzeros = s.nonzeros;
      sums.max_key = s.max_key;
    }
  }
}

}  // namespace

void launch_rotate(const Rotation& rotation, const RoundPlan& plan, const RoundView* blocks, uint32_t count,
                   LevelSums* sums, RotationRoom& room, const Stream& stream) {
  if (count == 0) return;
  RotateArguments a{};
  a.rotation = rotation;
  a.plan = plan;
  a.blocks = blocks;
  a.count = count;
  const uint32_t grid = prepare(count, rotation, true, room);
  a.coordinates = room.coordinates.data();
  a.errors = room.errors.data();
  a.sums = sums;
  allow_shared(rotate_blocks, sizeof(RoundingShared));
  rotate_blocks<<<grid, threads, sizeof(RoundingShared), stream>>>(a);
  check_launch("rotating blocks");
}

}  // namespace jsq::cuda

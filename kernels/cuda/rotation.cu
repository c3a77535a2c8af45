// Rotated blocks: random signs, Walsh-Hadamard transforms, and rounding to a table of integers, as THC does;
// and back. One thread block takes one block of values, stretch by stretch: as many Hadamard blocks as fit a
// tile of shared memory, or one that is larger, which lies in global memory and passes through the tile. The
// stages of a transform have the order of their distances, so that every sum is the processor's.
#include <algorithm>
#include <vector>

#include "kernels/cuda/block_bits.cuh"
#include "kernels/cuda/block_sums.cuh"
#include "kernels/cuda/level_gaps.cuh"
#include "kernels/cuda/level_kernels.hpp"
#include "kernels/element/hadamard.hpp"
#include "kernels/element/philox.hpp"

namespace jsq::cuda {
namespace {

constexpr uint32_t warps = 8, threads = warps * warp_size, half_warps = 2 * warps;
constexpr uint32_t each = run_each;  ///< neighbouring elements of a thread: one Philox block
constexpr uint32_t row = threads * each;
constexpr uint32_t held = 16;  ///< elements that a thread holds in a pass of a transform
constexpr uint32_t segment = warp_size * held;
constexpr uint32_t tile = warps * segment;
constexpr uint32_t longest = uint32_t(element::sum_chunk);  ///< Hadamard block, and block of values
constexpr uint32_t most_runs = longest / run_levels;
constexpr uint32_t most_levels = 256;
constexpr uint32_t sign_words = longest / element::signs_of_word;
static_assert(longest <= tile * held);

struct Shared {
  float tile_values[tile];
  uint32_t signs[sign_words];  ///< of a stretch
  float entries[element::table_entries];
  uint8_t cells[element::most_table_entry + 1];
  element::RotationShape shape[2];  ///< of whole Hadamard blocks, and of a shorter one at the end
};
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

/// Hadamard blocks of a stretch: `main` elements each, from `tail_first` on one of `tail`.
struct Sizes {
  uint32_t main, tail_first, tail;
  __device__ uint32_t at(uint32_t i) const { return i < tail_first ? main : tail; }
};

/// One stage of a register that has a partner `distance` lanes away.
__device__ float stage_across(float x, uint32_t distance, bool takes_part) {
  const float other = __shfl_xor_sync(all_lanes, x, int(distance));
  const float result = lane_of() & distance ? other - x : x + other;
  return takes_part ? result : x;
}
__device__ void stage(float& low, float& high) {
  const float a = low, b = high;
  low = a + b;
  high = a - b;
}

/// Transforms a tile of x in place, by way of `y` (which may be x): the stages up to half a tile. All
/// threads; x is to be seen by all before, and is after.
__device__ void transform_tile(float* x, float* y, uint32_t first, uint32_t length, const Sizes& sizes) {
  {
    const uint32_t base = segment * warp_of() + lane_of();
    float r[held];
#pragma unroll
    for (uint32_t k = 0; k < held; ++k) {
      const uint32_t i = first + base + warp_size * k;
      r[k] = i < length ? x[base + warp_size * k] : 0.0f;
    }
#pragma unroll
    for (uint32_t distance = 1; distance < warp_size; distance *= 2)
#pragma unroll
      for (uint32_t k = 0; k < held; ++k)
        r[k] = stage_across(r[k], distance, 2 * distance <= sizes.at(first + base + warp_size * k));
#pragma unroll
    for (uint32_t apart = 1; apart < held; apart *= 2)
#pragma unroll
      for (uint32_t k = 0; k < held; ++k)
        if ((k & apart) == 0 && 2 * apart * warp_size <= sizes.at(first + base + warp_size * k))
          stage(r[k], r[k | apart]);
#pragma unroll
    for (uint32_t k = 0; k < held; ++k) y[base + warp_size * k] = r[k];
  }
  __syncthreads();
  if (x == y && sizes.main <= segment && sizes.tail <= segment) return;
  for (uint32_t at = threadIdx.x; at < segment; at += threads) {
    float r[warps];
#pragma unroll
    for (uint32_t j = 0; j < warps; ++j) r[j] = y[segment * j + at];
#pragma unroll
    for (uint32_t apart = 1; apart < warps; apart *= 2)
#pragma unroll
      for (uint32_t j = 0; j < warps; ++j)
        if ((j & apart) == 0 && 2 * apart * segment <= sizes.at(first + segment * j + at))
          stage(r[j], r[j | apart]);
#pragma unroll
    for (uint32_t j = 0; j < warps; ++j)
      if (first + segment * j + at < length) x[segment * j + at] = r[j];
  }
  __syncthreads();
}

/// Hadamard transforms of a stretch of `length` elements, unnormalised. As above.
__device__ void transform(float* x, float* room, uint32_t length, const Sizes& sizes) {
  if (x == room) return transform_tile(x, x, 0, length, sizes);
  for (uint32_t first = 0; first < length; first += tile)
    transform_tile(x + first, room, first, length, sizes);
  const uint32_t size = sizes.at(0);  // such a stretch is one Hadamard block
  for (uint32_t at = threadIdx.x; at < tile; at += threads) {
    float r[held];
#pragma unroll
    for (uint32_t k = 0; k < held; ++k) r[k] = tile * k < length ? x[tile * k + at] : 0.0f;
#pragma unroll
    for (uint32_t apart = 1; apart < held; apart *= 2)
#pragma unroll
      for (uint32_t k = 0; k < held; ++k)
        if ((k & apart) == 0 && 2 * apart * tile <= size) stage(r[k], r[k | apart]);
#pragma unroll
    for (uint32_t k = 0; k < held; ++k)
      if (tile * k < length) x[tile * k + at] = r[k];
  }
  __syncthreads();
}

/// A block of values and its Hadamard blocks, stretch by stretch. Members are called by all threads.
template <class NormAt>
struct RotatedBlock {
  const Rotation& rotation;
  Shared& s;
  uint32_t tensor;
  uint64_t first_element;
  uint32_t count;  ///< of values
  NormAt norm_at;  ///< of a Hadamard block, by its number
  uint32_t block, length, tail_first, tail;
  // Of the stretch.
  uint32_t first = 0, end = 0;
  float* x = nullptr;

  __device__ RotatedBlock(const Rotation& r, Shared& shared, uint32_t number, uint64_t element, uint32_t n,
                          double tensor_length, NormAt norm)
      : rotation(r), s(shared), tensor(number), first_element(element), count(n), norm_at(norm) {
    block = 1u << rotation.block_log2;
    length = uint32_t(element::padded_length(n, rotation.block_log2));
    tail_first = n / block * block;
    tail = length - tail_first;
    if (threadIdx.x < 2) {
      const double size = threadIdx.x == 0 ? block : tail > 0 ? tail : 1;
      s.shape[threadIdx.x] = element::rotation_shape(rotation.clamp, rotation.granularity, size,
                                                     rotation.norm_of_block ? size : tensor_length);
    }
    for (uint32_t e = threadIdx.x; e < element::table_entries; e += threads)
      s.entries[e] = rotation.table.entries[e];
    for (uint32_t c = threadIdx.x; c <= element::most_table_entry; c += threads)
      s.cells[c] = uint8_t(rotation.table.cells[c]);
  }

  /// The stretch from `at` on; `far` is memory for one that no tile holds.
  __device__ void begin(uint32_t at, float* far) {
    first = at;
    const uint32_t reach = block > tile ? block : tile;
    end = length - at < reach ? length : at + reach;
    x = end - at > tile ? far : s.tile_values;
    const uint64_t word = (first_element + first) / element::signs_of_word;
    for (uint32_t q = threadIdx.x; q < sign_words / 4; q += threads) {
      if (4 * element::signs_of_word * q >= end - first) break;
      const uint64_t quad = word / 4 + q;
      const element::PhiloxBlock words = element::philox4x32_10(
          {{uint32_t(quad), uint32_t(quad >> 32), tensor, uint32_t(element::RandomPurpose::signs)}},
          uint32_t(rotation.seed), uint32_t(rotation.seed >> 32));
#pragma unroll
      for (uint32_t k = 0; k < 4; ++k) s.signs[4 * q + k] = words.word[k];
    }
    __syncthreads();
  }
  __device__ uint32_t size() const {
    return end - first;
  }
  __device__ Sizes sizes(uint32_t main) const {
    return {main, tail_first > first ? tail_first - first : 0, tail};
  }
  __device__ const element::RotationShape& shape_at(uint32_t i) const {
    return s.shape[first + i < tail_first ? 0 : 1];
  }
  __device__ uint32_t number_of(uint32_t i) const {
    return (first + i) >> rotation.block_log2;
  }
  /// The sign of element i of the stretch, in bit 31.
  __device__ uint32_t sign_at(uint32_t i) const {
    return element::sign_of_word(s.signs[i / element::signs_of_word], i % element::signs_of_word);
  }
  __device__ void transform_all() {
    transform(x, s.tile_values, size(), sizes(block));
  }
  /// 2 T - g of a level.
  __device__ float centred(int32_t level) const {
    const int32_t index = level + rotation.table.middle;
    return element::centred_entry(rotation.table.has_entries ? s.entries[index] : float(index),
                                  rotation.granularity);
  }
  /// x <- the values that it stands for, where x is 2 T - g: put(i, value) of every element that is no
  /// padding.
  template <class Put>
  __device__ void restore(Put put) {
    transform_all();
    uint32_t known = UINT32_MAX;
    double unit = 0;
    for (uint32_t i = threadIdx.x; i < size() && first + i < count; i += threads) {
      // Without norms of their own, Hadamard blocks differ in their sizes alone.
      const uint32_t number = number_of(i), kind = rotation.norm_of_block   ? number
                                                   : first + i < tail_first ? 0
                                                                            : 1;
      if (kind != known) unit = element::restored_unit(shape_at(i), norm_at(number));
      known = kind;
      put(i, element::with_random_sign(element::scaled_finite(x[i], unit), sign_at(i)));
    }
    __syncthreads();
  }
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

/// A block to be rotated back: its levels as floats, and the bytes that have the norms.
struct UnrotateView {
  const uint8_t* data = nullptr;
  const float* levels = nullptr;
  float* values = nullptr;
  double length = 0;
  uint64_t first_element = 0;
  uint32_t bytes = 0, scales_at = 0;
  uint32_t count = 0, tensor = 0;
  bool zero = false;
};

struct UnrotateArguments {
  Rotation rotation;
  float norm;
  const UnrotateView* blocks;
  uint32_t count;
  float* coordinates;  ///< `longest` of each thread block
  uint8_t* sound;
};

__global__ void __launch_bounds__(threads) unrotate_blocks(const __grid_constant__ UnrotateArguments a) {
  __shared__ __align__(16) char room[sizeof(Shared)];
  Shared& s = *reinterpret_cast<Shared*>(room);
  float* const far = a.coordinates + size_t(longest) * blockIdx.x;
  for (uint32_t b = blockIdx.x; b < a.count; b += gridDim.x) {
    const UnrotateView view = a.blocks[b];
    __syncthreads();
    if (view.zero) {
      for (uint32_t i = threadIdx.x; i < view.count; i += threads) view.values[i] = 0;
      continue;
    }
    if (!a.sound[b]) continue;
    const BlockBits bytes(view.data, view.bytes);
    const auto norm_at = [&](uint32_t number) {
      if (!a.rotation.norm_of_block) return a.norm;
      return element::bits_as<float>(
          __byte_perm(bytes.bits(8 * (view.scales_at + 4 * number), 32), 0, 0x0123));
    };
    RotatedBlock block(a.rotation, s, view.tensor, view.first_element, view.count, view.length, norm_at);
    bool sound = true;
    const uint32_t norms =
        a.rotation.norm_of_block ? (view.count + block.block - 1) >> a.rotation.block_log2 : 0;
    for (uint32_t number = threadIdx.x; number < norms; number += threads)
      sound = sound && element::bits_as<uint32_t>(norm_at(number)) < element::first_nonfinite_key;
    if (__syncthreads_and(sound) == 0) {
      if (threadIdx.x == 0) a.sound[b] = 0;
      continue;
    }
    for (uint32_t at = 0; at < block.length; at = block.end) {
      block.begin(at, far);
      for (uint32_t i = threadIdx.x; i < block.size(); i += threads)
        block.x[i] = block.centred(int32_t(view.levels[at + i]));
      __syncthreads();
      block.restore([&](uint32_t i, float value) { view.values[at + i] = value; });
    }
  }
}

/// Thread blocks of a launch. Scratch memory of `room` holds what they need of it.
uint32_t prepare(uint32_t blocks, const Rotation& rotation, bool rounds, RotationRoom& room) {
  int device = 0, processors = 1;
  check(cudaGetDevice(&device), "asking for the device");
  check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device), "asking for the device");
  const uint32_t grid = std::min(blocks, 2 * uint32_t(processors));
  if (1u << rotation.block_log2 <= tile) return grid;
  room.coordinates.reserve(size_t(longest) * grid);
  if (rounds) room.errors.reserve(size_t(longest) * grid);
  return grid;
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
  check(cudaFuncSetAttribute(rotate_blocks, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             int(sizeof(RoundingShared))),
        "asking for shared memory");
  rotate_blocks<<<grid, threads, sizeof(RoundingShared), stream>>>(a);
  check_launch("rotating blocks");
}

namespace {

/// From and to host memory: levels by the decoder of level blocks, then back through the rotation.
class UnrotateRun final : public RotationDecoder {
 public:
  UnrotateRun(const Rotation& rotation, float norm)
      : rotation_(rotation), norm_(norm), unpacker_(whole_levels(rotation), 0) {}

  void decode(std::string_view bytes, std::span<const Block> blocks, std::span<float> values,
              std::span<uint8_t> sound) override {
    if (blocks.empty()) return;
    bytes_.put(bytes, stream_);
    std::vector<LevelDecoder::Block> levels;
    std::vector<UnrotateView> views;
    size_t room = 0;
    for (const Block& block : blocks) {
      levels.push_back(block.levels);
      levels.back().first = room;
      room += (block.levels.count + alignment - 1) / alignment * alignment;
    }
    levels_.reserve(room);
    values_.reserve(values.size());
    sound_.reserve(blocks.size());
    views_.reserve(blocks.size());
    for (size_t b = 0; b < blocks.size(); ++b) {
      UnrotateView view;
      view.data = bytes_.bytes() + levels[b].offset;
      view.levels = levels_.data() + levels[b].first;
      view.values = values_.data() + blocks[b].first;
      view.length = blocks[b].length;
      view.first_element = blocks[b].first_element;
      view.bytes = uint32_t(levels[b].bytes);
      view.scales_at = levels[b].scales_at;
      view.count = uint32_t(blocks[b].count);
      view.tensor = blocks[b].tensor;
      view.zero = levels[b].zero;
      views.push_back(view);
    }
    unpacker_.launch(bytes_.bytes(), levels, levels_.data(), sound_.data(), stream_);
    copy_to_device(views_.data(), views.data(), views.size(), stream_);
    UnrotateArguments a{};
    a.rotation = rotation_;
    a.norm = norm_;
    a.blocks = views_.data();
    a.count = uint32_t(views.size());
    a.sound = sound_.data();
    const uint32_t grid = prepare(a.count, rotation_, false, room_);
    a.coordinates = room_.coordinates.data();
    unrotate_blocks<<<grid, threads, 0, stream_>>>(a);
    check_launch("rotating blocks back");
    copy_to_host(sound.data(), sound_.data(), blocks.size(), stream_);
    copy_to_host(values.data(), values_.data(), values.size(), stream_);
    stream_.synchronize();
  }

 private:
  static constexpr size_t alignment = 32;

  /// Levels that stand for themselves.
  static LevelTensor whole_levels(const Rotation& rotation) {
    LevelTensor tensor;
    tensor.low = -rotation.table.middle;
    tensor.symbols = uint32_t(rotation.table.last) + 1;
    tensor.scale = 1;
    return tensor;
  }

  Rotation rotation_;
  float norm_;
  LevelUnpacker unpacker_;
  Stream stream_;
  StagedBytes bytes_;
  RotationRoom room_;
  DeviceBuffer<float> levels_, values_;
  DeviceBuffer<UnrotateView> views_;
  DeviceBuffer<uint8_t> sound_;
};

}  // namespace

std::unique_ptr<RotationDecoder> make_rotation_decoder(const Rotation& rotation, float norm) {
  return std::make_unique<UnrotateRun>(rotation, norm);
}

}  // namespace jsq::cuda

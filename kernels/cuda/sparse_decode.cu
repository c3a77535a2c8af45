// Sparse blocks decoded: positions and signs by the decoder of class blocks, or from random words; then one
// thread block a block numbers what is kept and puts values there, exact ones from their plane of bits,
// levels from what the decoder of level blocks made of them. A block that is not sound is reported, and its
// values are anything.
#include <algorithm>

#include "kernels/cuda/block_bits.cuh"
#include "kernels/cuda/class_block.cuh"
#include "kernels/cuda/class_decode.hpp"
#include "kernels/cuda/copy_out.hpp"
#include "kernels/cuda/level_kernels.hpp"
#include "kernels/cuda/sparse.hpp"
#include "kernels/element/philox.hpp"

namespace jsq::cuda {
namespace {

constexpr uint32_t warps = 8, threads = warps * warp_size;
constexpr uint32_t each = 4;                   ///< neighbouring elements of a thread: a Philox block
constexpr uint32_t no_bucket_ends = 1u << 21;  ///< more elements than any block has

struct FillView {
  const uint8_t* data = nullptr;
  float* values = nullptr;              ///< with stored positions, 1 or -1 where something is kept, and 0
  const float* level_values = nullptr;  ///< of the kept
  uint64_t first_element = 0, seed = 0;
  uint32_t bytes = 0, count = 0, plane_at = 0, tensor = 0;
};

struct Arguments {
  SparseFormat format;
  const FillView* blocks;
  uint8_t* sound;    ///< of the positions before, of everything after
  uint32_t* counts;  ///< of kept elements
};

__device__ bool is_whole(const FillView& view, uint32_t i) {
  return i + each <= view.count && reinterpret_cast<uint64_t>(view.values + i) % sizeof(float4) == 0;
}
__device__ void store_four(const FillView& view, uint32_t i, const float* value) {
  if (is_whole(view, i)) {
    *reinterpret_cast<float4*>(view.values + i) = {value[0], value[1], value[2], value[3]};
    return;
  }
#pragma unroll
  for (uint32_t k = 0; k < each; ++k)
    if (i + k < view.count) view.values[i + k] = value[k];
}

/// Elements i to i + 3 of a block: which are kept, and what stands in their place.
template <bool Random>
__device__ uint32_t kept_of_four(const SparseFormat& format, const FillView& view, uint32_t i, float* value) {
  uint32_t mask = 0;
  element::PhiloxBlock words{};
  if (Random && i < view.count) {
    const uint64_t quad = (view.first_element + i) / each;
    words = element::philox4x32_10(
        {{uint32_t(quad), uint32_t(quad >> 32), view.tensor, uint32_t(element::RandomPurpose::positions)}},
        uint32_t(view.seed), uint32_t(view.seed >> 32));
  }
  if (!Random) load_four(view.values, i, view.count, value);
#pragma unroll
  for (uint32_t k = 0; k < each; ++k) {
    const bool inside = i + k < view.count;
    if (Random) value[k] = 0;
    const bool kept =
        Random ? element::keeps(format.subset, words.word[k], view.tensor, view.first_element + i + k)
               : value[k] != 0;
    mask |= inside && kept ? 1u << k : 0u;
  }
  return mask;
}

/// Kept elements of sound blocks.
template <bool Random>
__global__ void __launch_bounds__(threads) count_kept(const __grid_constant__ Arguments a) {
  __shared__ uint32_t warp_total[warps];
  const FillView view = a.blocks[blockIdx.x];
  uint32_t count = 0;
  if (a.sound[blockIdx.x])
    for (uint32_t i = each * threadIdx.x; i < view.count; i += each * threads) {
      float value[each];
      count += __popc(kept_of_four<Random>(a.format, view, i, value));
    }
  count = __reduce_add_sync(all_lanes, count);
  if (lane_of() == 0) warp_total[warp_of()] = count;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (uint32_t w = 1; w < warps; ++w) count += warp_total[w];
  a.counts[blockIdx.x] = count;
}

/// Where kept elements have their values from: the plane of exact ones.
template <bool Random>
struct PlaneValues {
  const SparseFormat& format;
  BlockBits bits;
  uint32_t begin;
  __device__ uint32_t width() const { return format.bits + (Random ? 1 : 0); }
  /// Of the kept element `rank`, which stored positions say to be negative or not.
  __device__ float get(uint32_t rank, bool negative, bool& sound) const {
    uint32_t at = begin + rank * width();
    if (Random) negative = bits.bits(at++, 1) != 0;
    const uint64_t key = (uint64_t(format.base) + bits.bits(at, format.bits)) << format.shift;
    sound = sound && key <= element::largest_key(format.format);
    const float value = element::value_of_key(format.format, uint32_t(key), negative);
    sound = sound && (value != 0 || (Random && !negative));
    return Random ? element::kept_finite(value * format.gain) : value;
  }
  __device__ bool finished(uint32_t kept) const {
    const uint32_t end = begin + kept * width();
    return (end + 7) / 8 == bits.size && bits.padded(end);
  }
};

/// The values of a block, or all zeros.
template <bool Random, bool Levels>
__global__ void __launch_bounds__(threads) fill_blocks(const __grid_constant__ Arguments a) {
  __shared__ uint32_t warp_total[2][warps];
  const FillView view = a.blocks[blockIdx.x];
  if (view.bytes == 0) {
    if (Random)
      for (uint32_t i = threadIdx.x; i < view.count; i += threads) view.values[i] = 0;
    return;
  }
  if (!a.sound[blockIdx.x]) return;
  const PlaneValues<Random> plane{a.format, BlockBits(view.data, view.bytes), 8 * view.plane_at};
  uint32_t kept = 0, round = 0;
  bool sound = true;
  for (uint32_t base = 0; base < view.count; base += each * threads, round ^= 1) {
    const uint32_t i = base + each * threadIdx.x;
    float value[each];
    const uint32_t mask = kept_of_four<Random>(a.format, view, i, value);
    uint32_t of_warp = 0, rank = kept + sum_before(__popc(mask), of_warp);
    if (lane_of() == 0) warp_total[round][warp_of()] = of_warp;
    __syncthreads();
    for (uint32_t w = 0; w < warps; ++w) {
      if (w < warp_of()) rank += warp_total[round][w];
      kept += warp_total[round][w];
    }
#pragma unroll
    for (uint32_t k = 0; k < each; ++k) {
      if (mask >> k & 1) {
        const bool negative = value[k] < 0;
        if (Levels)
          value[k] = negative ? -view.level_values[rank] : view.level_values[rank];
        else
          value[k] = plane.get(rank, negative, sound);
        ++rank;
      }
    }
    if (Random || mask != 0) store_four(view, i, value);
  }
  if (!Levels) sound = sound && plane.finished(kept);
  sound = __syncthreads_and(sound) != 0;
  if (threadIdx.x == 0) a.sound[blockIdx.x] = sound;
}

class Decoder final : public SparseDecoder {
 public:
  Decoder(const SparseFormat& format, const ClassComposition& composition,
          std::span<const uint32_t> frequencies, std::span<const float> points)
      : format_(format) {
    if (!format.random) map_ = std::make_unique<ClassDecodeRun>(composition, frequencies, points);
    if (format.steps == 0) return;
    // A block's scale is that of a bucket which no block reaches the end of.
    LevelTensor tensor;
    tensor.rule.steps = format.steps;
    tensor.low = format.random ? -int32_t(format.steps) : 0;
    tensor.symbols = format.random ? 2 * format.steps + 1 : format.steps;
    tensor.shift = format.random ? 0 : 1;
    levels_ = std::make_unique<LevelUnpacker>(tensor, no_bucket_ends);
  }

  void decode(std::string_view bytes, std::span<const Block> blocks, std::span<float> values,
              std::span<uint8_t> sound) override {
    std::fill(sound.begin(), sound.end(), uint8_t(0));
    if (blocks.empty() || (map_ && !map_->supported())) return;
    bytes_.put(bytes, stream_);
    values_.reserve(values.size());
    sound_.reserve(blocks.size());
    find_positions(blocks);
    if (levels_) unpack_levels(blocks);
    fill(blocks);
    copy_to_host(sound.data(), sound_.data(), blocks.size(), stream_);
    copy_out(values.data(), values_.data(), values.size(), stream_);
    stream_.synchronize();
    for (size_t b = 0; b < blocks.size(); ++b)
      sound[b] &= uint8_t(blocks[b].sound && (!levels_ || levels_sound_[b]));
  }

 private:
  /// Which blocks are sound so far, and where positions are stored, their signs in the values' place.
  void find_positions(std::span<const Block> blocks) {
    host_sound_.assign(blocks.size(), 1);
    if (map_) {
      std::vector<ClassDecoder::Block> maps;
      for (const Block& block : blocks)
        maps.push_back({block.offset + block.map_at, block.sound && block.bytes > 0 ? block.map_bytes : 0,
                        block.first, block.count});
      map_->launch(bytes_.words(), maps, values_.data(), sound_.data(), stream_);
      return;
    }
    for (size_t b = 0; b < blocks.size(); ++b) host_sound_[b] = blocks[b].sound;
    copy_to_device(sound_.data(), host_sound_.data(), blocks.size(), stream_);
  }

  /// The values of all levels, block by block.
  void unpack_levels(std::span<const Block> blocks) {
    put_views(blocks);
    counts_.reserve(blocks.size());
    const Arguments a = arguments();
    if (format_.random)
      count_kept<true><<<uint32_t(blocks.size()), threads, 0, stream_>>>(a);
    else
      count_kept<false><<<uint32_t(blocks.size()), threads, 0, stream_>>>(a);
    check_launch("counting kept elements");
    std::vector<uint32_t> counts(blocks.size());
    copy_to_host(counts.data(), counts_.data(), counts.size(), stream_);
    stream_.synchronize();
    std::vector<LevelDecoder::Block> levels;
    size_t first = 0;
    for (size_t b = 0; b < blocks.size(); ++b) {
      LevelDecoder::Block block = blocks[b].levels;
      block.zero = blocks[b].bytes == 0;
      block.sound = blocks[b].sound && (block.zero || counts[b] > 0);
      block.first = first;
      block.count = block.zero ? 0 : counts[b];
      first += block.count;
      levels.push_back(block);
    }
    level_values_.reserve(first + 1);
    levels_sound_device_.reserve(blocks.size());
    levels_->launch(bytes_.bytes(), levels, level_values_.data(), levels_sound_device_.data(), stream_);
    levels_sound_.resize(blocks.size());
    copy_to_host(levels_sound_.data(), levels_sound_device_.data(), blocks.size(), stream_);
    for (size_t b = 0; b < blocks.size(); ++b)
      host_views_[b].level_values = level_values_.data() + levels[b].first;
    stream_.synchronize();
  }

  void fill(std::span<const Block> blocks) {
    if (!levels_) put_views(blocks);
    copy_to_device(views_.data(), host_views_.data(), host_views_.size(), stream_);
    const Arguments a = arguments();
    const auto kernel = format_.random ? (levels_ ? fill_blocks<true, true> : fill_blocks<true, false>)
                                       : (levels_ ? fill_blocks<false, true> : fill_blocks<false, false>);
    kernel<<<uint32_t(blocks.size()), threads, 0, stream_>>>(a);
    check_launch("filling blocks");
  }

  void put_views(std::span<const Block> blocks) {
    host_views_.clear();
    for (const Block& block : blocks) {
      FillView view;
      view.data = bytes_.bytes() + block.offset;
      view.values = values_.data() + block.first;
      view.first_element = block.first_element;
      view.seed = block.seed;
      view.bytes = block.sound ? uint32_t(block.bytes) : 0;
      view.count = uint32_t(block.count);
      view.plane_at = block.plane_at;
      view.tensor = block.tensor;
      host_views_.push_back(view);
    }
    views_.reserve(blocks.size());
    copy_to_device(views_.data(), host_views_.data(), host_views_.size(), stream_);
  }
  Arguments arguments() const { return {format_, views_.data(), sound_.data(), counts_.data()}; }

  SparseFormat format_;
  std::unique_ptr<ClassDecodeRun> map_;
  std::unique_ptr<LevelUnpacker> levels_;
  Stream stream_;
  StagedBytes bytes_;
  DeviceBuffer<float> values_, level_values_;
  DeviceBuffer<uint8_t> sound_, levels_sound_device_;
  DeviceBuffer<uint32_t> counts_;
  DeviceBuffer<FillView> views_;
  std::vector<FillView> host_views_;
  std::vector<uint8_t> host_sound_, levels_sound_;
};

}  // namespace

std::unique_ptr<SparseDecoder> make_sparse_decoder(const SparseFormat& format,
                                                   const ClassComposition& composition,
                                                   std::span<const uint32_t> frequencies,
                                                   std::span<const float> points) {
  return std::make_unique<Decoder>(format, composition, frequencies, points);
}

}  // namespace jsq::cuda

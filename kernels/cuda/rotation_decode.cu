// Blocks of rotated levels back to values: levels by the decoder of level blocks, then through the rotation.
// One thread block takes one block of values.
#include <vector>

#include "kernels/cuda/block_bits.cuh"
#include "kernels/cuda/copy_out.hpp"
#include "kernels/cuda/level_kernels.hpp"
#include "kernels/cuda/rotated_block.cuh"

namespace jsq::cuda {
namespace {

using namespace rotated;

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
    if (view.zero || !a.sound[b]) {
      store_zeros(view.values, view.count);
      continue;
    }
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
      store_zeros(view.values, view.count);
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
    copy_out(values.data(), values_.data(), values.size(), stream_);
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

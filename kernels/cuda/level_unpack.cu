// One thread block decodes one level block whose head the host has read. Levels are put in the place of the
// values that they become. The entropy coder is a chain of steps, which one warp goes along while the others
// serve it; Elias codes are read by one thread; all else is taken by all threads. Whatever is damaged is
// noticed, and the block reported as not sound.
#include <algorithm>

#include "kernels/cuda/block_bits.cuh"
#include "kernels/cuda/copy_out.hpp"
#include "kernels/cuda/fed_chain.cuh"
#include "kernels/cuda/level_kernels.hpp"

namespace jsq::cuda {
namespace {

using element::LevelPacker;

constexpr uint32_t warps = block_warps, threads = block_threads;
constexpr uint32_t each = 4;  ///< neighbouring levels of a thread where bits are of different number
constexpr uint32_t trits = 5, trit_bytes = 243;

struct UnpackView {
  const uint8_t* data = nullptr;
  float* values = nullptr;
  uint32_t bytes = 0, count = 0;
  uint32_t width = 0, scales_at = 0, levels_at = 0;
  element::TokenScheme scheme{1, 0};
  uint32_t lanes = 0, stream_bytes = 0, token = 0;
  LevelPacker packer = LevelPacker::fixed;
  bool zero = false, sound = true;
  Starts starts;
};

struct Arguments {
  LevelTensor tensor;
  uint32_t bucket;
  const UnpackView* blocks;
  uint8_t* sound;
};

struct Shared {
  SearchRow<> row;
  FedRoom fed;
  uint32_t warp_total[warps];
  uint32_t line[warp_size];  ///< of levels
  uint32_t sound;
};

/// Levels where their values will be.
struct Levels {
  uint32_t* place;
  __device__ bool aligned() const { return reinterpret_cast<uint64_t>(place) % sizeof(uint4) == 0; }
  /// Four neighbours, the first a multiple of four, of which `count` are there.
  __device__ void get_four(uint32_t first, uint32_t count, uint32_t* level) const {
    if (aligned() && first + each <= count) {
      const uint4 four = *reinterpret_cast<const uint4*>(place + first);
      level[0] = four.x, level[1] = four.y, level[2] = four.z, level[3] = four.w;
      return;
    }
#pragma unroll
    for (uint32_t k = 0; k < each; ++k) level[k] = first + k < count ? place[first + k] : 0;
  }
  __device__ void set_four(uint32_t first, uint32_t count, const uint32_t* level) const {
    if (aligned() && first + each <= count) {
      *reinterpret_cast<uint4*>(place + first) = {level[0], level[1], level[2], level[3]};
      return;
    }
#pragma unroll
    for (uint32_t k = 0; k < each; ++k)
      if (first + k < count) place[first + k] = level[k];
  }
  __device__ int32_t get(uint32_t i) const {
    return int32_t(place[i]);
  }
  __device__ void set(uint32_t i, int32_t level) const {
    place[i] = uint32_t(level);
  }
};

__device__ int32_t signed_level(uint32_t magnitude, uint32_t negative) {
  return negative ? -int32_t(magnitude) : int32_t(magnitude);
}

/// Omega codes and bits, one after the other; zeros beyond the end.
struct CodeReader {
  BlockBits bytes;
  uint32_t position;
  __device__ uint32_t take(uint32_t count) {
    const uint32_t bits = bytes.bits(position, count);
    position += count;
    return bits;
  }
  /// 0 if it does not fit 32 bits.
  __device__ uint32_t omega() {
    uint32_t value = 1;
    while (bytes.bits(position, 1)) {
      if (value > 31) return 0;
      value = take(value + 1);
    }
    ++position;
    return value;
  }
  __device__ bool finished() const { return (position + 7) / 8 == bytes.size && bytes.padded(position); }
};

/// Whether a level of this magnitude and sign is in the range.
__device__ bool allowed(const LevelTensor& tensor, uint32_t magnitude, uint32_t negative) {
  const int32_t high = tensor.low + int32_t(tensor.symbols) - 1;
  return magnitude <= uint32_t(negative ? -tensor.low : high);
}

/// One thread decodes, since nobody knows where a code begins before the last one ends. A warp stores what it
/// has decoded, a line at a time. Warp 0.
__device__ bool read_elias_dense(const UnpackView& view, const LevelTensor& tensor, Shared& s,
                                 const BlockBits& bytes, Levels levels) {
  const uint32_t lane = lane_of();
  CodeReader in{bytes, 8 * view.levels_at};
  bool sound = true;
  for (uint32_t first = 0; first < view.count; first += warp_size) {
    const uint32_t count = view.count - first < warp_size ? view.count - first : warp_size;
    for (uint32_t i = 0; lane == 0 && sound && i < count; ++i) {
      const uint32_t magnitude = in.omega() - 1;  // of a code that is too long: beyond every limit
      const uint32_t negative = magnitude != 0 ? in.take(1) : 0;
      sound = allowed(tensor, magnitude, negative);
      s.line[i] = uint32_t(signed_level(magnitude, negative));
    }
    sound = __shfl_sync(all_lanes, sound, 0);
    if (!sound) return false;
    if (lane < count) levels.set(first + lane, int32_t(s.line[lane]));
    __syncwarp();
  }
  return __shfl_sync(all_lanes, in.finished(), 0);
}

/// One thread.
__device__ bool read_elias_sparse(const UnpackView& view, const LevelTensor& tensor, const BlockBits& bytes,
                                  Levels levels) {
  CodeReader in{bytes, 8 * view.levels_at};
  const uint32_t nonzeros = in.omega() - 1;
  if (nonzeros > view.count) return false;
  uint32_t next = 0;
  for (uint32_t k = 0; k < nonzeros; ++k) {
    const uint32_t gap = in.omega(), negative = in.take(1), magnitude = in.omega();
    if (gap == 0 || gap > view.count - next || magnitude == 0 || !allowed(tensor, magnitude, negative))
      return false;
    next += gap;
    levels.set(next - 1, signed_level(magnitude, negative));
  }
  return in.finished();
}

/// Tokens of all levels to the levels' place: all threads.
__device__ bool read_tokens(const UnpackView& view, Shared& s, Levels levels) {
  constexpr uint32_t none = 255;
  fill_rows(&s.row, &view.starts, 1, threads);
  FedChain<element::rans_max_symbols> fed(s.fed, &s.row, view.data + view.levels_at, view.stream_bytes,
                                          view.lanes);
  fed.run(
      view.count, [](uint32_t) { return uint16_t(0); }, DecodeTabled<none>(),
      [&](uint32_t i, uint32_t token) { levels.set(i, int32_t(token)); });
  if (warp_of() == 0) {
    const bool sound = fed.chain().home() && fed.chain().at == view.stream_bytes;
    if (lane_of() == 0) s.sound = sound;
  }
  __syncthreads();
  return s.sound != 0;
}

/// Signs and low bits of tokens: all threads.
__device__ bool read_low_bits(const UnpackView& view, const LevelTensor& tensor, Shared& s,
                              const BlockBits& bytes, Levels levels) {
  const int32_t high = tensor.low + int32_t(tensor.symbols) - 1;
  const uint32_t signs = tensor.low < 0 && high > 0 ? 1 : 0, always_negative = high == 0 ? 1 : 0;
  uint32_t position = 8 * (view.levels_at + view.stream_bytes);
  bool sound = true;
  for (uint32_t round = 0; round < view.count; round += threads * each) {
    const uint32_t first = round + each * threadIdx.x;
    uint32_t bits = 0, token[each];
    if (view.lanes > 0) levels.get_four(first, view.count, token);
#pragma unroll
    for (uint32_t k = 0; k < each; ++k) {
      if (view.lanes == 0) token[k] = first + k < view.count ? view.token : 0;
      bits += token[k] == 0 ? 0 : view.scheme.raw_bits(token[k]) + signs;
    }
    uint32_t warp_total = 0, at = position + sum_before(bits, warp_total);
    if (lane_of() == 0) s.warp_total[warp_of()] = warp_total;
    __syncthreads();
    for (uint32_t w = 0; w < warps; ++w) {
      if (w < warp_of()) at += s.warp_total[w];
      position += s.warp_total[w];
    }
#pragma unroll
    for (uint32_t k = 0; k < each; ++k) {
      uint32_t magnitude = 0, negative = 0;
      if (token[k] != 0) {
        const uint32_t low = view.scheme.raw_bits(token[k]), word = bytes.bits(at, low + signs);
        at += low + signs;
        magnitude = view.scheme.first_magnitude(token[k]) | (word & ((1u << low) - 1));
        negative = (word >> low | always_negative) & 1;
      }
      sound = sound && allowed(tensor, magnitude, negative);
      token[k] = uint32_t(signed_level(magnitude, negative));
    }
    levels.set_four(first, view.count, token);
    __syncthreads();
  }
  return sound && (position + 7) / 8 == bytes.size && bytes.padded(position);
}

/// Levels of fixed width, or five in a byte: all threads.
__device__ bool read_fixed(const UnpackView& view, const LevelTensor& tensor, const BlockBits& bytes,
                           Levels levels) {
  bool sound = true;
  if (view.packer == LevelPacker::fixed) {
    const uint32_t begin = 8 * view.levels_at, end = begin + view.count * view.width;
    if ((end + 7) / 8 != bytes.size) return false;
    for (uint32_t i = threadIdx.x; i < view.count; i += threads) {
      const uint32_t code = bytes.bits(begin + i * view.width, view.width);
      sound = sound && code < tensor.symbols;
      levels.set(i, int32_t(code) + tensor.low);
    }
    return sound && bytes.padded(end);
  }
  const uint32_t padded = (view.count + trits - 1) / trits * trits;
  for (uint32_t i = threadIdx.x; i < padded; i += threads) {
    const uint32_t byte = bytes.bits(8 * (view.levels_at + i / trits), 8), place = i % trits;
    const uint32_t worth = place == 0 ? 81 : place == 1 ? 27 : place == 2 ? 9 : place == 3 ? 3 : 1;
    const uint32_t trit = byte / worth % 3;
    sound = sound && byte < trit_bytes && (i < view.count || trit == 0);
    if (i < view.count) levels.set(i, int32_t(trit) + tensor.low);
  }
  return sound && view.levels_at + (view.count + trits - 1) / trits == bytes.size;
}

__device__ float scale_at(const UnpackView& view, const BlockBits& bytes, uint32_t bucket) {
  return element::bits_as<float>(__byte_perm(bytes.bits(8 * (view.scales_at + 4 * bucket), 32), 0, 0x0123));
}

__global__ void __launch_bounds__(threads, 4) unpack_blocks(const __grid_constant__ Arguments a) {
  __shared__ Shared s;
  __shared__ UnpackView view;
  share_view(view, a.blocks[blockIdx.x]);
  const uint32_t n = view.count;
  if (view.zero || !view.sound) {
    store_zeros(view.values, n);
    if (threadIdx.x == 0) a.sound[blockIdx.x] = view.sound;
    return;
  }
  const BlockBits bytes(view.data, view.bytes);
  const Levels levels{reinterpret_cast<uint32_t*>(view.values)};
  if (view.packer == LevelPacker::elias_sparse)
    for (uint32_t i = threadIdx.x; i < n; i += threads) levels.set(i, 0);
  __syncthreads();
  bool sound = true;
  switch (view.packer) {
    case LevelPacker::fixed:
    case LevelPacker::base243:
      sound = read_fixed(view, a.tensor, bytes, levels);
      break;
    case LevelPacker::elias_sparse:
      if (threadIdx.x == 0) sound = read_elias_sparse(view, a.tensor, bytes, levels);
      break;
    case LevelPacker::elias_dense:
      if (warp_of() == 0) sound = read_elias_dense(view, a.tensor, s, bytes, levels);
      break;
    case LevelPacker::entropy:
      if (view.lanes > 0) sound = read_tokens(view, s, levels);
      sound = read_low_bits(view, a.tensor, s, bytes, levels) && sound;
      break;
  }
  const uint32_t buckets = a.bucket ? (n + a.bucket - 1) / a.bucket : 0;
  for (uint32_t b = threadIdx.x; b < buckets; b += threads)
    sound = sound && element::bits_as<uint32_t>(scale_at(view, bytes, b)) < element::first_nonfinite_key;
  sound = __syncthreads_and(sound) != 0;
  if (threadIdx.x == 0) a.sound[blockIdx.x] = sound;
  if (!sound) return store_zeros(view.values, n);
  for (uint32_t i = threadIdx.x; i < n; i += threads) {
    const int32_t level = levels.get(i);
    const float scale = a.bucket ? scale_at(view, bytes, i / a.bucket) : a.tensor.scale;
    view.values[i] = a.tensor.signs ? (level ? a.tensor.negative : a.tensor.scale)
                                    : element::grid_value(a.tensor.rule, level + a.tensor.shift, scale);
  }
}

}  // namespace

struct LevelUnpacker::State {
  LevelTensor tensor;
  uint32_t bucket = 0;
  DeviceBuffer<UnpackView> views;
  std::vector<UnpackView> host_views;

  void launch(const uint8_t* bytes, std::span<const LevelDecoder::Block> blocks, float* values,
              uint8_t* sound, const Stream& stream) {
    views.reserve(blocks.size());
    host_views.clear();
    for (const LevelDecoder::Block& block : blocks) {
      UnpackView view;
      view.data = bytes + block.offset;
      view.values = values + block.first;
      view.bytes = uint32_t(block.bytes);
      view.count = uint32_t(block.count);
      view.width = block.width;
      view.scales_at = block.scales_at;
      view.levels_at = block.levels_at;
      view.scheme = block.scheme;
      view.lanes = block.lanes;
      view.stream_bytes = block.stream_bytes;
      view.token = block.token;
      view.packer = block.packer;
      view.zero = block.zero;
      view.sound = block.sound;
      view.starts = starts_of(block.frequencies)[0];
      host_views.push_back(view);
    }
    copy_to_device(views.data(), host_views.data(), host_views.size(), stream);
    Arguments a{};
    a.tensor = tensor;
    a.bucket = bucket;
    a.blocks = views.data();
    a.sound = sound;
    unpack_blocks<<<uint32_t(blocks.size()), threads, 0, stream>>>(a);
    check_launch("unpacking levels");
  }
};

LevelUnpacker::LevelUnpacker(const LevelTensor& tensor, uint32_t bucket) : state_(std::make_unique<State>()) {
  state_->tensor = tensor;
  state_->bucket = bucket;
}
LevelUnpacker::~LevelUnpacker() = default;

void LevelUnpacker::launch(const uint8_t* bytes, std::span<const LevelDecoder::Block> blocks, float* values,
                           uint8_t* sound, const Stream& stream) {
  if (!blocks.empty()) state_->launch(bytes, blocks, values, sound, stream);
}

namespace {

/// From and to host memory.
class UnpackRun final : public LevelDecoder {
 public:
  UnpackRun(const LevelTensor& tensor, uint32_t bucket) : unpacker_(tensor, bucket) {}

  void decode(std::string_view bytes, std::span<const Block> blocks, std::span<float> values,
              std::span<uint8_t> sound) override {
    if (blocks.empty()) return;
    bytes_.put(bytes, stream_);
    values_.reserve(values.size());
    sound_.reserve(blocks.size());
    unpacker_.launch(bytes_.bytes(), blocks, values_.data(), sound_.data(), stream_);
    copy_to_host(sound.data(), sound_.data(), blocks.size(), stream_);
    copy_out(values.data(), values_.data(), values.size(), stream_);
    stream_.synchronize();
  }

 private:
  LevelUnpacker unpacker_;
  Stream stream_;
  StagedBytes bytes_;
  DeviceBuffer<float> values_;
  DeviceBuffer<uint8_t> sound_;
};

}  // namespace

std::unique_ptr<LevelDecoder> make_level_decoder(const LevelTensor& tensor, uint32_t bucket) {
  return std::make_unique<UnpackRun>(tensor, bucket);
}

}  // namespace jsq::cuda

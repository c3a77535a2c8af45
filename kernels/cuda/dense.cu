// Dense blocks: a warp codes a block of at most 65,536 elements, so that its error sums have the contract's
// order without any other warp; a thread decodes an element.
#include <algorithm>

#include "kernels/cuda/copy_out.hpp"
#include "kernels/cuda/dense_kernels.hpp"
#include "kernels/cuda/warp.cuh"

namespace jsq::cuda {
namespace {

constexpr uint32_t warps = 4, threads = warps * warp_size;

template <DenseFormat F>
struct Coded {
  using Stored = uint16_t;
  __device__ static Stored of(float value) {
    return F == DenseFormat::f16 ? element::f32_to_f16_saturating(value)
                                 : element::f32_to_bf16_saturating(value);
  }
  __device__ static float value(Stored stored) {
    return F == DenseFormat::f16 ? element::f16_to_f32(stored) : element::bf16_to_f32(stored);
  }
};
template <>
struct Coded<DenseFormat::whole> {
  using Stored = uint32_t;
  __device__ static Stored of(float value) { return element::bits_as<uint32_t>(value); }
  __device__ static float value(Stored stored) { return element::bits_as<float>(stored); }
};

/// Sums of 16 lanes that meet their elements in index order: lane l of the warp's lower half adds elements l
/// and l + 16 of every 32.
struct Lanes {
  double squared_error = 0, dot = 0, decoded_energy = 0, error_sum = 0, max_error = 0,
         coded_squared_error = 0;
  __device__ void add(double g, double coded, double decoded) {
    const double error = decoded - g, magnitude = error < 0 ? -error : error, coded_error = coded - g;
    squared_error += error * error;
    dot += g * decoded;
    decoded_energy += decoded * decoded;
    error_sum += error;
    max_error = magnitude > max_error ? magnitude : max_error;
    coded_squared_error += coded_error * coded_error;
  }
};

template <DenseFormat F>
__global__ void __launch_bounds__(threads)
    encode_blocks(const BlockView* blocks, uint32_t count, const uint64_t* first,
                  typename Coded<F>::Stored* out, DenseSums* sums) {
  const uint32_t lane = lane_of();
  for (uint32_t b = blockIdx.x * warps + warp_of(); b < count; b += gridDim.x * warps) {
    const BlockView block = blocks[b];
    typename Coded<F>::Stored* to = out + first[b];
    Lanes lanes;
    uint32_t bits = 0;
    for (uint32_t at = 0; at < block.count; at += warp_size) {
      const uint32_t i = at + lane;
      const float g = i < block.count ? block.values[i] : 0.0f;
      const auto stored = Coded<F>::of(g);
      if (i < block.count) to[i] = stored;
      bits |= i < block.count ? uint32_t(stored) : 0u;
      const float coded = Coded<F>::value(stored), decoded = element::round_to_stored(block.stored, coded);
      // Zeros behind the end add nothing.
      const float late_g = __shfl_down_sync(all_lanes, g, element::sum_lanes),
                  late_coded = __shfl_down_sync(all_lanes, coded, element::sum_lanes),
                  late_decoded = __shfl_down_sync(all_lanes, decoded, element::sum_lanes);
      lanes.add(g, coded, decoded);
      lanes.add(late_g, late_coded, late_decoded);
    }
    const bool zero = __all_sync(all_lanes, bits == 0);
    DenseSums result;
    result.squared_error = fold_lanes(lanes.squared_error);
    result.dot = fold_lanes(lanes.dot);
    result.decoded_energy = fold_lanes(lanes.decoded_energy);
    result.error_sum = fold_lanes(lanes.error_sum);
    result.coded_squared_error = fold_lanes(lanes.coded_squared_error);
    result.max_error = max_of_lanes(lanes.max_error);
    result.zero = zero;
    if (lane == 0) sums[b] = result;
  }
}

struct DecodeView {
  const uint8_t* bytes = nullptr;
  float* values = nullptr;
  uint32_t count = 0;
  bool zero = false;
};

template <DenseFormat F>
__global__ void __launch_bounds__(threads) decode_blocks(const DecodeView* blocks, uint8_t* finite) {
  const DecodeView block = blocks[blockIdx.x];
  bool sound = true;
  for (uint32_t i = threadIdx.x; i < block.count; i += threads) {
    float value = 0;
    if (!block.zero) {
      // Blocks lie anywhere in a frame: two aligned words hold the bytes of an element.
      constexpr uint32_t size = sizeof(typename Coded<F>::Stored);
      const uint64_t at = reinterpret_cast<uint64_t>(block.bytes) + uint64_t(i) * size;
      const auto* words = reinterpret_cast<const uint32_t*>(at & ~uint64_t(3));
      const uint32_t shift = 8 * uint32_t(at & 3);
      uint32_t stored = words[0] >> shift;
      if (shift + 8 * size > 32) stored |= words[1] << (32 - shift);
      value = Coded<F>::value(typename Coded<F>::Stored(stored));
      sound = sound && element::magnitude_key(value) < element::first_nonfinite_key;
    }
    block.values[i] = value;
  }
  const int all = __syncthreads_and(sound);
  if (threadIdx.x == 0) finite[blockIdx.x] = all != 0;
}

template <DenseFormat F>
void launch_encode_as(const BlockView* blocks, uint32_t count, const uint64_t* first, void* out,
                      DenseSums* sums, const Stream& stream) {
  encode_blocks<F><<<(count + warps - 1) / warps, threads, 0, stream>>>(
      blocks, count, first, static_cast<typename Coded<F>::Stored*>(out), sums);
  check_launch("coding dense blocks");
}

class BlockDecoder final : public DenseDecoder {
 public:
  explicit BlockDecoder(DenseFormat format) : format_(format) {}
  void decode(std::string_view bytes, std::span<const Block> blocks, std::span<float> values,
              std::span<uint8_t> finite) override {
    if (blocks.empty()) return;
    bytes_.put(bytes, stream_);
    values_.reserve(values.size());
    views_.reserve(blocks.size());
    finite_.reserve(blocks.size());
    std::vector<DecodeView> views;
    for (const Block& block : blocks)
      views.push_back(
          {bytes_.bytes() + block.offset, values_.data() + block.first, uint32_t(block.count), block.zero});
    copy_to_device(views_.data(), views.data(), views.size(), stream_);
    switch (format_) {
      case DenseFormat::whole:
        decode_blocks<DenseFormat::whole>
            <<<uint32_t(blocks.size()), threads, 0, stream_>>>(views_.data(), finite_.data());
        break;
      case DenseFormat::f16:
        decode_blocks<DenseFormat::f16>
            <<<uint32_t(blocks.size()), threads, 0, stream_>>>(views_.data(), finite_.data());
        break;
      case DenseFormat::bf16:
        decode_blocks<DenseFormat::bf16>
            <<<uint32_t(blocks.size()), threads, 0, stream_>>>(views_.data(), finite_.data());
        break;
    }
    check_launch("decoding dense blocks");
    copy_to_host(finite.data(), finite_.data(), blocks.size(), stream_);
    copy_out(values.data(), values_.data(), values.size(), stream_);
    stream_.synchronize();
  }

 private:
  DenseFormat format_;
  Stream stream_;
  StagedBytes bytes_;
  DeviceBuffer<float> values_;
  DeviceBuffer<DecodeView> views_;
  DeviceBuffer<uint8_t> finite_;
};

}  // namespace

void launch_dense_encode(DenseFormat format, const BlockView* blocks, uint32_t count, const uint64_t* first,
                         void* out, DenseSums* sums, const Stream& stream) {
  if (count == 0) return;
  switch (format) {
    case DenseFormat::whole:
      return launch_encode_as<DenseFormat::whole>(blocks, count, first, out, sums, stream);
    case DenseFormat::f16:
      return launch_encode_as<DenseFormat::f16>(blocks, count, first, out, sums, stream);
    case DenseFormat::bf16:
      return launch_encode_as<DenseFormat::bf16>(blocks, count, first, out, sums, stream);
  }
}

std::unique_ptr<DenseDecoder> make_dense_decoder(DenseFormat format) {
  return std::make_unique<BlockDecoder>(format);
}

}  // namespace jsq::cuda

// Dense blocks: a thread block codes two blocks of at most 65,536 elements, whose error sums then have the
// contract's order without any other block; a thread decodes four elements at a time.
#include <algorithm>

#include "kernels/cuda/chunk_errors.cuh"
#include "kernels/cuda/copy_out.hpp"
#include "kernels/cuda/dense_kernels.hpp"

namespace jsq::cuda {
namespace {

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

/// Stores four neighbours where they go, those that are there.
template <class Stored>
__device__ void store_four(Stored* to, uint32_t i, uint32_t count, const Stored* four) {
  if (i + 4 <= count && reinterpret_cast<uint64_t>(to + i) % (4 * sizeof(Stored)) == 0) {
    if constexpr (sizeof(Stored) == sizeof(uint16_t))
      *reinterpret_cast<ushort4*>(to + i) = ushort4{four[0], four[1], four[2], four[3]};
    else
      *reinterpret_cast<uint4*>(to + i) = uint4{four[0], four[1], four[2], four[3]};
    return;
  }
#pragma unroll
  for (uint32_t k = 0; k < 4; ++k)
    if (i + k < count) to[i + k] = four[k];
}

constexpr uint32_t encode_threads = loading_threads + error_warps * warp_size;

template <DenseFormat F>
__global__ void __launch_bounds__(encode_threads, 2)
    encode_blocks(const BlockView* blocks, uint32_t count, const uint64_t* first_element,
                  typename Coded<F>::Stored* out, DenseSums* sums) {
  using Stored = typename Coded<F>::Stored;
  extern __shared__ StagedTile tiles[];
  __shared__ uint32_t bits[chunks_together];
  auto* decoded_tile = reinterpret_cast<DecodedTile*>(tiles + staged_tiles);
  for (uint32_t first = chunks_together * blockIdx.x; first < count; first += chunks_together * gridDim.x) {
    const Pair pair(blocks, count, first);
    if (threadIdx.x < chunks_together) bits[threadIdx.x] = 0;
    __syncthreads();
    const uint32_t own = first + own_chunk();
    if (loads_chunks()) {
      const auto stored = pair.there ? blocks[own].stored : element::StoredFloat::whole;
      Stored* const to = pair.there ? out + first_element[own] : nullptr;
      uint32_t own_bits = 0;
      bring_first(pair.own, tiles);
      stage_tiles(pair.own, pair.steps, tiles, [&](uint32_t step, StagedTile& tile) {
        float coded[staged_each], decoded[staged_each];
        look_at(tile, coded);
#pragma unroll
        for (uint32_t q = 0; q < staged_each / 4; ++q) {
          Stored four[4];
#pragma unroll
          for (uint32_t k = 0; k < 4; ++k) {
            four[k] = Coded<F>::of(coded[4 * q + k]);
            own_bits |= four[k];  // 0 behind the end
            coded[4 * q + k] = Coded<F>::value(four[k]);
            decoded[4 * q + k] = element::round_to_stored(stored, coded[4 * q + k]);
          }
          store_four(to, step * staged_elements + own_four(q), pair.own.count, four);
        }
        leave(decoded_tile[step % 2].coded, coded);
        leave(decoded_tile[step % 2].decoded, decoded);
      });
      if (own_bits != 0) atomicOr(&bits[loaded_chunk()], own_bits);
    } else {
      // Of a lane without a block, never written to.
      add_errors(warp_of() - loading_warps, pair, tiles, decoded_tile, sums[pair.there ? own : first],
                 [](double) {});
    }
    __syncthreads();
    if (threadIdx.x < chunks_together && first + threadIdx.x < count)
      sums[first + threadIdx.x].zero = bits[threadIdx.x] == 0;
    __syncthreads();
  }
}

struct DecodeView {
  const uint8_t* bytes = nullptr;
  float* values = nullptr;
  uint32_t count = 0;
  bool zero = false;
};

constexpr uint32_t threads = 512;

/// A block's bytes lie anywhere in a frame; several elements of a thread are under way together.
template <DenseFormat F>
__global__ void __launch_bounds__(threads) decode_blocks(const DecodeView* blocks, uint8_t* finite) {
  constexpr uint32_t size = sizeof(typename Coded<F>::Stored), unroll = 8;
  const DecodeView block = blocks[blockIdx.x];
  bool sound = true;
  const uint64_t begin = reinterpret_cast<uint64_t>(block.bytes);
  for (uint32_t at = threadIdx.x; at < block.count; at += unroll * threads) {
    float values[unroll];
#pragma unroll
    for (uint32_t k = 0; k < unroll; ++k) {
      const uint32_t i = at + k * threads;
      values[k] = 0;
      if (block.zero || i >= block.count) continue;
      // Two aligned words hold the bytes of an element.
      const uint64_t place = begin + uint64_t(i) * size;
      const auto* words = reinterpret_cast<const uint32_t*>(place & ~uint64_t(3));
      const uint32_t shift = 8 * uint32_t(place & 3);
      uint32_t stored = words[0] >> shift;
      if (shift + 8 * size > 32) stored |= words[1] << (32 - shift);
      values[k] = Coded<F>::value(typename Coded<F>::Stored(stored));
    }
#pragma unroll
    for (uint32_t k = 0; k < unroll; ++k) {
      sound = sound && element::magnitude_key(values[k]) < element::first_nonfinite_key;
      if (at + k * threads < block.count) block.values[at + k * threads] = values[k];
    }
  }
  const int all = __syncthreads_and(sound);
  if (threadIdx.x == 0) finite[blockIdx.x] = all != 0;
}

template <DenseFormat F>
void launch_encode_as(const BlockView* blocks, uint32_t count, const uint64_t* first, void* out,
                      DenseSums* sums, const Stream& stream) {
  const auto kernel = encode_blocks<F>;
  kernel<<<blocks_for_pairs(kernel, encode_threads, error_tiles_bytes, count), encode_threads,
           error_tiles_bytes, stream>>>(blocks, count, first, static_cast<typename Coded<F>::Stored*>(out),
                                        sums);
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

#include "lib/methods/dense.hpp"

#include <algorithm>

#include "kernels/cuda/dense.hpp"
#include "kernels/element/float_bits.hpp"
#include "lib/core/bytes.hpp"
#include "lib/core/device.hpp"
#include "lib/core/stored_values.hpp"

namespace jsq {
namespace {

/// Blocks of the pool from the device.
class DenseDeviceBlocks final : public DeviceBlocks {
 public:
  DenseDeviceBlocks(const TensorPool& pool, DType dtype, std::span<const PoolBlock> blocks) {
    coded_ = on_device([&] { return cuda::encode_dense(*pool.device(), stored_float(dtype), blocks); });
  }
  void next(std::string& out, BlockSums& sums) override {
    cuda::DenseSums found;
    const std::string_view bytes = on_device([&] { return coded_->next(found); });
    if (!found.zero) out.append(bytes);
    sums.nominal_bits = 8 * bytes.size();
    sums.entropy_bits = 8 * double(bytes.size());
    sums.expected_error = found.coded_squared_error;
    sums.squared_error = found.squared_error;
    sums.dot = found.dot;
    sums.decoded_energy = found.decoded_energy;
    sums.error_sum = found.error_sum;
    sums.max_error = found.max_error;
  }

 private:
  std::unique_ptr<cuda::DenseBlocks> coded_;
};

class DenseDeviceDecoder final : public DeviceBlockDecoder {
 public:
  explicit DenseDeviceDecoder(DType dtype)
      : size_(dtype_bytes(dtype)),
        decoder_(on_device([&] { return cuda::make_dense_decoder(stored_float(dtype)); })) {}
  void decode(std::string_view bytes, std::span<const Block> blocks, std::span<float> values,
              std::span<uint8_t> sound) override {
    std::vector<cuda::DenseDecoder::Block> wanted;
    for (const Block& block : blocks) {
      const bool fits = block.bytes == 0 || block.bytes == block.count * size_;
      wanted.push_back({block.offset, block.first, fits ? block.count : 0, block.bytes == 0});
    }
    on_device([&] { decoder_->decode(bytes, wanted, values, sound); });
    for (size_t i = 0; i < blocks.size(); ++i) sound[i] &= wanted[i].count == blocks[i].count;
  }

 private:
  size_t size_;
  std::unique_ptr<cuda::DenseDecoder> decoder_;
};

class DenseDecoder final : public MethodDecoder {
 public:
  DenseDecoder(std::string_view name, DType dtype) : name_(name), dtype_(dtype) {}
  void decode_block(const BlockPlace&, std::string_view block, std::span<float> values,
                    std::string_view what) const override {
    ByteReader in(block, what);
    const std::string_view stored = in.raw(values.size() * dtype_bytes(dtype_));
    in.expect_end();
    decode_elements(dtype_, false, reinterpret_cast<const std::byte*>(stored.data()), values);
    for (float value : values)
      if (element::magnitude_key(value) >= element::first_nonfinite_key) in.damaged("a value is not finite");
  }
  std::unique_ptr<DeviceBlockDecoder> device_decoder() const override {
    return std::make_unique<DenseDeviceDecoder>(dtype_);
  }
  std::string describe() const override { return std::string(name_); }

 private:
  std::string_view name_;
  DType dtype_;
};

}  // namespace

void DenseScheme::encode(size_t, const BlockPlace&, std::span<const float> values, std::string& out,
                         std::span<float> decoded, BlockSums& sums) const {
  const size_t before = out.size(), bytes = values.size() * dtype_bytes(dtype_);
  out.resize(before + bytes);
  auto* stored = reinterpret_cast<std::byte*>(out.data() + before);
  encode_elements(dtype_, values, stored);
  if (!decoded.empty()) decode_elements(dtype_, false, stored, decoded);
  sums.nominal_bits += 8 * bytes;
  sums.entropy_bits += 8 * double(bytes);
  // All +0 decodes from nothing at all.
  if (std::all_of(stored, stored + bytes, [](std::byte byte) { return byte == std::byte{0}; }))
    out.resize(before);
}

std::unique_ptr<DeviceBlocks> DenseScheme::encode_on_device(const TensorPool& pool) const {
  return dense_blocks_on_device(pool, dtype_, pool_blocks(pool, 16));
}

std::unique_ptr<DeviceBlocks> dense_blocks_on_device(const TensorPool& pool, DType dtype,
                                                     std::span<const PoolBlock> blocks) {
  return std::make_unique<DenseDeviceBlocks>(pool, dtype, blocks);
}

std::unique_ptr<MethodDecoder> make_dense_decoder(std::string_view name, DType dtype,
                                                  std::string_view parameters, std::string_view what) {
  ByteReader(parameters, what).expect_end();
  return std::make_unique<DenseDecoder>(name, dtype);
}

}  // namespace jsq

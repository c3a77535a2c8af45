// What fp32, fp16 and bf16 share: every element stored at a fixed number of bytes, whole where it can be.
#pragma once

#include "jsq/tensor.hpp"
#include "lib/methods/scheme.hpp"

namespace jsq {

class DenseScheme final : public Scheme {
 public:
  DenseScheme(DType dtype, uint32_t wire_id) : dtype_(dtype), wire_id_(wire_id) {}
  SizeRange sizes() const override { return {}; }
  void set_size(uint64_t, bool) override {}
  bool deterministic() const override { return true; }
  StoredSet stored_set(size_t) const override { return {wire_id_, {}}; }
  void encode(size_t t, const BlockPlace& place, std::span<const float> values, std::string& out,
              std::span<float> decoded, BlockSums& sums) const override;
  std::unique_ptr<DeviceBlocks> encode_on_device(const TensorPool& pool) const override;

 private:
  DType dtype_;
  uint32_t wire_id_;
};

/// These blocks of a pool that is on a device, its elements as f16 or bf16 or else f32.
std::unique_ptr<DeviceBlocks> dense_blocks_on_device(const TensorPool& pool, DType dtype,
                                                     std::span<const PoolBlock> blocks);

std::unique_ptr<MethodDecoder> make_dense_decoder(std::string_view name, DType dtype,
                                                  std::string_view parameters, std::string_view what);

}  // namespace jsq

#include "lib/methods/signs.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/dither.hpp"
#include "kernels/cpu/signs.hpp"
#include "lib/core/bytes.hpp"
#include "lib/core/device.hpp"
#include "lib/methods/level_device_blocks.hpp"
#include "lib/methods/level_device_decoder.hpp"
#include "lib/methods/passes.hpp"
#include "lib/packers/level_device.hpp"
#include "lib/packers/levels.hpp"

namespace jsq {
namespace {

constexpr LevelRange one_bit{0, 1};

[[gnu::noinline]] std::vector<int32_t>& sign_buffer() {
  static thread_local std::vector<int32_t> signs;
  return signs;
}

void apply_signs(std::span<const int32_t> signs, float magnitude, std::span<float> values) {
  const float of_sign[2] = {magnitude, -magnitude};
  for (size_t i = 0; i < signs.size(); ++i) values[i] = of_sign[signs[i]];
}

class SignDecoder final : public MethodDecoder {
 public:
  SignDecoder(std::string_view name, std::string_view parameters, std::string_view what) : name_(name) {
    ByteReader in(parameters, what);
    magnitude_ = in.magnitude("the magnitude");
    in.expect_end();
  }
  void decode_block(const BlockPlace&, std::string_view block, std::span<float> values,
                    std::string_view what) const override {
    std::vector<int32_t>& signs = sign_buffer();
    signs.resize(values.size());
    read_signs(block, signs, what);
    apply_signs(signs, magnitude_, values);
  }
  std::unique_ptr<DeviceBlockDecoder> device_decoder() const override {
    return std::make_unique<LevelDeviceDecoder>(
        sign_tensor(magnitude_, -magnitude_), 0,
        [](std::string_view, cuda::LevelDecoder::Block& head) { head.width = 1; });
  }
  std::string describe() const override { return std::string(name_); }

 private:
  std::string_view name_;
  float magnitude_ = 0;
};

float mean_magnitude(const TensorPool& pool, size_t t) {
  const uint64_t elements = pool.tensors()[t].info->elements();
  return elements ? float(pool.statistics(t).sum_abs / double(elements)) : 0.0f;
}

}  // namespace

void signs_of(std::span<const float> values, std::span<int32_t> signs) {
  for (size_t i = 0; i < values.size(); ++i) signs[i] = values[i] < 0 ? 1 : 0;
}

void write_signs(std::span<const int32_t> signs, std::string& out) {
  pack_levels(LevelPacker::fixed, signs, one_bit, out);
}

void read_signs(std::string_view bytes, std::span<int32_t> signs, std::string_view what) {
  unpack_levels(LevelPacker::fixed, bytes, one_bit, signs, what);
}

cuda::LevelTensor sign_tensor(float positive, float negative) {
  cuda::LevelTensor tensor;
  tensor.symbols = uint32_t(one_bit.symbols());
  tensor.signs = true;
  tensor.scale = positive;
  tensor.negative = negative;
  return tensor;
}

cuda::LevelLayout sign_layout(size_t elements, const cuda::LevelSums& found, BlockSums& sums) {
  cuda::LevelLayout layout;
  layout.empty = found.max_key == 0;
  layout.numbered = false;
  layout.width = 1;
  layout.most_bytes = (elements + 7) / 8;
  if (layout.empty) return layout;
  sums = error_block_sums(found);
  sums.expected_error = found.other_error;
  return layout;
}

SignScheme::SignScheme(const TensorPool& pool, uint32_t wire_id, SignScale scale)
    : wire_id_(wire_id), scale_(scale) {
  for (size_t t = 0; t < pool.tensors().size(); ++t)
    magnitudes_.push_back(scale == SignScale::mean ? mean_magnitude(pool, t) : 1.0f);
}

StoredSet SignScheme::stored_set(size_t t) const {
  ByteWriter out;
  out.f32(magnitudes_[t]);
  return {wire_id_, out.take()};
}

void SignScheme::add_nominal_bits(uint64_t first, size_t n, BlockSums& sums) const {
  sums.nominal_bits += n + (scale_ == SignScale::mean && first == 0 ? 32 : 0);
}

void SignScheme::add_entropy_bits(uint64_t first, size_t n, uint64_t negatives, BlockSums& sums) const {
  const auto all = double(n);
  for (const double count : {all - double(negatives), double(negatives)})
    if (count > 0) sums.entropy_bits += count * std::log2(all / count);
  sums.entropy_bits += scale_ == SignScale::mean && first == 0 ? 32 : 0;
}

void SignScheme::encode(size_t t, const BlockPlace& place, std::span<const float> values, std::string& out,
                        std::span<float> decoded, BlockSums& sums) const {
  add_nominal_bits(place.first, values.size(), sums);
  if (cpu::max_magnitude(values) == 0) {
    std::fill(decoded.begin(), decoded.end(), 0.0f);
    return;
  }
  const size_t at = out.size();
  out.resize(at + (values.size() + 7) / 8);
  auto* bytes = reinterpret_cast<uint8_t*>(out.data() + at);
  const size_t negatives = cpu::pack_signs(values, bytes);
  if (decoded.empty()) return;
  cpu::values_of_signs(bytes, magnitudes_[t], decoded);
  add_entropy_bits(place.first, values.size(), negatives, sums);
}

std::unique_ptr<DeviceBlocks> SignScheme::encode_on_device(const TensorPool& pool) const {
  cuda::LevelPlan plan;
  for (const float magnitude : magnitudes_) plan.tensors.push_back(sign_tensor(magnitude, -magnitude));
  plan.nearest = true;
  const auto choose = [this](const PoolBlock& block, const cuda::LevelSums& found,
                             std::span<const uint32_t> counts, BlockSums& sums) {
    cuda::LevelLayout layout = sign_layout(block.count, found, sums);
    add_nominal_bits(block.first, block.count, sums);
    if (!layout.empty) add_entropy_bits(block.first, block.count, counts[1], sums);
    return layout;
  };
  return std::make_unique<LevelDeviceBlocks>(pool, 16, std::move(plan), choose);
}

std::unique_ptr<MethodDecoder> make_sign_decoder(std::string_view name, std::string_view parameters,
                                                 std::string_view what) {
  return std::make_unique<SignDecoder>(name, parameters, what);
}

}  // namespace jsq

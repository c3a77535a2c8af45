#include "lib/methods/dense.hpp"

#include <algorithm>

#include "kernels/element/float_bits.hpp"
#include "lib/core/bytes.hpp"

namespace jsq {
namespace {

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
  decode_elements(dtype_, false, stored, decoded);
  sums.nominal_bits += 8 * bytes;
  sums.entropy_bits += 8 * double(bytes);
  // All +0 decodes from nothing at all.
  if (std::all_of(stored, stored + bytes, [](std::byte byte) { return byte == std::byte{0}; }))
    out.resize(before);
}

std::unique_ptr<MethodDecoder> make_dense_decoder(std::string_view name, DType dtype,
                                                  std::string_view parameters, std::string_view what) {
  ByteReader(parameters, what).expect_end();
  return std::make_unique<DenseDecoder>(name, dtype);
}

}  // namespace jsq

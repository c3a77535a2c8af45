#include "lib/collectives/dense.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "lib/core/bytes.hpp"

namespace jsq {
namespace {

class DenseEndpoint final : public Endpoint {
 public:
  DenseEndpoint(DType dtype, const EndpointContext& context, std::span<const float> values)
      : dtype_(dtype), workers_(float(context.workers)), shares_(values.begin(), values.end()) {
    for (float& share : shares_) share /= workers_;
  }
  uint32_t rounds() const override { return 1; }
  std::string message(uint32_t) override {
    overflowed_ = beyond(shares_);
    return encode(shares_);
  }
  uint64_t add(uint32_t, std::string& into, std::string_view from, uint32_t) const override {
    std::vector<float> sum = decode(into);
    const std::vector<float> more = decode(from);
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += more[i];
    into = encode(sum);
    return beyond(sum);
  }
  uint64_t overflowed() const override { return overflowed_; }
  void receive(uint32_t, std::string_view sum) override { sum_ = decode(sum); }
  void mean(std::span<float> out) const override { std::copy(sum_.begin(), sum_.end(), out.begin()); }
  void own(std::span<float> out) const override {
    const std::vector<float> shares = decode(encode(shares_));
    for (size_t i = 0; i < out.size(); ++i) out[i] = shares[i] * workers_;
  }

 private:
  /// How many values the type cuts at its largest number.
  uint64_t beyond(std::span<const float> values) const {
    if (dtype_ == DType::f32) return 0;
    const float largest = dtype_ == DType::f16 ? 0x1.ffcp15f : 0x1.fep127f;
    return uint64_t(
        std::count_if(values.begin(), values.end(), [&](float value) { return std::abs(value) > largest; }));
  }
  std::string encode(std::span<const float> values) const {
    std::string message(values.size() * dtype_bytes(dtype_), 0);
    encode_elements(dtype_, values, reinterpret_cast<std::byte*>(message.data()));
    return message;
  }
  std::vector<float> decode(std::string_view message) const {
    ByteReader in(message, "message of values");
    const std::string_view stored = in.raw(shares_.size() * dtype_bytes(dtype_));
    in.expect_end();
    std::vector<float> values(shares_.size());
    decode_elements(dtype_, false, reinterpret_cast<const std::byte*>(stored.data()), values);
    return values;
  }

  DType dtype_;
  float workers_;
  std::vector<float> shares_, sum_;
  uint64_t overflowed_ = 0;
};

}  // namespace

std::unique_ptr<Endpoint> make_dense_endpoint(DType dtype, const EndpointContext& context,
                                              std::span<const float> values) {
  return std::make_unique<DenseEndpoint>(dtype, context, values);
}

}  // namespace jsq

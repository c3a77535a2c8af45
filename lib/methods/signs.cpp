#include "lib/methods/signs.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/dither.hpp"
#include "kernels/cpu/signs.hpp"
#include "lib/core/bytes.hpp"
#include "lib/methods/passes.hpp"
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
  std::string describe() const override { return std::string(name_); }

 private:
  std::string_view name_;
  float magnitude_ = 0;
};

float mean_magnitude(const TensorPool& pool, size_t t) {
  const uint64_t elements = pool.tensors()[t].info->elements();
  double sum = 0;
  for (double block : per_block(
           pool, t, [](uint64_t, std::span<const float> values) { return cpu::sum_magnitudes(values); }))
    sum += block;
  return elements ? float(sum / double(elements)) : 0.0f;
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

void SignScheme::encode(size_t t, const BlockPlace& place, std::span<const float> values, std::string& out,
                        std::span<float> decoded, BlockSums& sums) const {
  const uint64_t scale_bits = scale_ == SignScale::mean && place.first == 0 ? 32 : 0;
  sums.nominal_bits += values.size() + scale_bits;
  if (cpu::max_magnitude(values) == 0) {
    std::fill(decoded.begin(), decoded.end(), 0.0f);
    return;
  }
  const size_t at = out.size();
  out.resize(at + (values.size() + 7) / 8);
  auto* bytes = reinterpret_cast<uint8_t*>(out.data() + at);
  const size_t negatives = cpu::pack_signs(values, bytes);
  cpu::values_of_signs(bytes, magnitudes_[t], decoded);
  const auto n = double(values.size());
  for (const double count : {n - double(negatives), double(negatives)})
    if (count > 0) sums.entropy_bits += count * std::log2(n / count);
  sums.entropy_bits += double(scale_bits);
}

std::unique_ptr<MethodDecoder> make_sign_decoder(std::string_view name, std::string_view parameters,
                                                 std::string_view what) {
  return std::make_unique<SignDecoder>(name, parameters, what);
}

}  // namespace jsq

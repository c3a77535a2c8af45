// Element types and their conversions: the one place where stored bytes become f32 and f32 becomes stored
// bytes.
#include "jsq/tensor.hpp"

#include <bit>
#include <cstring>

#include "jsq/error.hpp"
#include "kernels/element/float_bits.hpp"

namespace jsq {

static_assert(std::endian::native == std::endian::little, "jsq is written for little-endian machines");

size_t dtype_bytes(DType dtype) noexcept {
  switch (dtype) {
    case DType::f16:
    case DType::bf16:
      return 2;
    case DType::f32:
      return 4;
    case DType::f64:
      return 8;
  }
  return 0;
}

std::string_view dtype_name(DType dtype) noexcept {
  switch (dtype) {
    case DType::f16:
      return "f16";
    case DType::bf16:
      return "bf16";
    case DType::f32:
      return "f32";
    case DType::f64:
      return "f64";
  }
  return "?";
}

DType dtype_from_name(std::string_view name) {
  for (DType dtype : {DType::f16, DType::bf16, DType::f32, DType::f64})
    if (name == dtype_name(dtype)) return dtype;
  throw Error(Errc::unknown_name,
              "element type '" + std::string(name) + "' is unknown; expected f16, bf16, f32 or f64");
}

namespace {

template <class Word, class Convert>
void decode_as(const std::byte* in, bool big_endian, std::span<float> out, Convert convert) {
  for (size_t i = 0; i < out.size(); ++i) {
    Word word;
    std::memcpy(&word, in + i * sizeof(Word), sizeof(Word));
    if (big_endian) {
      if constexpr (sizeof(Word) == 2) word = __builtin_bswap16(word);
      if constexpr (sizeof(Word) == 4) word = __builtin_bswap32(word);
      if constexpr (sizeof(Word) == 8) word = __builtin_bswap64(word);
    }
    out[i] = convert(word);
  }
}

template <class Word, class Convert>
void encode_as(std::span<const float> values, std::byte* out, Convert convert) {
  for (size_t i = 0; i < values.size(); ++i) {
    const Word word = convert(values[i]);
    std::memcpy(out + i * sizeof(Word), &word, sizeof(Word));
  }
}

/// f64 -> f32 with the standard's rounding; out-of-range magnitudes become infinities (a cast alone would be
/// undefined).
float narrow(double value) {
  const double magnitude = __builtin_fabs(value);
  if (magnitude >= 0x1.ffffffp127 && magnitude <= 0x1.fffffffffffffp1023)
    return value < 0 ? -__builtin_inff() : __builtin_inff();
  return static_cast<float>(value);
}

}  // namespace

void decode_elements(DType dtype, bool big_endian, const std::byte* in, std::span<float> out) noexcept {
  switch (dtype) {
    case DType::f16:
      decode_as<uint16_t>(in, big_endian, out, element::f16_to_f32);
      break;
    case DType::bf16:
      decode_as<uint16_t>(in, big_endian, out, element::bf16_to_f32);
      break;
    case DType::f32:
      if (!big_endian && !out.empty()) std::memcpy(out.data(), in, out.size() * sizeof(float));
      if (big_endian) decode_as<uint32_t>(in, true, out, [](uint32_t w) { return std::bit_cast<float>(w); });
      break;
    case DType::f64:
      decode_as<uint64_t>(in, big_endian, out, [](uint64_t w) { return narrow(std::bit_cast<double>(w)); });
      break;
  }
}

void encode_elements(DType dtype, std::span<const float> values, std::byte* out) noexcept {
  switch (dtype) {
    case DType::f16:
      encode_as<uint16_t>(values, out, element::f32_to_f16_saturating);
      break;
    case DType::bf16:
      encode_as<uint16_t>(values, out, element::f32_to_bf16_saturating);
      break;
    case DType::f32:
      if (!values.empty()) std::memcpy(out, values.data(), values.size_bytes());
      break;
    case DType::f64:
      encode_as<double>(values, out, [](float v) { return double(v); });
      break;
  }
}

void swap_element_bytes(std::span<std::byte> data, size_t element_bytes) noexcept {
  for (size_t at = 0; at + element_bytes <= data.size(); at += element_bytes)
    for (size_t lo = 0, hi = element_bytes - 1; lo < hi; ++lo, --hi) std::swap(data[at + lo], data[at + hi]);
}

}  // namespace jsq

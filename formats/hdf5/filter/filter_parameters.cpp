#include "formats/hdf5/filter/filter_parameters.hpp"

#include <fmt/format.h>

namespace jsq::hdf5 {

namespace {

constexpr unsigned mark = 0x1A51534A;  // "JSQ", and a byte that no text holds
constexpr unsigned big_endian_flag = 256;
constexpr unsigned largest_ratio = 1000000;
constexpr uint64_t largest_chunk_bytes = 0xFFFFFFFF;

[[noreturn]] void refuse(const std::string& what) {
  throw Error(Errc::usage, "parameters of the jsq filter: " + what +
                               "; expected none, a ratio, or METHOD and TARGET as text, four bytes a number");
}

std::string text_of(std::span<const unsigned> numbers) {
  std::string text;
  for (unsigned number : numbers)
    for (int byte = 0; byte < 4; ++byte) text += char(number >> (8 * byte) & 0xFF);
  text.resize(text.find_last_not_of('\0') + 1);
  for (char c : text)
    if (c < 0x20 || c > 0x7E) refuse(fmt::format("a byte of text is {:#04x}", static_cast<unsigned char>(c)));
  return text;
}

std::vector<unsigned> numbers_of(const std::string& text) {
  std::vector<unsigned> numbers((text.size() + 3) / 4);
  for (size_t i = 0; i < text.size(); ++i)
    numbers[i / 4] |= unsigned(static_cast<unsigned char>(text[i])) << (8 * (i % 4));
  return numbers;
}

FilterRequest request_of(const std::string& text) {
  const size_t space = text.find(' ');
  FilterRequest request{text.substr(0, space), space == std::string::npos ? "" : text.substr(space + 1)};
  if (request.method.empty()) refuse(fmt::format("there is no method in '{}'", text));
  return request;
}

FilterChunk chunk_of(std::span<const unsigned> numbers) {
  FilterChunk chunk;
  const unsigned dtype = numbers[0] & 0xFF;
  if (dtype < unsigned(DType::f16) || dtype > unsigned(DType::f64) || numbers[0] >= 2 * big_endian_flag)
    refuse(fmt::format("element type {} is unknown", numbers[0]));
  chunk.type = {DType(dtype), numbers[0] >= big_endian_flag};
  for (size_t i = 2; i < numbers.size(); i += 2)
    chunk.shape.push_back(numbers[i] | uint64_t(numbers[i + 1]) << 32);
  if (!chunk.bytes()) refuse("a chunk has more than 4 GiB");
  return chunk;
}

}  // namespace

std::optional<uint64_t> FilterChunk::bytes() const {
  uint64_t product = dtype_bytes(type.dtype);
  for (uint64_t extent : shape) {
    if (extent == 0 || extent > largest_chunk_bytes / product) return std::nullopt;
    product *= extent;
  }
  return product;
}

FilterParameters parse_filter_parameters(std::span<const unsigned> numbers) {
  if (numbers.empty()) return {};
  if (numbers[0] != mark) {
    if (numbers.size() > 1 || numbers[0] > largest_ratio) return {request_of(text_of(numbers)), {}};
    if (numbers[0] == 0) refuse("the ratio is 0");
    return {{"jointsq", fmt::format("ratio={}", numbers[0])}, {}};
  }
  if (numbers.size() < 3 || numbers[2] > H5S_MAX_RANK || numbers.size() < 3 + 2 * size_t(numbers[2]))
    refuse("a data set's are cut off");
  const size_t described = 3 + 2 * size_t(numbers[2]);
  return {request_of(text_of(numbers.subspan(described))), chunk_of(numbers.subspan(1, described - 1))};
}

std::vector<unsigned> filter_parameters_of_data_set(const FilterRequest& request, const FilterChunk& chunk) {
  std::vector<unsigned> numbers = {mark,
                                   unsigned(chunk.type.dtype) + (chunk.type.big_endian ? big_endian_flag : 0),
                                   unsigned(chunk.shape.size())};
  for (uint64_t extent : chunk.shape) {
    numbers.push_back(unsigned(extent));
    numbers.push_back(unsigned(extent >> 32));
  }
  const std::vector<unsigned> text =
      numbers_of(request.target.empty() ? request.method : request.method + " " + request.target);
  numbers.insert(numbers.end(), text.begin(), text.end());
  return numbers;
}

}  // namespace jsq::hdf5

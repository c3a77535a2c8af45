// A plain npy as a source of one tensor, read straight from the map.
#include <fmt/format.h>

#include <atomic>
#include <bit>
#include <cstring>

#include "formats/npy/npy.hpp"
#include "formats/npy/npy_header.hpp"
#include "jsq/error.hpp"

namespace jsq {
namespace {

class NpySource final : public GradientSource {
 public:
  NpySource(MappedFile file, const std::string& name) : file_(std::move(file)) {
    const std::string_view text = file_.text();
    const std::string_view header_text =
        text.substr(0, npy_header_bytes(text.substr(0, npy_prefix_bytes), text.size(), name));
    const NpyHeader header = parse_npy_header(header_text, name);
    check_npy_size(header, text.size(), name);

    TensorInfo tensor{.name = "",
                      .dtype = header.dtype,
                      .big_endian = header.big_endian,
                      .fortran_order = header.fortran_order,
                      .shape = header.shape,
                      .attachment = ""};
    if (canonical_npy_header(tensor) != header_text) tensor.attachment = header_text;
    data_ = file_.bytes().data() + header.header_bytes;
    tensors_.push_back(std::move(tensor));
  }

  const DumpInfo& dump() const override { return dump_; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }

  std::span<const float> read(size_t tensor, uint64_t first, size_t count,
                              std::vector<float>& scratch) const override {
    let_go_behind(first * dtype_bytes(tensors_.at(tensor).dtype));
    return elements_in_memory(tensors_.at(tensor), data_, first, count, scratch);
  }

  void read_stored(size_t tensor, uint64_t first, size_t count, std::byte* out) const override {
    stored_elements_in_memory(tensors_.at(tensor), data_, first, count, out);
  }

 private:
  /// A file read from front to back would otherwise come to count as memory as a whole.
  void let_go_behind(uint64_t offset) const noexcept {
    constexpr uint64_t kept = uint64_t(64) << 20;
    uint64_t from = let_go_to_.load(std::memory_order_relaxed);
    if (offset + kept < from) let_go_to_.store(offset, std::memory_order_relaxed);
    if (offset < from + 2 * kept) return;
    const uint64_t to = offset - kept;
    if (let_go_to_.compare_exchange_strong(from, to))
      file_.let_go(size_t(data_ - file_.bytes().data()) + size_t(from), size_t(to - from));
  }

  MappedFile file_;
  mutable std::atomic<uint64_t> let_go_to_{0};  ///< offset among the elements
  DumpInfo dump_{DumpFormat::npy, ""};
  std::vector<TensorInfo> tensors_;
  const std::byte* data_ = nullptr;
};

}  // namespace

std::unique_ptr<GradientSource> open_npy(MappedFile file, const std::string& name) {
  return std::make_unique<NpySource>(std::move(file), name);
}

void check_element_range(const TensorInfo& tensor, uint64_t first, size_t count) {
  const uint64_t elements = tensor.elements();
  if (first > elements || count > elements - first)
    throw Error(Errc::internal, fmt::format("elements [{}, {} + {}) asked of tensor '{}' of {} elements",
                                            first, first, count, printable(tensor.name), elements));
}

std::span<const float> elements_in_memory(const TensorInfo& tensor, const std::byte* data, uint64_t first,
                                          size_t count, std::vector<float>& scratch) {
  check_element_range(tensor, first, count);
  const std::byte* const start = data + first * dtype_bytes(tensor.dtype);
  const bool usable_in_place = tensor.dtype == DType::f32 && !tensor.big_endian &&
                               std::bit_cast<uintptr_t>(start) % alignof(float) == 0;
  if (usable_in_place) return {reinterpret_cast<const float*>(start), count};
  scratch.resize(count);
  decode_elements(tensor.dtype, tensor.big_endian, start, scratch);
  return scratch;
}

void stored_elements_in_memory(const TensorInfo& tensor, const std::byte* data, uint64_t first, size_t count,
                               std::byte* out) {
  check_element_range(tensor, first, count);
  if (count == 0) return;
  const size_t element_bytes = dtype_bytes(tensor.dtype);
  std::memcpy(out, data + first * element_bytes, count * element_bytes);
  if (tensor.big_endian) swap_element_bytes({out, count * element_bytes}, element_bytes);
}

}  // namespace jsq

// What the fuzz targets share: bytes of a fuzzer taken from the front, an unnamed file made of bytes, and the
// rule of what may come out of a library that was given anything: results, or jsq::Error.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "formats/mapped_file.hpp"
#include "jsq/error.hpp"
#include "jsq/tensor.hpp"

namespace jsq::fuzz {

/// Numbers and texts from the front of an input; zeros and short texts once it runs out.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : left_(reinterpret_cast<const char*>(data), size) {}

  uint8_t byte() {
    if (left_.empty()) return 0;
    const auto value = uint8_t(left_.front());
    left_.remove_prefix(1);
    return value;
  }
  uint16_t u16() {
    const uint16_t low = byte();
    return uint16_t(low | byte() << 8);
  }
  std::string_view text(size_t length) {
    const std::string_view taken = left_.substr(0, length);
    left_.remove_prefix(taken.size());
    return taken;
  }
  std::string_view rest() { return text(left_.size()); }

 private:
  std::string_view left_;
};

/// A tensor of up to four extents of up to 65,535, at most 2^18 elements in all; its name is "t".
inline TensorInfo tensor_of(Input& in) {
  constexpr uint64_t most_elements = uint64_t(1) << 18;
  TensorInfo info;
  info.name = "t";
  info.dtype = DType(1 + in.byte() % 4);
  uint64_t elements = 1;
  const size_t rank = in.byte() % 5;
  for (size_t i = 0; i < rank; ++i) {
    const uint64_t extent = std::min<uint64_t>(in.u16(), most_elements / std::max<uint64_t>(elements, 1));
    info.shape.push_back(extent);
    elements *= extent;
  }
  return info;
}

/// A file in memory that holds `bytes`, by a path that other code can open.
class MemoryFile {
 public:
  explicit MemoryFile(std::string_view bytes) : file_(memfd_create("fuzz", MFD_CLOEXEC)) {
    if (file_.get() < 0 || write_fully(file_.get(), std::as_bytes(std::span(bytes))) != 0) std::abort();
  }
  int descriptor() const { return file_.get(); }
  std::string path() const { return "/proc/self/fd/" + std::to_string(file_.get()); }

 private:
  FileDescriptor file_;
};

/// Runs `use`; jsq::Error is a fine end, but for a bug that names itself. Anything else is a finding.
template <class Use>
void only_errors(Use use) {
  try {
    use();
  } catch (const Error& error) {
    if (error.code() != Errc::internal) return;
    std::fprintf(stderr, "internal error: %s\n", error.what());
    std::abort();
  }
}

/// A promise that does not hold is a finding.
inline void expect(bool holds, const char* promise) {
  if (holds) return;
  std::fprintf(stderr, "broken promise: %s\n", promise);
  std::abort();
}

}  // namespace jsq::fuzz

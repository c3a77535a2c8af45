// The npy header (NumPy's NEP 1, versions 1.0, 2.0 and 3.0): parsing it, and writing it as numpy 1.24 would.
// Only floating element types are read; the dict literal is parsed by a small strict scanner, never
// evaluated.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "jsq/error.hpp"
#include "jsq/tensor.hpp"

namespace jsq {

constexpr std::string_view npy_magic = "\x93NUMPY";

/// A header that is sound but whose element type is not one of jsq's. `found()` says which: "dtype '<i4'".
class UnsupportedDtype : public Error {
 public:
  UnsupportedDtype(const std::string& where, std::string found);
  const std::string& found() const noexcept { return found_; }

 private:
  std::string found_;
};

/// What an npy header says.
struct NpyHeader {
  DType dtype = DType::f32;
  bool big_endian = false;
  bool fortran_order = false;
  std::vector<uint64_t> shape;
  size_t header_bytes = 0;  ///< magic, version, length field and dict: where the data begin
  uint64_t data_bytes = 0;  ///< product of shape x element size, checked against overflow
};

/// Bytes that hold magic, version and length field of any version.
constexpr size_t npy_prefix_bytes = 12;

/// The size of the whole header, from the first bytes of an npy (npy_prefix_bytes of them, or all it has).
/// `total_bytes` is the size of the npy; `where` names it in messages.
/// \throws Error damaged (cut, wrong magic, length beyond the file), unsupported_format (version), limit.
size_t npy_header_bytes(std::string_view first_bytes, uint64_t total_bytes, const std::string& where);

/// Parses a whole header; `header` is exactly its npy_header_bytes().
/// \throws Error damaged, limit (rank); UnsupportedDtype. O(header.size()).
NpyHeader parse_npy_header(std::string_view header, const std::string& where);

/// Refuses an npy whose size is not header plus data.  \throws Error damaged.
void check_npy_size(const NpyHeader& header, uint64_t total_bytes, const std::string& where);

/// The header numpy 1.24 writes: version 1.0, sorted keys, room to grow, padded to 64 bytes.
/// \throws Error unsupported_format (more than 64 dimensions).
std::string canonical_npy_header(const TensorInfo& tensor);

/// The header to write for a tensor: `original` when it says what the tensor says, else the canonical one
/// (the tensor was converted since). An empty `original` means canonical. \throws Error damaged when
/// `original` is no header at all.
std::string npy_header_to_write(const TensorInfo& tensor, std::string_view original);

/// Text from a file, made safe for a message: control characters escaped, cut after 200 bytes.
std::string printable(std::string_view text);

/// True when every byte is below 0x80.
bool is_ascii(std::string_view text) noexcept;

}  // namespace jsq

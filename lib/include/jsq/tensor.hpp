// What a gradient tensor is to jsq: a name, a shape, a stored element type, and values in storage order.
// Values are f32 inside; the stored type is kept and restored.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "jsq/export.hpp"

namespace jsq {

/// Stored element type. The numbers are those of the wire format.
enum class DType : uint8_t { f16 = 1, bf16 = 2, f32 = 3, f64 = 4 };

/// Bytes of one stored element: 2, 2, 4, 8.
JSQ_API size_t dtype_bytes(DType dtype) noexcept;
/// "f16", "bf16", "f32", "f64".
JSQ_API std::string_view dtype_name(DType dtype) noexcept;
/// The reverse of dtype_name.  \throws Error unknown_name.
JSQ_API DType dtype_from_name(std::string_view name);

/// Description of one tensor as its dump stores it.
struct TensorInfo {
  std::string name;             ///< UTF-8; "" is allowed (a plain npy); HDF5: path without the leading '/'
  DType dtype = DType::f32;     ///< element type in the dump
  bool big_endian = false;      ///< byte order in the dump
  bool fortran_order = false;   ///< elements are stored in Fortran order; `shape` stays the logical shape
  std::vector<uint64_t> shape;  ///< logical shape; {} is a scalar of one element
  std::string attachment;  ///< bytes private to the dump's format (HDF5 layout and attributes, npz flags)

  /// Product of `shape` (1 for a scalar).  \pre the product fits 64 bits (sources check it).
  uint64_t elements() const noexcept {
    uint64_t n = 1;
    for (uint64_t extent : shape) n *= extent;
    return n;
  }
  /// elements x dtype_bytes: what a ratio counts as input bytes.
  uint64_t stored_bytes() const noexcept { return elements() * dtype_bytes(dtype); }
};

/// A tensor whose f32 values are at hand: values in storage order, `values.size() == info->elements()`.
struct GradientView {
  const TensorInfo* info = nullptr;
  std::span<const float> values;
};

/// Converts `out.size()` stored elements at `in` (element type `dtype`, byte order as given) to f32.
/// f64 is rounded to nearest even; magnitudes beyond the f32 range become infinities. O(n).
JSQ_API void decode_elements(DType dtype, bool big_endian, const std::byte* in,
                             std::span<float> out) noexcept;
/// Converts f32 values to little-endian stored elements at `out` (values.size() x dtype_bytes bytes).
/// f16 rounds to nearest even and saturates finite values at +-65504; bf16 rounds to nearest even and
/// saturates at its largest finite value. O(n).
JSQ_API void encode_elements(DType dtype, std::span<const float> values, std::byte* out) noexcept;
/// Reverses the bytes of each `element_bytes`-sized element in place.
JSQ_API void swap_element_bytes(std::span<std::byte> data, size_t element_bytes) noexcept;

}  // namespace jsq

// The HDF5 datatypes that are gradients.
#pragma once

#include <optional>

#include "formats/hdf5/hdf5_handle.hpp"
#include "jsq/tensor.hpp"

namespace jsq::hdf5 {

/// Order of the bytes of a number. Neither: VAX order, or a type without one.
bool is_big_endian(hid_t type);
bool has_plain_order(hid_t type);  ///< big- or little-endian

/// Element type and byte order of a gradient.
struct TensorType {
  DType dtype;
  bool big_endian;
};

/// The gradient type that `type` is, bit for bit; nothing for any other type.
std::optional<TensorType> tensor_type(hid_t type);
/// The HDF5 type of a gradient (the library's IEEE types for f32 and f64, derived ones for f16 and bf16).
Handle make_tensor_type(TensorType type);

}  // namespace jsq::hdf5

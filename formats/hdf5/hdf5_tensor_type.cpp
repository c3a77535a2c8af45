// Layouts of the four gradient types.
#include "formats/hdf5/hdf5_tensor_type.hpp"

namespace jsq::hdf5 {

namespace {

/// Layout of a floating type, in bits from its lowest one.
struct FloatLayout {
  size_t bytes, sign, exponent, exponent_bits, mantissa, mantissa_bits, bias;
};

constexpr FloatLayout layout_of(DType dtype) {
  switch (dtype) {
    case DType::f16:
      return {2, 15, 10, 5, 0, 10, 15};
    case DType::bf16:
      return {2, 15, 7, 8, 0, 7, 127};
    case DType::f32:
      return {4, 31, 23, 8, 0, 23, 127};
    case DType::f64:
      break;
  }
  return {8, 63, 52, 11, 0, 52, 1023};
}

}  // namespace

bool is_big_endian(hid_t type) {
  return H5Tget_order(type) == H5T_ORDER_BE;
}
bool has_plain_order(hid_t type) {
  return is_big_endian(type) || H5Tget_order(type) == H5T_ORDER_LE;
}

std::optional<TensorType> tensor_type(hid_t type) {
  if (H5Tget_class(type) != H5T_FLOAT || !has_plain_order(type)) return std::nullopt;
  if (H5Tget_norm(type) != H5T_NORM_IMPLIED || H5Tget_offset(type) != 0) return std::nullopt;
  size_t sign = 0, exponent = 0, exponent_bits = 0, mantissa = 0, mantissa_bits = 0;
  if (H5Tget_fields(type, &sign, &exponent, &exponent_bits, &mantissa, &mantissa_bits) < 0)
    return std::nullopt;
  for (DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
    const FloatLayout want = layout_of(dtype);
    const bool same = H5Tget_size(type) == want.bytes && H5Tget_precision(type) == 8 * want.bytes &&
                      sign == want.sign && exponent == want.exponent && exponent_bits == want.exponent_bits &&
                      mantissa == want.mantissa && mantissa_bits == want.mantissa_bits &&
                      H5Tget_ebias(type) == want.bias;
    if (same) return TensorType{dtype, is_big_endian(type)};
  }
  return std::nullopt;
}

Handle make_tensor_type(TensorType wanted) {
  const Place place{Errc::internal, "HDF5", ""};
  const FloatLayout layout = layout_of(wanted.dtype);
  const hid_t model = layout.bytes == 8 ? H5T_IEEE_F64LE : H5T_IEEE_F32LE;
  Handle type(require(H5Tcopy(model), place, "copy a float type"));
  if (layout.bytes == 2) {
    require(H5Tset_fields(type, layout.sign, layout.exponent, layout.exponent_bits, layout.mantissa,
                          layout.mantissa_bits),
            place, "set the fields of a float type");
    require(H5Tset_precision(type, 8 * layout.bytes), place, "set the precision of a float type");
    require(H5Tset_size(type, layout.bytes), place, "set the size of a float type");
    require(H5Tset_ebias(type, layout.bias), place, "set the bias of a float type");
  }
  require(H5Tset_order(type, wanted.big_endian ? H5T_ORDER_BE : H5T_ORDER_LE), place, "set a byte order");
  return type;
}

}  // namespace jsq::hdf5

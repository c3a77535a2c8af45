// Values as a dump's element type will hold them.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "jsq/tensor.hpp"
#include "kernels/element/float_bits.hpp"

namespace jsq {

/// How values of a dump of this type are stored, as far as decoded values are narrowed by it.
constexpr element::StoredFloat stored_float(DType dtype) {
  return dtype == DType::f16    ? element::StoredFloat::f16
         : dtype == DType::bf16 ? element::StoredFloat::bf16
                                : element::StoredFloat::whole;
}

/// Rounds f32 values to what f16 and bf16 dumps store; others hold them as they are.
inline void round_to_stored(DType dtype, std::span<float> values) {
  if (dtype != DType::f16 && dtype != DType::bf16) return;
  static thread_local std::vector<std::byte> stored;
  stored.resize(values.size() * dtype_bytes(dtype));
  encode_elements(dtype, values, stored.data());
  decode_elements(dtype, false, stored.data(), values);
}

}  // namespace jsq

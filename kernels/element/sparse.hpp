// Which elements a sparse method keeps, and what it expects of random ones: the tests and formulas that the
// processor and a device share.
#pragma once

#include <cstdint>

#include "kernels/element/float_bits.hpp"
#include "kernels/element/hostdevice.hpp"

namespace jsq::element {

/// Elements kept by magnitude: a key above the threshold, or equal to it at a pool index below the cutoff; in
/// both cases only before `end`.
struct MagnitudeCut {
  uint32_t threshold_key = 0;
  uint64_t cutoff = 0;
  uint64_t end = UINT64_MAX;
};
JSQ_HD bool keeps(const MagnitudeCut& cut, uint32_t key, uint64_t pool_index) {
  return key >= cut.threshold_key + (pool_index < cut.cutoff ? 0u : 1u) && pool_index < cut.end;
}

/// Element i of tensor t, with random word w (RandomPurpose::positions), is in the subset when (w, t, i)
/// comes before (word, tensor, element) in lexicographic order.
struct SubsetCut {
  uint32_t word = 0;
  uint32_t tensor = 0;
  uint64_t element = 0;
};
JSQ_HD bool keeps(const SubsetCut& cut, uint32_t word, uint32_t tensor, uint64_t element) {
  if (word != cut.word) return word < cut.word;
  return tensor != cut.tensor ? tensor < cut.tensor : element < cut.element;
}

// Magnitude keys of exact values: the bits of a magnitude in its format.

JSQ_HD uint32_t largest_key(StoredFloat format) {
  return format == StoredFloat::f16 ? 0x7bffu : format == StoredFloat::bf16 ? 0x7f7fu : 0x7f7fffffu;
}
JSQ_HD float value_of_key(StoredFloat format, uint32_t key, bool negative) {
  switch (format) {
    case StoredFloat::f16:
      return f16_to_f32(uint16_t(key | (negative ? 0x8000u : 0u)));
    case StoredFloat::bf16:
      return bf16_to_f32(uint16_t(key | (negative ? 0x8000u : 0u)));
    default:
      return bits_as<float>(key | (negative ? 0x80000000u : 0u));
  }
}

/// Expected squared error of an element that is sent as `sent` with probability `share` and dropped
/// otherwise.
JSQ_HD double random_keep_error(double g, double sent, double share) {
  return share * (sent - g) * (sent - g) + (1 - share) * g * g;
}

}  // namespace jsq::element

// Where the parts of a class block lie and how long its variable-length codes are (SPEC.md, "Class blocks"):
// what encoders and decoders of every processor share. The plan and the quantizers are elsewhere.
#pragma once

#include <cstdint>

#include "kernels/element/bit_length.hpp"
#include "kernels/element/class_plan.hpp"
#include "kernels/element/hostdevice.hpp"
#include "kernels/element/rans.hpp"

namespace jsq::element {

/// How the class of every element is stored. The numbers are those of the wire format.
enum class MapPacker : uint8_t {
  raw = 0,      ///< ceil(log2 classes) bits an element
  bitmap = 1,   ///< one bit an element, then the kept ones' classes as truncated unary codes
  rice = 2,     ///< Golomb-Rice coded gaps between kept elements, each followed by its class
  entropy = 3,  ///< run activities and class tokens through the entropy model
  index32 = 4,  ///< a 32-bit index for each kept element, as published code sends them, followed by its class
  packed = 5,   ///< the same with as many bits an index as the block's elements need
};
constexpr uint32_t map_packers = 6;

/// Class tokens join as many consecutive classes as keep the alphabet within 16: 4, 2 or 1.
JSQ_HD constexpr uint32_t classes_per_token(uint32_t classes) {
  return classes <= 2 ? 4 : classes <= 4 ? 2 : 1;
}
JSQ_HD constexpr uint32_t token_symbols(uint32_t classes) {
  uint32_t symbols = 1;
  for (uint32_t i = 0; i < classes_per_token(classes); ++i) symbols *= classes;
  return symbols;
}

// The coding tables of a block in one row: one for each previous activity, one for the tokens of each
// activity, and one for the magnitudes of each class above 0 in each activity. Every table has
// rans_max_symbols entries.
constexpr uint32_t token_table_offset = max_activity_buckets;
constexpr uint32_t magnitude_table_offset = 2 * max_activity_buckets;
constexpr uint32_t coding_tables = magnitude_table_offset + (max_classes - 1) * max_activity_buckets;
JSQ_HD uint32_t magnitude_table(uint32_t index, uint32_t bucket) {
  return magnitude_table_offset + (index - 1) * max_activity_buckets + bucket;
}
JSQ_HD uint16_t symbol_id(uint32_t table, uint32_t symbol) {
  return uint16_t(table * rans_max_symbols + symbol);
}

/// Bits that a raw map spends on an element.
JSQ_HD uint32_t raw_map_bits(uint32_t classes) {
  return classes <= 1 ? 0 : bit_length(classes - 1);
}
/// Bits that a packed map spends on an index into a block of n elements.
JSQ_HD uint32_t packed_index_bits(uint64_t n) {
  return n <= 1 ? 0 : bit_length(uint32_t(n - 1));
}

/// The Golomb-Rice parameter of a map: the mean gap's magnitude, less one bit where the mantissa is small:
/// within 0.03 bit of the best parameter.
JSQ_HD uint32_t rice_parameter(uint64_t n, uint64_t kept) {
  if (kept == 0) return 0;
  const uint64_t mean = n / kept;
  if (mean <= 1) return 0;
  const uint32_t whole = bit_length(uint32_t(mean)) - 1;
  return (mean << 2) >= (uint64_t(7) << whole)
             ? whole
             : whole - 1 + (mean >= 2 && (mean << 2) >= (uint64_t(5) << whole) ? 1 : 0);
}

/// A variable-length code: the low `length` bits of `bits`.
struct ShortCode {
  uint32_t bits = 0;
  uint32_t length = 0;
};
/// The class of a kept element as truncated unary over the kept classes 1..classes-1: the last one needs no
/// closing zero.
JSQ_HD ShortCode class_code(uint32_t index, uint32_t classes) {
  const uint32_t ones = index - 1;
  return ones + 2 < classes ? ShortCode{((1u << ones) - 1) << 1, ones + 1}
                            : ShortCode{(1u << ones) - 1, ones};
}

}  // namespace jsq::element

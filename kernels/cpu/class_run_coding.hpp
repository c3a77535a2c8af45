// Runs of elements to what is coded of them, by the cell quantizer and tokens of two classes: activities,
// tokens, symbols of the magnitudes and raw bits, without a list of what is kept.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/element/class_plan.hpp"

namespace jsq::cpu {

/// What is known of classes. Class 0 is left out.
struct RunCoding {
  static constexpr size_t most_classes = 4;
  uint32_t classes = 0;                       ///< 3 or 4
  int32_t thresholds[most_classes - 1] = {};  ///< keys from which on an element is in class 1, 2, 3
  float low[most_classes] = {}, divisor[most_classes] = {1, 1, 1, 1},
        last[most_classes] = {};         ///< of the cells; the last index
  uint32_t low_bits[most_classes] = {};  ///< of an index that are not in its symbol; all of them in a plane
  uint8_t raw_mask[most_classes] = {};   ///< 2^(1 + low_bits) - 1 of classes with symbols, 0 of others
  uint8_t plane_mask[most_classes] =
      {};  ///< 2^width - 1 of classes whose code words are in planes, 0 of others
  uint16_t tokens[element::max_activity_buckets] = {};                    ///< ids of token 0, by activity
  uint16_t magnitudes[element::max_activity_buckets][most_classes] = {};  ///< ids of magnitude 0
};

/// What a block's runs are coded as. The lists have room for a symbol of every token and element, and for a
/// byte of every element, and for run_coding_padding of each more.
struct RunSymbols {
  uint8_t* buckets;  ///< of every run
  uint16_t *token_ids, *magnitude_ids;
  char* raw;  ///< bits, padded with zeros
  size_t tokens = 0, magnitudes = 0, raw_bytes = 0;
  char* planes[RunCoding::most_classes] = {};  ///< as raw, of classes that are in planes
  size_t plane_bytes[RunCoding::most_classes] = {};
  uint64_t members[RunCoding::most_classes] = {};  ///< of the classes above 0
};
constexpr size_t run_coding_padding = 32;

/// Whether this SIMD level has this loop.
bool codes_runs();

/// \pre codes_runs()
void code_runs(const RunCoding& with, const float* values, size_t runs, RunSymbols& symbols);

}  // namespace jsq::cpu

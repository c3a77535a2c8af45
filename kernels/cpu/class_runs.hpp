// Runs of elements whose classes come as tokens of two: the tables that the magnitudes of the kept ones are
// coded with, and their values, by the cell quantizer, without a list of what is kept.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/element/class_plan.hpp"

namespace jsq::cpu {

/// What tokens and classes stand for. Class 0 is left out.
struct RunClasses {
  static constexpr size_t tokens = 16, most_classes = 4;
  uint8_t first[tokens] = {}, second[tokens] = {};                   ///< the classes of a token's elements
  uint8_t tables[element::max_activity_buckets][most_classes] = {};  ///< numbers, by activity and class
  /// Bits of a class's raw stream that lie below the sign.
  uint32_t low_bits[most_classes] = {};
  uint8_t raw_mask[most_classes] = {};  ///< 2^(1 + low_bits) - 1, or 0 of classes that do not occur
  float low[most_classes] = {}, step[most_classes] = {}, high[most_classes] = {};  ///< of the cells
};

/// The tokens of a run.
constexpr size_t run_tokens = element::run_length / 2;

/// Bytes that may be written behind a list of tables, or are read behind the symbols and the raw bits.
constexpr size_t runs_padding = 32;

/// Whether this SIMD level has these loops.
bool reads_runs();

/// The tables of the kept elements of all runs whose activity bucket is not 0, from their tokens; how many
/// there are.  \pre reads_runs()
size_t list_run_tables(const RunClasses& classes, const uint8_t* buckets, size_t runs, const uint8_t* tokens,
                       uint8_t* tables);

/// The values of all runs, from the symbols and the raw bits (a sign, then the low bits) of the kept
/// elements. Returns the number of raw bits, or more than `most_bits` as soon as there are not enough of
/// them.  \pre reads_runs()
size_t write_run_values(const RunClasses& classes, const uint8_t* buckets, size_t runs, const uint8_t* tokens,
                        const uint8_t* symbols, const char* raw, size_t most_bits, float* values);

}  // namespace jsq::cpu

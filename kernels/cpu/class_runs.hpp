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
  static constexpr uint32_t most_bits = 4;                           ///< of an element, beside its symbol
  uint8_t first[tokens] = {}, second[tokens] = {};                   ///< the classes of a token's elements
  uint8_t tables[element::max_activity_buckets][most_classes] = {};  ///< numbers, by activity and class
  /// Bits of an element that lie below the sign: those of its index that are not in its symbol, or all of
  /// them where the class has a plane.
  uint32_t low_bits[most_classes] = {};
  /// 2^(1 + low_bits) - 1, of most_bits at most, of classes with symbols, whose bits are in one stream; of
  /// those with planes; both are 0 of classes that do not occur.
  uint8_t raw_mask[most_classes] = {}, plane_mask[most_classes] = {};
  /// The width of the code words of classes with planes of more bits, which have few members; 0 of others.
  uint8_t wide[most_classes] = {};
  bool has_plane(uint32_t j) const { return plane_mask[j] != 0 || wide[j] != 0; }
  bool has_planes() const { return has_plane(1) || has_plane(2) || has_plane(3); }
  float low[most_classes] = {}, step[most_classes] = {}, high[most_classes] = {};  ///< of the cells
};

/// The tokens of a run.
constexpr size_t run_tokens = element::run_length / 2;

/// Bytes that may be written behind a list of tables, or are read behind the symbols and the raw bits.
constexpr size_t runs_padding = 32;

/// Whether this SIMD level has these loops.
bool reads_runs();

/// The tables of the elements with symbols of all runs whose activity bucket is not 0, from their tokens; how
/// many there are. Adds the elements of classes with planes to `in_planes`.  \pre reads_runs()
size_t list_run_tables(const RunClasses& classes, const uint8_t* buckets, size_t runs, const uint8_t* tokens,
                       uint8_t* tables, size_t (&in_planes)[RunClasses::most_classes]);

/// Bits of elements, behind each other, runs_padding bytes behind them; and how many were taken.
struct RunBits {
  const char* bytes = nullptr;
  size_t most = 0, taken = 0;
  const float* values = nullptr;  ///< of the code words of a class that has wide ones
};

/// The values of all runs, from the symbols and the bits of the kept elements: streams[0] has a sign and the
/// low bits of those with symbols, streams[j] the code words of class j where it has a plane. Ends as soon as
/// more bits than there are were taken of one.  \pre reads_runs()
void write_run_values(const RunClasses& classes, const uint8_t* buckets, size_t runs, const uint8_t* tokens,
                      const uint8_t* symbols, RunBits (&streams)[RunClasses::most_classes], float* values);

}  // namespace jsq::cpu

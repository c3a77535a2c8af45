// Passes over elements on their way into contexts: magnitudes of rows, which elements are at or above the
// threshold of their class, and the symbol that a class gives a zero.
#pragma once

#include <cstddef>
#include <cstdint>

namespace jsq::cpu {

/// Sum of a row, |values[i]| in double, in one chain whatever its length: lane l of 16 adds elements l, l +
/// 16, ..., the lanes are folded by halving. The same at every SIMD level.
double row_magnitude(const float* values, size_t count);
/// sums[r] = row_magnitude(values + r length, length) of `rows` rows that lie one after another.  \pre length
/// is a multiple of 16
void row_magnitudes(const float* values, size_t rows, size_t length, double* sums);
/// Like row_magnitude, of the float products |values[i]| weights[i].
double weighted_row_magnitude(const float* values, const float* weights, size_t count);

/// Room that must lie behind the positions that list_above writes.
constexpr size_t list_slack = 16;

/// Lists every i of begin..end - 1 with |values[i]| * scale >= thresholds[classes[i]], ascending; returns how
/// many. A NaN is in no list. \pre end - begin + list_slack positions are writable; thresholds holds 256.
/// The same list at every SIMD level: one multiplication and one comparison an element.
size_t list_above(const float* values, const uint8_t* classes, size_t begin, size_t end, float scale,
                  const float* thresholds, uint32_t* positions);

/// ids[i] = classes[i] << shift.  \pre shift at most 8
void shift_classes(const uint8_t* classes, size_t count, uint32_t shift, uint16_t* ids);

}  // namespace jsq::cpu

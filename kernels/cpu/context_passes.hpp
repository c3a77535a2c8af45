// Passes over elements and their context classes: which elements are at or above the threshold of their
// class, and the symbol that a class gives a zero.
#pragma once

#include <cstddef>
#include <cstdint>

namespace jsq::cpu {

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

// How the elements of a tensor share the indices of one of its axes, for sums of magnitudes by index.
#pragma once

#include <cstdint>

#include "kernels/element/float_bits.hpp"

namespace jsq::element {

/// In storage order, `period` after `period`: `length` neighbours have index 0, the next `length` index 1,
/// ...; the last index has all up to the period's end. Neighbours of one index are cut where chunks of
/// sum_chunk elements of the tensor begin. Each such part is summed in the order of sum_lanes, lanes by the
/// place in the part, and the parts of an index are added in storage order.
struct Axis {
  uint64_t indices = 0, length = 1, period = 1;

  /// Elements of a period that have this index.
  JSQ_HD uint64_t length_of(uint64_t index) const {
    return index + 1 == indices ? period - index * length : length;
  }
};

/// |g|, 0 where g is not finite.
JSQ_HD double finite_magnitude(float g) {
  const uint32_t key = magnitude_key(g);
  return double(magnitude_of_key(key < first_nonfinite_key ? key : 0));
}

}  // namespace jsq::element

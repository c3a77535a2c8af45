// The second look at a chunk: moments about its own mean, and what neighbours have in common, so that a large
// mean cancels nothing. The terms of one element, which every processor adds up in the order of sum_lanes.
#pragma once

#include <cstdint>

#include "kernels/element/float_bits.hpp"
#include "kernels/element/summary.hpp"

namespace jsq::element {

/// Means of a chunk's finite elements and of their magnitudes; 0 without any.
struct ChunkCentres {
  double value = 0, magnitude = 0;
};
JSQ_HD ChunkCentres centres_of(const ChunkSums& sums, uint64_t elements) {
  const double finite = double(elements - sums.nan - sums.positive_infinite - sums.negative_infinite);
  if (finite == 0) return {};
  return {sums.sum / finite, sums.sum_abs / finite};
}

/// Which sum is where.
enum Moment : uint32_t {
  second_moment,  ///< of g less the mean; third and fourth likewise
  third_moment,
  fourth_moment,
  magnitude_sum,  ///< of |g| less the mean magnitude; its squares
  magnitude_squares,
  neighbour_products,  ///< of the same of two finite neighbours: their products, and the sums of each
  neighbour_firsts,
  neighbour_seconds,
  moment_count
};

struct ChunkMoments {
  double of[moment_count] = {};
  uint32_t pairs = 0;         ///< of finite neighbours
  float first = 0, last = 0;  ///< the chunk's first and last element
};

struct MomentTerms {
  double of[moment_count];
  bool paired;
};

/// The terms of element `g` behind `before`. Zeros where g is not finite; no pair where `before` is not.
JSQ_HD MomentTerms moment_terms(float g, float before, const ChunkCentres& centres) {
  const uint32_t key = magnitude_key(g), key_before = magnitude_key(before);
  const bool finite = key < first_nonfinite_key, paired = finite && key_before < first_nonfinite_key;
  const double off = finite ? double(g) - centres.value : 0.0, square = off * off;
  const double second = finite ? double(magnitude_of_key(key)) - centres.magnitude : 0.0;
  const double first = paired ? double(magnitude_of_key(key_before)) - centres.magnitude : 0.0;
  const double behind = paired ? second : 0.0;
  return {{square, square * off, square * square, second, second * second, first * behind, first, behind},
          paired};
}

}  // namespace jsq::element

// What one pass over a tensor needs to turn magnitudes into width classes and class members into code words.
// A plain struct, so that a device can have its own copy.
#pragma once

#include <cstdint>

#include "kernels/element/class_quantizer.hpp"
#include "kernels/element/float_bits.hpp"
#include "kernels/element/hostdevice.hpp"

namespace jsq::element {

constexpr uint32_t max_classes = 9;  ///< widths are a subset of 0..8
constexpr uint32_t run_log2 = 5;     ///< elements are classified in runs of 32
constexpr uint32_t run_length = 1u << run_log2;
constexpr uint32_t max_activity_buckets = 10;  ///< bit lengths 0..9 of an activity of at most 32 x 8

/// Classes 0..classes-1 of ascending width; class 0 is the narrowest (0 bits: dropped, decoded as zero).
/// Element i of magnitude key k is in class j or above when k > threshold[j], or k == threshold[j] and i <
/// cutoff[j].
struct ClassPlan {
  uint32_t classes = 1;
  uint32_t width[max_classes] = {};
  uint32_t threshold[max_classes] = {};  ///< [0] unused
  uint64_t cutoff[max_classes] = {};     ///< element indices count over the whole pool of tensors; [0] unused
  ClassScale scale[max_classes] = {};
  ClassQuantizer quantizer = ClassQuantizer::cell;
  bool stochastic = false;  ///< draw uniforms for mid, offmag and sym; otherwise 0.5 (nearest)
  uint64_t seed = 0;
};

/// The smallest key that puts an element with index `index` into class j or above.
JSQ_HD uint32_t effective_threshold(const ClassPlan& plan, uint32_t j, uint64_t index) {
  return plan.threshold[j] + (index < plan.cutoff[j] ? 0u : 1u);
}

/// Number of bits of `activity`, the sum of the class indices of a run: the run's coding context.
JSQ_HD uint32_t activity_bucket(uint32_t activity) {
  uint32_t bits = 0;
  while (activity) {
    activity >>= 1;
    ++bits;
  }
  return bits;
}

/// Bits of a class member's magnitude index that are entropy-coded; the rest is sent as it is.
JSQ_HD constexpr uint32_t coded_magnitude_bits(uint32_t width) {
  return width <= 1 ? 0 : (width <= 5 ? width - 1 : 4);
}
JSQ_HD constexpr uint32_t raw_magnitude_bits(uint32_t width) {
  return width == 0 ? 0 : width - 1 - coded_magnitude_bits(width);
}

}  // namespace jsq::element

// The common shape of the allocators: a magnitude index and a budget of payload bits in, class sizes out.
// thresholds_of_counts turns class sizes into thresholds, tie cutoffs and class ranges.
#pragma once

#include <cstdint>
#include <vector>

#include "jsq/allocation.hpp"
#include "lib/allocators/magnitude_index.hpp"

namespace jsq {

/// at_least[j] = elements of class j or above; at_least[0] = all. Non-increasing.
using ClassCounts = std::vector<uint64_t>;

/// Payload bits of a state.
uint64_t payload_bits_of(const WidthSet& widths, const ClassCounts& at_least);
/// h' per element of a state, from the index's cells (exact where they are single keys), in units of |g|^2.
double modelled_noise(const WidthSet& widths, const ClassCounts& at_least, const MagnitudeIndex& index);

/// The optimum of the model noise (exact.cpp).
ClassCounts allocate_exact(MagnitudeIndex& index, const WidthSet& widths, uint64_t payload_bits,
                           double first_extra_bits);
/// The threshold rule alone, from the histogram as it is: the multiplier whose payload is nearest to
/// `payload_bits` when cells are filled evenly. Class ranges are the thresholds, sizes are estimates. For
/// populations so large that the integral end does not matter: every such allocation is optimal for the
/// payload that it really takes.
Allocation allocate_by_threshold(MagnitudeIndex& index, const WidthSet& widths, uint64_t payload_bits,
                                 double first_extra_bits);
/// The paper's text: only the first width is ever taken (literal.cpp).
ClassCounts allocate_literal(MagnitudeIndex& index, const WidthSet& widths, uint64_t payload_bits);
/// Thresholds from a sample, trimmed by magnitude (sampled.cpp).
ClassCounts allocate_sampled(MagnitudeIndex& index, const WidthSet& widths, uint64_t payload_bits,
                             double sample_ratio, uint64_t seed);
/// JointSQ's reallocation with adaptive R (reallocation.cpp).
ClassCounts reallocate(MagnitudeIndex& index, const WidthSet& widths, ClassCounts start,
                       ReallocationKind kind, uint32_t rounds, std::vector<ReallocationStep>* log);

/// All of the above as `options` say. \throws Error unreachable_target, usage.
Allocation allocate(MagnitudeIndex& index, const WidthSet& widths, uint64_t payload_bits,
                    const AllocationOptions& options, std::vector<ReallocationStep>* log = nullptr);

/// Thresholds, cutoffs and class ranges of a state.
Allocation thresholds_of_counts(MagnitudeIndex& index, const WidthSet& widths, const ClassCounts& at_least);

}  // namespace jsq

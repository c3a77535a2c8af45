// Products of rdoq's matrices with a few columns where the pool is on a device: the sums of line_source.hpp.
#pragma once

#include "kernels/cpu/thin_products.hpp"
#include "kernels/cuda/low_rank.hpp"
#include "lib/core/pool.hpp"

namespace jsq {

/// Of longer lines the device adds panels of its own.
constexpr size_t most_device_columns = 65536;

/// One dot product for each line. Thread-safe.  \throws Error backend_unavailable
void lines_times_on_device(const TensorPool& pool, const cuda::StoredRuns& lines,
                           cpu::ThinFactor<const float> factor, cpu::ThinFactor<double> sums);
/// All lines weighted, in order. Thread-safe.  \throws Error backend_unavailable
void weighted_lines_on_device(const TensorPool& pool, const cuda::StoredRuns& lines,
                              cpu::ThinFactor<const float> weights, cpu::ThinFactor<double> sums);

}  // namespace jsq

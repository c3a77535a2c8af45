// Products of rdoq's matrices, and of lines of its kernels, with a few columns where the pool is on a device:
// the sums of line_source.hpp.
#pragma once

#include "kernels/cpu/thin_products.hpp"
#include "kernels/cuda/kernel_lines.hpp"
#include "kernels/cuda/low_rank.hpp"
#include "lib/core/pool.hpp"

namespace jsq {

/// Of longer lines the device adds panels of its own.
constexpr size_t most_device_columns = 65536;

/// Lines of kernels on the device; none where they do not fit. Thread-safe.  \throws Error
/// backend_unavailable
cuda::KernelLines kernel_lines_on_device(const TensorPool& pool, const cuda::KernelRows& kernels);

/// One dot product for each line: of kernels, where there are any, else of the pool's. Thread-safe.  \throws
/// Error backend_unavailable
void lines_times_on_device(const TensorPool& pool, const cuda::KernelLines& kernels,
                           const cuda::StoredRuns& lines, cpu::ThinFactor<const float> factor,
                           cpu::ThinFactor<double> sums);
/// All lines weighted, in order. Thread-safe.  \throws Error backend_unavailable
void weighted_lines_on_device(const TensorPool& pool, const cuda::KernelLines& kernels,
                              const cuda::StoredRuns& lines, cpu::ThinFactor<const float> weights,
                              cpu::ThinFactor<double> sums);

}  // namespace jsq

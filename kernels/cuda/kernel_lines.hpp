// Convolution kernels as lines of numbers that neighbours in memory have the same place in, transformed or
// not: what the low-rank predictions of rdoq multiply with thin factors. Beside device.hpp, so that only they
// see it.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "kernels/cuda/device.hpp"

namespace jsq::cuda {

/// An axis of a kernel: `extent` places `stride` apart, and the table B[u][i] of its transform, in 1/2^16.
struct KernelAxis {
  uint32_t extent = 1, stride = 1;
  std::span<const int32_t> table;
};

/// Rows of kernels in a tensor of a pool, `size` numbers each, as they are stored.
struct KernelRows {
  size_t tensor = 0;
  uint64_t first = 0;  ///< element at which they begin
  uint64_t rows = 0, columns = 0;
  uint32_t size = 1;
  std::vector<KernelAxis> axes;  ///< of the transform, the first one first; none: the numbers themselves
};

/// Line size r + k has number k of the kernels of row r, as tensor 0 of a pool of its own.
struct KernelLines {
  std::shared_ptr<void> memory;
  std::unique_ptr<PoolValues> values;
};
/// Numbers are those of kernels/cpu/kernel_planes.hpp. Nothing where the tensor or the lines do not stay on
/// the device whole.  \throws DeviceError
KernelLines kernel_lines(PoolValues& pool, const KernelRows& kernels);

}  // namespace jsq::cuda

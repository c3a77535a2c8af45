// Launches of the kernels of dense blocks. For files of this folder only.
#pragma once

#include "kernels/cuda/class_encode.hpp"
#include "kernels/cuda/dense.hpp"

namespace jsq::cuda {

/// Codes block i to out + first[i] x bytes of an element. All pointers on the device.
void launch_dense_encode(DenseFormat format, const BlockView* blocks, uint32_t count, const uint64_t* first,
                         void* out, DenseSums* sums, const Stream& stream);

}  // namespace jsq::cuda

// What a decoder hands over goes where its caller wants it. For files of this folder only.
#pragma once

#include "kernels/cuda/memory.hpp"

namespace jsq::cuda {

/// Copies to host memory or the device's: `to` tells which.
template <class T>
void copy_out(T* to, const T* device, size_t count, const Stream& stream) {
  if (count > 0)
    check(cudaMemcpyAsync(to, device, count * sizeof(T), cudaMemcpyDefault, stream), "copying values");
}

}  // namespace jsq::cuda

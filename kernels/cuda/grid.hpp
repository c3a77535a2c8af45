// How large grids are: as many blocks as the device holds at once, so that none waits while others look for
// work. For files of this folder only.
#pragma once

#include <algorithm>

#include "kernels/cuda/memory.hpp"

namespace jsq::cuda {

inline uint64_t device_attribute(cudaDeviceAttr attribute) {
  int device = 0, value = 0;
  check(cudaGetDevice(&device), "asking for the device");
  check(cudaDeviceGetAttribute(&value, attribute, device), "asking for the device");
  return uint64_t(value);
}

/// Blocks of a kernel whose blocks go on with the next piece of work: at most `wanted`. The kernel may then
/// have as much shared memory beside its own.
template <class Kernel>
uint32_t blocks_at_once(Kernel kernel, uint32_t threads, size_t shared_bytes, uint64_t wanted) {
  if (shared_bytes > 0)
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared_bytes)),
          "asking for shared memory");
  int of_processor = 0;
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&of_processor, kernel, int(threads), shared_bytes),
        "asking for room on the device");
  const uint64_t all = uint64_t(std::max(of_processor, 1)) * device_attribute(cudaDevAttrMultiProcessorCount);
  return uint32_t(std::min(all, wanted));
}

}  // namespace jsq::cuda

// What launches ask of the device: grids of as many blocks as it holds at once, so that none waits while
// others look for work, and shared memory. For files of this folder only.
#pragma once

#include <algorithm>
#include <map>
#include <mutex>

#include "kernels/cuda/memory.hpp"

namespace jsq::cuda {

inline uint64_t device_attribute(cudaDeviceAttr attribute) {
  int device = 0, value = 0;
  check(cudaGetDevice(&device), "asking for the device");
  check(cudaDeviceGetAttribute(&value, attribute, device), "asking for the device");
  return uint64_t(value);
}

/// Lets launches of a kernel have so much shared memory beside its own. What they were let before stays:
/// other threads may be about to launch it.
template <class Kernel>
void allow_shared(Kernel kernel, size_t bytes) {
  static std::mutex mutex;
  static std::map<Kernel, size_t> allowed;
  const std::lock_guard lock(mutex);
  size_t& most = allowed[kernel];
  if (bytes <= most) return;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes)),
        "asking for shared memory");
  most = bytes;
}

/// Blocks of a kernel whose blocks go on with the next piece of work: at most `wanted`. The kernel may then
/// have as much shared memory beside its own.
template <class Kernel>
uint32_t blocks_at_once(Kernel kernel, uint32_t threads, size_t shared_bytes, uint64_t wanted) {
  allow_shared(kernel, shared_bytes);
  int of_processor = 0;
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&of_processor, kernel, int(threads), shared_bytes),
        "asking for room on the device");
  const uint64_t all = uint64_t(std::max(of_processor, 1)) * device_attribute(cudaDevAttrMultiProcessorCount);
  return uint32_t(std::min(all, wanted));
}

}  // namespace jsq::cuda

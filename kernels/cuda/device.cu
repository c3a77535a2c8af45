// The probe behind `jsq doctor`. The runtime is linked statically, so that a program starts where there is no
// driver.
#include "kernels/cuda/device.hpp"

#include <cuda_runtime_api.h>

namespace jsq::cuda {

namespace {

DeviceProbe ask() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) return {false, std::string("no usable device: ") + cudaGetErrorString(status)};
  if (count == 0) return {false, "the driver lists no device"};
  cudaDeviceProp properties{};
  if (cudaGetDeviceProperties(&properties, 0) != cudaSuccess) return {false, "device 0 does not answer"};
  return {true, std::string(properties.name) + ", compute capability " + std::to_string(properties.major) +
                    "." + std::to_string(properties.minor)};
}

}  // namespace

DeviceProbe probe_device() {
  static const DeviceProbe probe = ask();
  return probe;
}

}  // namespace jsq::cuda

// Whether an operation runs on a device, and what its failures are called.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>

#include "jsq/backend.hpp"
#include "jsq/error.hpp"
#include "kernels/cuda/device.hpp"

namespace jsq {

/// Elements from which on `auto` codes on the device: below, starting it and copying costs more than it
/// gains.
constexpr uint64_t device_pays_from = uint64_t(1) << 22;

/// Whether `elements` elements of this method are coded on the device. `backends`: where the method runs
/// (MethodInfo::backends).  \throws Error backend_unavailable: cuda was asked for, and the machine or the
/// method cannot.
bool codes_on_device(Backend backend, std::string_view method, std::string_view backends, uint64_t elements);

/// Whether this method is decoded on the device: where that is asked for, since to bring values to the host
/// takes longer than to decode them there. \throws Error as codes_on_device().
bool decodes_on_device(Backend backend, std::string_view method, std::string_view backends);

/// work(), with failures of the device as Error backend_unavailable.
template <class Work>
decltype(auto) on_device(Work&& work) {
  try {
    return std::forward<Work>(work)();
  } catch (const cuda::DeviceError& error) {
    throw Error(Errc::backend_unavailable,
                std::string("the CUDA device cannot go on: ") + error.what() + "; use --backend cpu");
  }
}

}  // namespace jsq

// Is there a CUDA device that jsq could run on, and if not, why not.
#pragma once

#include <string>

namespace jsq::cuda {

struct DeviceProbe {
  bool found = false;
  std::string detail;  ///< the device's name and capability, or the reason there is none
};

/// Asks the CUDA runtime once; never throws.
DeviceProbe probe_device();

}  // namespace jsq::cuda

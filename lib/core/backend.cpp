// The ordered table of backends and their probes.
#include "jsq/backend.hpp"

#include "jsq/error.hpp"
#if JSQ_WITH_CUDA
#include "kernels/cuda/device.hpp"
#endif

namespace jsq {

std::vector<BackendInfo> backends() {
  std::vector<BackendInfo> all;
  all.push_back({"cpu", true, "always usable"});
#if JSQ_WITH_CUDA
  const cuda::DeviceProbe probe = cuda::probe_device();
  // The device is looked for, but this version has no method that runs on it.
  all.push_back({"cuda", false, probe.found ? probe.detail + "; no method of this version runs on it" : probe.detail});
#else
  all.push_back({"cuda", false, "this build has no CUDA support (built without nvcc, or with JSQ_CUDA=OFF)"});
#endif
  return all;
}

void require_backend(std::string_view name) {
  if (name == "auto") return;
  for (const BackendInfo& backend : backends()) {
    if (backend.name != name) continue;
    if (backend.usable) return;
    throw Error(Errc::backend_unavailable, "backend '" + backend.name + "' cannot be used: " + backend.detail +
                                               "; use --backend cpu or auto");
  }
  throw Error(Errc::unknown_name, "backend '" + std::string(name) + "' is unknown; expected auto, cpu or cuda");
}

}  // namespace jsq

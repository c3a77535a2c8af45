// The ordered table of backends and their probes.
#include "jsq/backend.hpp"

#include "jsq/error.hpp"
#include "kernels/cuda/device.hpp"

namespace jsq {

std::vector<BackendInfo> backends() {
  const cuda::DeviceProbe probe = cuda::probe_device();
  return {{"cpu", true, "always usable"}, {"cuda", probe.found, probe.detail}};
}

Backend backend_named(std::string_view name) {
  if (name == "auto") return Backend::automatic;
  if (name == "cpu") return Backend::cpu;
  if (name == "cuda") return Backend::cuda;
  throw Error(Errc::unknown_name,
              "backend '" + std::string(name) + "' is unknown; expected auto, cpu or cuda");
}

void require_backend(std::string_view name) {
  if (backend_named(name) == Backend::automatic) return;
  for (const BackendInfo& backend : backends())
    if (backend.name == name && !backend.usable)
      throw Error(Errc::backend_unavailable, "backend '" + backend.name + "' cannot be used: " +
                                                 backend.detail + "; use --backend cpu or auto");
}

}  // namespace jsq

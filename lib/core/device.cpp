#include "lib/core/device.hpp"

#include <string>

namespace jsq {

bool runs_on_device(Backend backend, DeviceWork work, std::string_view method, std::string_view backends,
                    uint64_t elements) {
  const std::string_view where = backends.substr(0, backends.find(':'));
  const auto says = [&](std::string_view words) { return where.find(words) != std::string_view::npos; };
  const bool has_path = says("cuda") && !(work == DeviceWork::compress && says("cpu only to compress"));
  if (backend == Backend::cuda) {
    require_backend("cuda");
    if (!has_path)
      throw Error(Errc::backend_unavailable, "backend 'cuda' cannot be used: " + std::string(method) +
                                                 " is " + std::string(backends) +
                                                 "; use --backend cpu or auto");
    return true;
  }
  return backend == Backend::automatic && has_path && elements >= device_pays_from &&
         cuda::probe_device().found;
}

}  // namespace jsq

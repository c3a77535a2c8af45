#include "lib/core/device.hpp"

#include <string>

namespace jsq {

bool runs_on_device(Backend backend, DeviceWork work, std::string_view method, std::string_view backends,
                    uint64_t elements) {
  const std::string_view where = backends.substr(0, backends.find(':'));
  const bool has_path = where.find("cuda") != std::string_view::npos;
  if (backend == Backend::cuda) {
    require_backend("cuda");
    if (!has_path)
      throw Error(Errc::backend_unavailable, "backend 'cuda' cannot be used: " + std::string(method) +
                                                 " is " + std::string(backends) +
                                                 "; use --backend cpu or auto");
    return true;
  }
  // Behind the colon is what stays on the processor.
  const bool pays = work == DeviceWork::decompress || where == backends;
  return backend == Backend::automatic && has_path && pays && elements >= device_pays_from &&
         cuda::probe_device().found;
}

}  // namespace jsq

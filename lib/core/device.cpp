#include "lib/core/device.hpp"

#include <string>

namespace jsq {

namespace {

/// Whether a method has a path on the device. Behind a colon is what stays on the processor.
bool has_path(std::string_view backends) {
  return backends.substr(0, backends.find(':')).find("cuda") != std::string_view::npos;
}

/// \throws Error backend_unavailable.
void require_path(std::string_view method, std::string_view backends) {
  require_backend("cuda");
  if (!has_path(backends))
    throw Error(Errc::backend_unavailable, "backend 'cuda' cannot be used: " + std::string(method) + " is " +
                                               std::string(backends) + "; use --backend cpu or auto");
}

}  // namespace

bool codes_on_device(Backend backend, std::string_view method, std::string_view backends, uint64_t elements) {
  if (backend == Backend::cuda) require_path(method, backends);
  const bool pays = has_path(backends) && backends.find(':') == std::string_view::npos;
  return backend == Backend::cuda || (backend == Backend::automatic && pays && elements >= device_pays_from &&
                                      cuda::probe_device().found);
}

bool decodes_on_device(Backend backend, std::string_view method, std::string_view backends) {
  if (backend == Backend::cuda) require_path(method, backends);
  return backend == Backend::cuda;
}

}  // namespace jsq

// Backends: who runs the primitives. Asked for by name and unusable is an error with the reason, never
// another backend.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "jsq/export.hpp"

namespace jsq {

struct BackendInfo {
  std::string name;  ///< "cpu", "cuda"
  bool usable = false;
  std::string detail;  ///< what it is, or why it is unusable
};
JSQ_API std::vector<BackendInfo> backends();

/// Who runs the primitives of an operation.
enum class Backend : uint8_t {
  automatic,  ///< cuda where a device is usable, the method runs there and there is enough to do; else cpu
  cpu,
  cuda,  ///< an error with the reason where it cannot be
};
/// \throws Error unknown_name.
JSQ_API Backend backend_named(std::string_view name);

/// Returns for "auto" and every usable backend.  \throws Error backend_unavailable with the reason;
/// unknown_name.
JSQ_API void require_backend(std::string_view name);

}  // namespace jsq

// The one place that knows the version at run time.
#include "jsq/doctor.hpp"

namespace jsq {

const char* version() noexcept {
  return JSQ_VERSION;
}

}  // namespace jsq

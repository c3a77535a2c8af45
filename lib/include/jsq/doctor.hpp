// What this build is made of and what it can use here.
#pragma once

#include <string>
#include <vector>

#include "jsq/export.hpp"

namespace jsq {

struct DoctorLine {
  std::string area;  ///< "build", "library", "backend", "simd", "hdf5 filter"
  std::string name;
  bool ok = true;
  std::string detail;  ///< version, or why it is unusable
};
JSQ_API std::vector<DoctorLine> doctor();

/// "0.1.0"
JSQ_API const char* version() noexcept;

}  // namespace jsq

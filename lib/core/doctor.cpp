#include "jsq/doctor.hpp"

#include <fmt/core.h>
#include <tbb/version.h>
#include <xxhash.h>
#include <zstd.h>

#include "jsq/backend.hpp"
#include "kernels/cpu/simd.hpp"

namespace jsq {

const char* version() noexcept { return JSQ_VERSION; }

std::vector<DoctorLine> doctor() {
  std::vector<DoctorLine> lines;
  lines.push_back({"build", "jsq", true, JSQ_VERSION});
  lines.push_back({"build", "compiler", true, __VERSION__});
#ifdef NDEBUG
  lines.push_back({"build", "assertions", true, "off (optimised build)"});
#else
  lines.push_back({"build", "assertions", true, "on (not a Release build: slow)"});
#endif
  lines.push_back({"library", "zstd", true, ZSTD_versionString()});
  lines.push_back({"library", "xxHash", true, fmt::format("{}.{}.{}", XXH_VERSION_MAJOR, XXH_VERSION_MINOR, XXH_VERSION_RELEASE)});
  lines.push_back({"library", "oneTBB", true, TBB_runtime_version()});
  lines.push_back({"library", "fmt", true, fmt::format("{}.{}.{}", FMT_VERSION / 10000, FMT_VERSION / 100 % 100, FMT_VERSION % 100)});
  for (const cpu::SimdLevel& level : cpu::simd_levels()) lines.push_back({"simd", level.name, level.usable, level.usable ? "usable" : "not on this processor"});
  for (const BackendInfo& backend : backends()) lines.push_back({"backend", backend.name, backend.usable, backend.detail});
  return lines;
}

}  // namespace jsq

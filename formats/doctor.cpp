// What the library is made of and can use here. It lives beside the formats, since only they know HDF5 and
// libzip.
#include "jsq/doctor.hpp"

#include <fmt/core.h>
#include <hwy/highway.h>
#include <tbb/version.h>
#include <xxhash.h>
#include <zip.h>
#include <zstd.h>

#include <utility>

#include "formats/hdf5/hdf5.hpp"
#include "jsq/backend.hpp"
#include "jsq/error.hpp"
#include "kernels/cpu/simd.hpp"

namespace jsq {
namespace {

void add_build(std::vector<DoctorLine>& lines) {
  lines.push_back({"build", "jsq", true, version()});
  lines.push_back({"build", "compiler", true, __VERSION__});
#ifdef NDEBUG
  lines.push_back({"build", "assertions", true, "off (optimised build)"});
#else
  lines.push_back({"build", "assertions", true, "on (not a Release build: slow)"});
#endif
}

void add_libraries(std::vector<DoctorLine>& lines) {
  const auto add = [&](const char* name, std::string detail) {
    lines.push_back({"library", name, true, std::move(detail)});
  };
  add("libzip", zip_libzip_version());
  add("zstd", ZSTD_versionString());
  add("xxHash", fmt::format("{}.{}.{}", XXH_VERSION_MAJOR, XXH_VERSION_MINOR, XXH_VERSION_RELEASE));
  add("oneTBB", TBB_runtime_version());
  add("Highway", fmt::format("{}.{}.{}", HWY_MAJOR, HWY_MINOR, HWY_PATCH));
  add("fmt", fmt::format("{}.{}.{}", FMT_VERSION / 10000, FMT_VERSION / 100 % 100, FMT_VERSION % 100));
}

/// HDF5 is looked at by the module that uses it.
void add_hdf5(std::vector<DoctorLine>& lines) {
  try {
    for (DoctorLine& line : hdf5_functions().examine()) lines.push_back(std::move(line));
  } catch (const Error& error) {
    lines.push_back({"library", "HDF5", false, error.what()});
  }
}

}  // namespace

std::vector<DoctorLine> doctor() {
  std::vector<DoctorLine> lines;
  add_build(lines);
  add_libraries(lines);
  add_hdf5(lines);
  for (const cpu::SimdLevel& level : cpu::simd_levels())
    lines.push_back({"simd", level.name, level.usable, level.usable ? "usable" : "not on this processor"});
  for (const BackendInfo& backend : backends())
    lines.push_back({"backend", backend.name, backend.usable, backend.detail});
  return lines;
}

}  // namespace jsq

// What the library is made of and can use here. It lives beside the formats, since only they know HDF5 and
// libzip.
#include "jsq/doctor.hpp"

#include <fmt/core.h>
#include <hdf5.h>
#include <hwy/highway.h>
#include <tbb/version.h>
#include <xxhash.h>
#include <zip.h>
#include <zstd.h>

#include <array>
#include <utility>

#include "jsq/backend.hpp"
#include "kernels/cpu/simd.hpp"

namespace jsq {
namespace {

/// The filters that jsq accepts in HDF5 dumps.
constexpr std::array<std::pair<const char*, H5Z_filter_t>, 3> hdf5_filters = {
    {{"deflate", H5Z_FILTER_DEFLATE},
     {"shuffle", H5Z_FILTER_SHUFFLE},
     {"fletcher32", H5Z_FILTER_FLETCHER32}}};

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
  unsigned major = 0, minor = 0, release = 0;
  H5get_libversion(&major, &minor, &release);
  add("HDF5", fmt::format("{}.{}.{}", major, minor, release));
  add("libzip", zip_libzip_version());
  add("zstd", ZSTD_versionString());
  add("xxHash", fmt::format("{}.{}.{}", XXH_VERSION_MAJOR, XXH_VERSION_MINOR, XXH_VERSION_RELEASE));
  add("oneTBB", TBB_runtime_version());
  add("Highway", fmt::format("{}.{}.{}", HWY_MAJOR, HWY_MINOR, HWY_PATCH));
  add("fmt", fmt::format("{}.{}.{}", FMT_VERSION / 10000, FMT_VERSION / 100 % 100, FMT_VERSION % 100));
}

void add_hdf5_filters(std::vector<DoctorLine>& lines) {
  for (const auto& [name, filter] : hdf5_filters) {
    const bool there = H5Zfilter_avail(filter) > 0;
    lines.push_back(
        {"hdf5 filter", name, there, there ? "usable" : "the HDF5 library here was built without it"});
  }
}

}  // namespace

std::vector<DoctorLine> doctor() {
  std::vector<DoctorLine> lines;
  add_build(lines);
  add_libraries(lines);
  add_hdf5_filters(lines);
  for (const cpu::SimdLevel& level : cpu::simd_levels())
    lines.push_back({"simd", level.name, level.usable, level.usable ? "usable" : "not on this processor"});
  for (const BackendInfo& backend : backends())
    lines.push_back({"backend", backend.name, backend.usable, backend.detail});
  return lines;
}

}  // namespace jsq

// The table of what HDF5 dumps offer to the rest of jsq, and what of the HDF5 library is usable here.
#include <fmt/format.h>
#include <hdf5.h>

#include <array>
#include <utility>

#include "formats/hdf5/hdf5.hpp"

namespace jsq {
namespace {

/// The filters that jsq accepts in HDF5 dumps.
constexpr std::array<std::pair<const char*, H5Z_filter_t>, 3> hdf5_filters = {
    {{"deflate", H5Z_FILTER_DEFLATE},
     {"shuffle", H5Z_FILTER_SHUFFLE},
     {"fletcher32", H5Z_FILTER_FLETCHER32}}};

}  // namespace

std::vector<DoctorLine> examine_hdf5() {
  unsigned major = 0, minor = 0, release = 0;
  H5get_libversion(&major, &minor, &release);
  std::vector<DoctorLine> lines = {{"library", "HDF5", true, fmt::format("{}.{}.{}", major, minor, release)}};
  for (const auto& [name, filter] : hdf5_filters) {
    const bool there = H5Zfilter_avail(filter) > 0;
    lines.push_back(
        {"hdf5 filter", name, there, there ? "usable" : "the HDF5 library here was built without it"});
  }
  return lines;
}

const Hdf5Functions& hdf5_functions() {
  static constexpr Hdf5Functions functions = {JSQ_VERSION, open_hdf5, create_hdf5, read_hdf5_layers,
                                              examine_hdf5};
  return functions;
}

}  // namespace jsq

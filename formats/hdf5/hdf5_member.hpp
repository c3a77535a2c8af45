// Links of a group, and the way from a user's "/group/dataset" to the object it names.
// A member is found link by link through hard links; what stands in the way is named, with near names.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "formats/hdf5/hdf5_handle.hpp"

namespace jsq::hdf5 {

struct LinkName {
  std::string name;
  H5L_type_t type = H5L_TYPE_ERROR;
  int64_t creation_order = 0;  ///< meaningful where the group tracks it
};
/// The links of `group` by increasing name.  \throws Error as `place` says.
std::vector<LinkName> list_links(hid_t group, const Place& place);
std::string soft_link_target(hid_t group, const std::string& name, const Place& place);

struct Member {
  Handle object;
  std::string path;  ///< without leading '/', without empty components; "" is the root
};
/// The group or dataset that `member` names in `file`.
/// \throws Error unknown_name (with near names), unsupported_dtype (a field of a compound dataset).
Member find_member(hid_t file, const std::string& file_name, const std::string& member);

}  // namespace jsq::hdf5

// Links and members; see hdf5_member.hpp.
#include "formats/hdf5/hdf5_member.hpp"

#include <algorithm>
#include <string_view>

#include "formats/hdf5/hdf5_type.hpp"

namespace jsq::hdf5 {

namespace {

constexpr size_t names_told = 5;

/// Called by HDF5 for each link; must not throw through it.
extern "C" herr_t collect_link(hid_t, const char* name, const H5L_info_t* info, void* links) noexcept {
  try {
    static_cast<std::vector<LinkName>*>(links)->push_back(
        {name, info->type, info->corder_valid ? info->corder : int64_t(0)});
    return 0;
  } catch (...) {
    return -1;
  }
}

std::vector<std::string> components(std::string_view path) {
  std::vector<std::string> parts;
  for (size_t from = 0; from < path.size();) {
    const size_t slash = std::min(path.find('/', from), path.size());
    if (slash > from) parts.emplace_back(path.substr(from, slash - from));
    from = slash + 1;
  }
  return parts;
}

/// Levenshtein's distance, to order suggestions. Names are cut to 64 bytes. O(64^2) at most.
size_t edit_distance(std::string_view a, std::string_view b) {
  a = a.substr(0, 64);
  b = b.substr(0, 64);
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j < row.size(); ++j) row[j] = j;
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

std::string near_names(const std::vector<LinkName>& links, const std::string& wanted) {
  if (links.empty()) return "it is empty";
  std::vector<std::pair<size_t, std::string>> ranked;
  for (const LinkName& link : links) ranked.emplace_back(edit_distance(link.name, wanted), link.name);
  const size_t told = std::min(names_told, ranked.size());
  std::partial_sort(ranked.begin(), ranked.begin() + std::ptrdiff_t(told), ranked.end());
  std::string text = ranked.size() > told
                         ? "the nearest of its " + std::to_string(ranked.size()) + " names are "
                         : "its names are ";
  for (size_t i = 0; i < told; ++i) text += (i > 0 ? ", '" : "'") + printable(ranked[i].second) + "'";
  return text;
}

const LinkName* find_link(const std::vector<LinkName>& links, const std::string& name) {
  const auto found =
      std::find_if(links.begin(), links.end(), [&](const LinkName& link) { return link.name == name; });
  return found == links.end() ? nullptr : &*found;
}

[[noreturn]] void refuse_step(const Place& place, hid_t object, const std::string& name) {
  if (H5Iget_type(object) == H5I_DATASET) {
    const Handle type(H5Dget_type(object));
    if (H5Tget_class(type) == H5T_COMPOUND && H5Tget_member_index(type, name.c_str()) >= 0)
      throw Error(Errc::unsupported_dtype, name_of(place) + ": '" + printable(name) +
                                               "' is a field of a compound "
                                               "dataset; jsq reads whole datasets of floats only");
  }
  throw Error(Errc::unknown_name,
              name_of(place) + ": is not a group, so there is no '" + printable(name) + "' in it");
}

Handle step_into(hid_t group, const Place& place, const std::string& name) {
  const std::vector<LinkName> links = list_links(group, place);
  const LinkName* link = find_link(links, name);
  if (link == nullptr)
    throw Error(Errc::unknown_name,
                name_of(place) + ": there is no '" + printable(name) + "' in it; " + near_names(links, name));
  if (link->type == H5L_TYPE_SOFT)
    throw Error(Errc::unknown_name, name_of(place) + ": '" + printable(name) +
                                        "' is a soft link; name its target '" +
                                        printable(soft_link_target(group, name, place)) + "' instead");
  if (link->type != H5L_TYPE_HARD)
    throw Error(Errc::unsupported_format,
                name_of(place) + ": '" + printable(name) +
                    "' is an external or user-defined "
                    "link, which jsq does not follow; open the other file by itself");
  return Handle(
      require(H5Oopen(group, name.c_str(), H5P_DEFAULT), place, "open '" + printable(name) + "' in it"));
}

}  // namespace

std::vector<LinkName> list_links(hid_t group, const Place& place) {
  std::vector<LinkName> links;
  require(H5Literate(group, H5_INDEX_NAME, H5_ITER_INC, nullptr, collect_link, &links), place,
          "list its links");
  return links;
}

std::string soft_link_target(hid_t group, const std::string& name, const Place& place) {
  H5L_info_t info;
  require(H5Lget_info(group, name.c_str(), &info, H5P_DEFAULT), place, "read a soft link");
  constexpr size_t longest_target = size_t(1) << 20;
  if (info.u.val_size > longest_target)
    throw Error(Errc::damaged, name_of(place) + ": a soft link of more than 1 MiB");
  std::string target(info.u.val_size + 1, '\0');
  require(H5Lget_val(group, name.c_str(), target.data(), target.size(), H5P_DEFAULT), place,
          "read a soft link");
  target.resize(target.find('\0'));
  return target;
}

Member find_member(hid_t file, const std::string& file_name, const std::string& member) {
  Member found;
  found.object = Handle(
      require(H5Oopen(file, "/", H5P_DEFAULT), Place{Errc::damaged, file_name, "/"}, "open the root group"));
  for (const std::string& name : components(member)) {
    const std::string here = "/" + found.path;
    const Place place{Errc::damaged, file_name, here};
    if (H5Iget_type(found.object) != H5I_GROUP) refuse_step(place, found.object, name);
    found.object = step_into(found.object, place, name);
    found.path += (found.path.empty() ? "" : "/") + name;
  }
  return found;
}

}  // namespace jsq::hdf5

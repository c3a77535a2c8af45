// The tree of links an HDF5 file will have, built from the names of gradients and the records of an
// attachment. Both come from strangers: names that HDF5 would read as something else, and names that clash,
// are refused here, so that the sink can create every link by its own single name.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "formats/hdf5/hdf5_attachment.hpp"
#include "jsq/tensor.hpp"

namespace jsq::hdf5 {

struct Node {
  enum class Kind : uint8_t { group, tensor, dataset, named_type, soft_link, hard_link };
  Kind kind = Kind::group;
  std::string path;
  size_t tensor = SIZE_MAX;  ///< index, for tensors
  std::string_view body;     ///< of its record; empty for tensors and for groups without one
  bool created = false;      ///< set by the sink once it exists in the file
  std::map<std::string, std::unique_ptr<Node>> children;
};

/// Names and records as one tree; `root` is the root group.
/// \throws Error damaged: a component "", "." or "..", a NUL byte, nesting beyond 128, or two objects of one
/// name.
Node build_tree(const std::vector<std::string>& tensor_names, const Attachment& attachment);
/// The node at `path`, or nullptr.
const Node* find_node(const Node& root, std::string_view path);

}  // namespace jsq::hdf5

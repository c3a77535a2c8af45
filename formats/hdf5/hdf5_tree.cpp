// Building the tree of links; see hdf5_tree.hpp.
#include "formats/hdf5/hdf5_tree.hpp"

#include <algorithm>

#include "formats/hdf5/hdf5_handle.hpp"

namespace jsq::hdf5 {

namespace {

constexpr size_t deepest_path = 128;

[[noreturn]] void refuse(std::string_view path, const std::string& why) {
  throw Error(Errc::damaged, "the name '" + printable(path) + "' cannot be written to HDF5: " + why +
                                 "; the list of names is damaged");
}

std::vector<std::string> checked_components(std::string_view path) {
  std::vector<std::string> parts;
  if (path.find('\0') != std::string_view::npos) refuse(path, "it holds a NUL byte");
  for (size_t from = 0;;) {
    const size_t slash = std::min(path.find('/', from), path.size());
    const std::string_view part = path.substr(from, slash - from);
    if (part.empty()) refuse(path, "a part of it is empty");
    if (part == "." || part == "..") refuse(path, "a part of it is '.' or '..'");
    parts.emplace_back(part);
    if (parts.size() > deepest_path) refuse(path, "it is nested more than 128 deep");
    if (slash == path.size()) return parts;
    from = slash + 1;
  }
}

/// The node of that name, made as a group with all groups above it where it does not exist.
Node& node_at(Node& root, std::string_view path, bool& is_new) {
  Node* node = &root;
  is_new = false;
  if (path.empty()) return root;
  for (const std::string& part : checked_components(path)) {
    if (node->kind != Node::Kind::group) refuse(path, printable(node->path) + " is not a group");
    auto [child, inserted] = node->children.try_emplace(part);
    if (inserted) {
      child->second = std::make_unique<Node>();
      child->second->path = node->path.empty() ? part : node->path + "/" + part;
    }
    is_new = inserted;
    node = child->second.get();
  }
  return *node;
}

Node::Kind kind_of(RecordKind kind) {
  switch (kind) {
    case RecordKind::dataset:
      return Node::Kind::dataset;
    case RecordKind::soft_link:
      return Node::Kind::soft_link;
    case RecordKind::hard_link:
      return Node::Kind::hard_link;
    case RecordKind::named_type:
      return Node::Kind::named_type;
    case RecordKind::group:
    case RecordKind::skipped:
      break;
  }
  return Node::Kind::group;
}

void add_record(Node& root, const Record& record) {
  if (record.kind == RecordKind::skipped) return;
  bool is_new = false;
  Node& node = node_at(root, record.path, is_new);
  const Node::Kind kind = kind_of(record.kind);
  const bool first_record_of_group =
      kind == Node::Kind::group && node.kind == Node::Kind::group && node.body.empty();
  if (!is_new && !first_record_of_group) refuse(record.path, "another object has it");
  if (record.body.empty()) refuse(record.path, "its record is empty");
  node.kind = kind;
  node.body = record.body;
}

}  // namespace

Node build_tree(const std::vector<std::string>& tensor_names, const Attachment& attachment) {
  Node root;
  for (size_t t = 0; t < tensor_names.size(); ++t) {
    bool is_new = false;
    Node& node = node_at(root, tensor_names[t], is_new);
    if (!is_new) refuse(tensor_names[t], "another object has it");
    node.kind = Node::Kind::tensor;
    node.tensor = t;
  }
  for (const Record& record : attachment.records) add_record(root, record);
  return root;
}

const Node* find_node(const Node& root, std::string_view path) {
  const Node* node = &root;
  for (size_t from = 0; from < path.size();) {
    const size_t slash = std::min(path.find('/', from), path.size());
    const auto child = node->children.find(std::string(path.substr(from, slash - from)));
    if (child == node->children.end()) return nullptr;
    node = child->second.get();
    from = slash + 1;
  }
  return node;
}

}  // namespace jsq::hdf5

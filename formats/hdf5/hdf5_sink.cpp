// Writing an HDF5 dump. The constructor makes every object of the tree, with its attributes and the data of
// what is not a gradient; write() then fills the gradients slab by slab, so that each chunk is deflated once
// and memory is bounded.
#include <algorithm>
#include <cstring>

#include "formats/hdf5/hdf5.hpp"
#include "formats/hdf5/hdf5_attachment.hpp"
#include "formats/hdf5/hdf5_disk.hpp"
#include "formats/hdf5/hdf5_handle.hpp"
#include "formats/hdf5/hdf5_properties.hpp"
#include "formats/hdf5/hdf5_slab.hpp"
#include "formats/hdf5/hdf5_tree.hpp"
#include "formats/hdf5/hdf5_value.hpp"

namespace jsq {

namespace hdf5 {

namespace {

/// Chunks are written whole, so a chunk larger than its dataset writes more than the dataset holds; this much
/// more may be written in all beyond twice the data, so that a few bytes of attachment cannot fill a disk.
constexpr uint64_t free_padding_bytes = uint64_t(4) << 30;

/// What write() needs to know of one gradient.
struct Target {
  std::string path;
  TensorType type;
  bool fortran_order = false;
  std::vector<uint64_t> shape;  ///< in storage order: reversed where elements arrive in Fortran order
  std::vector<uint64_t> chunk;  ///< likewise
  uint64_t elements = 0;
};

uint64_t checked_elements(const TensorInfo& tensor) {
  if (tensor.shape.size() > H5S_MAX_RANK)
    throw Error(Errc::unsupported_format, "tensor '" + printable(tensor.name) + "' has " +
                                              std::to_string(tensor.shape.size()) +
                                              " dimensions; HDF5 holds at most 32");
  uint64_t bytes = dtype_bytes(tensor.dtype);
  if (std::find(tensor.shape.begin(), tensor.shape.end(), 0) != tensor.shape.end()) return 0;
  for (uint64_t extent : tensor.shape)
    if (__builtin_mul_overflow(bytes, extent, &bytes) || bytes > uint64_t(INT64_MAX))
      throw Error(Errc::damaged, "tensor '" + printable(tensor.name) + "' claims more than 2^63 bytes");
  return bytes / dtype_bytes(tensor.dtype);
}

/// Elements of a box in C order of its reversed extents -> in C order of `extent`.
void transpose(std::span<const std::byte> in, std::span<const uint64_t> extent, size_t element_bytes,
               std::vector<std::byte>& out) {
  const size_t rank = extent.size();
  std::vector<size_t> stride(rank, 1);  // of each dimension in `in`, in elements: the first varies fastest
  for (size_t d = 1; d < rank; ++d) stride[d] = stride[d - 1] * extent[d - 1];
  out.resize(in.size());
  std::vector<uint64_t> index(rank, 0);
  size_t from = 0;
  for (size_t to = 0; to < in.size(); to += element_bytes) {
    std::copy_n(in.data() + from * element_bytes, element_bytes, out.data() + to);
    for (size_t d = rank; d-- > 0;) {
      from += stride[d];
      if (++index[d] < extent[d]) break;
      from -= stride[d] * extent[d];
      index[d] = 0;
    }
  }
}

class Hdf5Sink final : public GradientSink {
 public:
  /// \pre a Session lives.
  Hdf5Sink(const std::string& path, const DumpInfo& dump, const std::vector<TensorInfo>& tensors);
  ~Hdf5Sink() override;
  void write(size_t tensor, std::span<const std::byte> stored_le) override;
  void finish() override;

 private:
  void create_file(const Node& root, Generation generation);
  void fill_group(hid_t group, Node& node);
  void create_child(hid_t group, const std::string& name, Node& node);
  void create_group(hid_t parent, const std::string& name, Node& node);
  void create_tensor(hid_t group, const std::string& name, const Node& node);
  void create_dataset(hid_t group, const std::string& name, const Node& node);
  void create_named_type(hid_t group, const std::string& name, const Node& node);
  void create_soft_link(hid_t group, const std::string& name, const Node& node);
  bool create_hard_link(hid_t group, const std::string& name, Node& node);
  void create_late_links();
  void count_padding(const Properties& properties, std::span<const uint64_t> shape, uint64_t element_bytes,
                     const Place& place);

  void check_disk() const;
  void begin(size_t tensor);
  void flush_slab(std::span<const std::byte> stored_le);
  Place at(std::string_view object, Errc code = Errc::damaged) const { return {code, path_, object}; }

  std::string path_;
  const std::vector<TensorInfo>* tensors_ = nullptr;  // while constructing
  std::vector<Node*> late_links_;                     // while constructing
  Node* root_ = nullptr;                              // while constructing
  std::vector<Target> targets_;
  uint64_t data_bytes_ = 0;
  uint64_t padding_bytes_ = 0;
  DiskFailure disk_;  // outlives the file
  Handle file_;

  size_t current_ = 0;    ///< tensor being written
  uint64_t written_ = 0;  ///< elements of it that have arrived
  Handle dataset_;
  Slab slab_;
  std::vector<std::byte> arrived_;  ///< of the slab, where a run ended inside it
  std::vector<std::byte> swapped_;
  std::vector<std::byte> transposed_;
};

struct GroupRecord {
  uint8_t flags = 0;
  std::vector<std::string> order;  ///< names of children by creation
  ByteReader rest;                 ///< at the attributes
};

GroupRecord parse_group(const Node& node) {
  GroupRecord record{.rest = ByteReader(node.body, "a group of the HDF5 attachment")};
  if (node.body.empty()) return record;
  record.flags = record.rest.u8();
  if (record.flags >= 2 * with_link_order)
    record.rest.damaged("unknown group flags " + std::to_string(record.flags));
  if (!(record.flags & with_link_order)) return record;
  const uint64_t count = record.rest.uvarint(record.rest.remaining());
  for (uint64_t i = 0; i < count; ++i) record.order.emplace_back(record.rest.string());
  return record;
}

void finish_attributes(hid_t object, bool present, ByteReader& in, const Place& place) {
  if (present) create_attributes(object, in, place);
  in.expect_end();
}

unsigned link_order_of(uint8_t flags) {
  return (flags & links_tracked ? H5P_CRT_ORDER_TRACKED : 0) |
         (flags & links_indexed ? H5P_CRT_ORDER_INDEXED : 0);
}

unsigned attribute_order_of(uint8_t flags) {
  return (flags & attributes_tracked ? H5P_CRT_ORDER_TRACKED : 0) |
         (flags & attributes_indexed ? H5P_CRT_ORDER_INDEXED : 0);
}

void set_group_properties(hid_t list, uint8_t flags, const Place& place) {
  require(H5Pset_obj_track_times(list, false), place, "leave out times");
  if (const unsigned order = link_order_of(flags); order != 0)
    require(H5Pset_link_creation_order(list, order), place, "set the order of links");
  if (const unsigned order = attribute_order_of(flags); order != 0)
    require(H5Pset_attr_creation_order(list, order), place, "set the order of attributes");
}

Handle link_list(const std::string& name, const Place& place) {
  Handle list(require(H5Pcreate(H5P_LINK_CREATE), place, "make a property list"));
  const bool ascii =
      std::all_of(name.begin(), name.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
  if (!ascii) require(H5Pset_char_encoding(list, H5T_CSET_UTF8), place, "set the character set of a name");
  return list;
}

/// Children by creation where that is recorded, then those not listed (none, unless only some tensors come
/// back) by name.
std::vector<std::pair<std::string, Node*>> ordered_children(Node& node,
                                                            const std::vector<std::string>& order) {
  std::vector<std::pair<std::string, Node*>> children;
  std::map<std::string, Node*> left;
  for (auto& [name, child] : node.children) left.emplace(name, child.get());
  for (const std::string& name : order)
    if (const auto found = left.find(name); found != left.end()) {
      children.emplace_back(name, found->second);
      left.erase(found);
    }
  children.insert(children.end(), left.begin(), left.end());
  return children;
}

Hdf5Sink::Hdf5Sink(const std::string& path, const DumpInfo& dump, const std::vector<TensorInfo>& tensors)
    : path_(path), tensors_(&tensors) {
  std::vector<std::string> names;
  for (const TensorInfo& tensor : tensors) {
    names.push_back(tensor.name);
    const uint64_t elements = checked_elements(tensor);
    data_bytes_ += std::min(elements * dtype_bytes(tensor.dtype), UINT64_MAX - data_bytes_);
    Target target{.type = {tensor.dtype, tensor.big_endian},
                  .fortran_order = tensor.fortran_order,
                  .shape = tensor.shape};
    target.elements = elements;
    if (target.fortran_order) std::reverse(target.shape.begin(), target.shape.end());
    target.chunk.assign(target.shape.size(), 1);
    targets_.push_back(std::move(target));
  }
  if (names.size() == 1 && names[0].empty()) names[0] = "data";
  for (size_t t = 0; t < names.size(); ++t) targets_[t].path = names[t];
  if (std::find(names.begin(), names.end(), "") != names.end())
    throw Error(Errc::damaged, path_ + ": one of several tensors has no name, which HDF5 cannot hold");

  const Attachment attachment = parse_attachment(dump.attachment);
  Node root = build_tree(names, attachment);
  root_ = &root;
  create_file(root, attachment.generation);
  root.created = true;
  const Handle group(require(H5Gopen2(file_, "/", H5P_DEFAULT), at("/"), "open the root group"));
  fill_group(group, root);
  create_late_links();
  check_disk();
  root_ = nullptr;
  tensors_ = nullptr;
}

Hdf5Sink::~Hdf5Sink() {
  const Session session;
  dataset_.reset();
  file_.reset();
}

void Hdf5Sink::create_file(const Node& root, Generation generation) {
  const Place place = at("", Errc::write_failed);
  const Handle creation(require(H5Pcreate(H5P_FILE_CREATE), place, "make a property list"));
  set_group_properties(creation, parse_group(root).flags, at("/"));
  const Handle access(require(H5Pcreate(H5P_FILE_ACCESS), place, "make a property list"));
  write_through_disk(access, disk_);
  const H5F_libver_t lowest = generation == Generation::earliest ? H5F_LIBVER_EARLIEST
                              : generation == Generation::v18    ? H5F_LIBVER_V18
                                                                 : H5F_LIBVER_V110;
  require(H5Pset_libver_bounds(access, lowest, H5F_LIBVER_LATEST), place, "set its format version");
  file_ = Handle(H5Fcreate(path_.c_str(), H5F_ACC_TRUNC, creation, access));
  if (!file_) {
    if (disk_.error == 0) fail(place, "create the file");
    throw Error(Errc::write_failed, path_ + ": cannot create the file: " + std::strerror(disk_.error) +
                                        "; check that its folder exists and may be written");
  }
}

/// Makes everything in an open group, and its attributes.
void Hdf5Sink::fill_group(hid_t group, Node& node) {
  GroupRecord record = parse_group(node);
  for (auto& [name, child] : ordered_children(node, record.order)) create_child(group, name, *child);
  if (!node.body.empty())
    finish_attributes(group, record.flags & with_attributes, record.rest, at(node.path));
}

void Hdf5Sink::create_child(hid_t group, const std::string& name, Node& node) {
  switch (node.kind) {
    case Node::Kind::group:
      create_group(group, name, node);
      return;
    case Node::Kind::tensor:
      create_tensor(group, name, node);
      break;
    case Node::Kind::dataset:
      create_dataset(group, name, node);
      break;
    case Node::Kind::named_type:
      create_named_type(group, name, node);
      break;
    case Node::Kind::soft_link:
      create_soft_link(group, name, node);
      break;
    case Node::Kind::hard_link:
      if (!create_hard_link(group, name, node)) late_links_.push_back(&node);
      return;
  }
  node.created = true;
  check_disk();
}

void Hdf5Sink::create_group(hid_t parent, const std::string& name, Node& node) {
  const Place place = at(node.path);
  const Handle creation(require(H5Pcreate(H5P_GROUP_CREATE), place, "make a property list"));
  set_group_properties(creation, parse_group(node).flags, place);
  const Handle group(require(H5Gcreate2(parent, name.c_str(), link_list(name, place), creation, H5P_DEFAULT),
                             place, "create a group"));
  node.created = true;
  fill_group(group, node);
}

/// Counts what whole chunks write beyond the data.  \throws Error limit where it could fill a disk.
void Hdf5Sink::count_padding(const Properties& properties, std::span<const uint64_t> shape,
                             uint64_t element_bytes, const Place& place) {
  if (properties.layout != Layout::chunked) return;
  uint64_t padded = element_bytes;
  uint64_t exact = element_bytes;
  for (size_t d = 0; d < shape.size(); ++d) {
    const uint64_t chunks = shape[d] / properties.chunk[d] + (shape[d] % properties.chunk[d] != 0);
    uint64_t extent = 0;
    const bool fits = !__builtin_mul_overflow(chunks, properties.chunk[d], &extent) &&
                      !__builtin_mul_overflow(padded, extent, &padded) && padded <= uint64_t(INT64_MAX);
    if (!fits) throw Error(Errc::damaged, name_of(place) + ": its chunks have more than 2^63 bytes");
    exact *= shape[d];
  }
  padding_bytes_ += std::min(padded - exact, UINT64_MAX - padding_bytes_);
  if (padding_bytes_ > free_padding_bytes && padding_bytes_ - free_padding_bytes > data_bytes_)
    throw Error(Errc::limit, name_of(place) +
                                 ": chunks larger than their datasets would write more than 4 GiB of "
                                 "padding beyond the data; write the tensors to another format instead");
}

void Hdf5Sink::create_tensor(hid_t group, const std::string& name, const Node& node) {
  const TensorInfo& tensor = (*tensors_)[node.tensor];
  Target& target = targets_[node.tensor];
  const Place place = at(node.path);
  const std::string what = "the HDF5 attachment of tensor '" + printable(node.path) + "'";
  ByteReader in(tensor.attachment, what);
  DecodedProperties decoded;
  const size_t element_bytes = dtype_bytes(tensor.dtype);
  if (!tensor.attachment.empty()) decoded = decode_properties(in, tensor.shape, element_bytes);
  count_padding(decoded.properties, tensor.shape, element_bytes, place);
  if (decoded.properties.layout == Layout::chunked) {
    target.chunk = decoded.properties.chunk;
    if (target.fortran_order) std::reverse(target.chunk.begin(), target.chunk.end());
  }

  const Handle type = make_tensor_type(target.type);
  const Handle space = make_space(tensor.shape, decoded.properties, place);
  const Handle creation = make_creation_list(decoded.properties, type, place);
  const Handle dataset(
      require(H5Dcreate2(group, name.c_str(), type, space, link_list(name, place), creation, H5P_DEFAULT),
              place, "create a dataset"));
  finish_attributes(dataset, decoded.has_attributes, in, place);
}

void Hdf5Sink::create_dataset(hid_t group, const std::string& name, const Node& node) {
  const Place place = at(node.path);
  const std::string what = "dataset '" + printable(node.path) + "' of the HDF5 attachment";
  ByteReader in(node.body, what);
  const DecodedType type = decode_type(in);
  const Extent extent = decode_extent(in);
  const uint64_t count = element_count(extent, in);
  const DecodedProperties decoded = decode_properties(in, extent.dims, type.bytes);
  if (type.variable_string && decoded.properties.fill == FillState::given)
    in.damaged("a fill value of variable-length strings, which would be an address");
  const bool allocates_early = decoded.properties.allocation_time == uint8_t(H5D_ALLOC_TIME_EARLY);

  const Handle space =
      extent.null ? make_space(extent, place) : make_space(extent.dims, decoded.properties, place);
  const Handle creation = make_creation_list(decoded.properties, type.id, place);
  // A claimed size is held against the bytes at hand before HDF5 allocates for it, in memory or on disk.
  if (count > 0 && (allocates_early || decoded.properties.layout == Layout::compact) &&
      count > in.remaining() / (type.variable_string ? 1 : type.bytes))
    in.damaged("values reach beyond the end");
  count_padding(decoded.properties, extent.dims, type.bytes, place);
  const Handle dataset(
      require(H5Dcreate2(group, name.c_str(), type.id, space, link_list(name, place), creation, H5P_DEFAULT),
              place, "create a dataset"));
  if (decoded.has_attributes) create_attributes(dataset, in, place);
  const uint8_t has_data = in.u8();
  if (has_data > 1) in.damaged("unknown mark " + std::to_string(has_data) + " before the values");
  if (has_data == 1) write_dataset_values(dataset, type, count, in, place);
  in.expect_end();
}

void Hdf5Sink::create_named_type(hid_t group, const std::string& name, const Node& node) {
  const Place place = at(node.path);
  ByteReader in(node.body, "a datatype of the HDF5 attachment");
  const DecodedType type = decode_type(in);
  const uint8_t flags = in.u8();
  if (flags & ~(attributes_tracked | attributes_indexed | with_attributes))
    in.damaged("unknown datatype flags");
  const Handle creation(require(H5Pcreate(H5P_DATATYPE_CREATE), place, "make a property list"));
  require(H5Pset_obj_track_times(creation, false), place, "leave out times");
  if (const unsigned order = attribute_order_of(flags); order != 0)
    require(H5Pset_attr_creation_order(creation, order), place, "set the order of attributes");
  require(H5Tcommit2(group, name.c_str(), type.id, link_list(name, place), creation, H5P_DEFAULT), place,
          "create a datatype");
  finish_attributes(type.id, flags & with_attributes, in, place);
}

void Hdf5Sink::create_soft_link(hid_t group, const std::string& name, const Node& node) {
  const Place place = at(node.path);
  const std::string target(node.body);
  if (target.find('\0') != std::string::npos)
    throw Error(Errc::damaged, name_of(place) + ": the target of a soft link holds a NUL byte");
  require(H5Lcreate_soft(target.c_str(), group, name.c_str(), link_list(name, place), H5P_DEFAULT), place,
          "create a soft link");
}

/// Makes the link if its target exists by now.
bool Hdf5Sink::create_hard_link(hid_t group, const std::string& name, Node& node) {
  const Place place = at(node.path);
  const std::string target(node.body);
  if (target.front() != '/' || target.find('\0') != std::string::npos)
    throw Error(Errc::damaged, name_of(place) + ": the target of a hard link is not an absolute path");
  const Node* object = find_node(*root_, std::string_view(target).substr(1));
  if (object == nullptr || !object->created) return false;
  if (object->kind == Node::Kind::soft_link || object->kind == Node::Kind::hard_link)
    throw Error(Errc::damaged, name_of(place) + ": a hard link to another link");
  require(H5Lcreate_hard(file_, target.c_str(), group, name.c_str(), link_list(name, place), H5P_DEFAULT),
          place, "create a hard link");
  node.created = true;
  return true;
}

/// Makes the links whose targets came after them. What has no target by now is not among the tensors written,
/// and its link is left out.
void Hdf5Sink::create_late_links() {
  for (Node* node : late_links_) {
    const size_t slash = node->path.rfind('/');
    std::string parent = "/";
    if (slash != std::string::npos) parent.append(node->path, 0, slash);
    const std::string name = slash == std::string::npos ? node->path : node->path.substr(slash + 1);
    const Handle group(require(H5Gopen2(file_, parent.c_str(), H5P_DEFAULT), at(parent), "open a group"));
    create_hard_link(group, name, *node);
  }
  late_links_.clear();
}

/// Throws what the disk refused since the file was created, which HDF5 itself is not told.
void Hdf5Sink::check_disk() const {
  if (disk_.error != 0)
    throw Error(Errc::write_failed, path_ + ": cannot write: " + std::strerror(disk_.error) +
                                        "; check free space and permissions of the output's folder");
}

/// Opens a gradient for writing, after all those before it are complete.
void Hdf5Sink::begin(size_t tensor) {
  if (tensor >= targets_.size()) throw Error(Errc::internal, path_ + ": no tensor " + std::to_string(tensor));
  while (current_ < tensor && written_ == targets_[current_].elements) {
    ++current_;
    written_ = 0;
    dataset_.reset();
  }
  if (current_ != tensor)
    throw Error(Errc::internal, name_of(at(targets_[tensor].path)) + ": written out of order or before '" +
                                    printable(targets_[current_].path) + "' is complete");
  if (targets_[tensor].elements == 0)
    throw Error(Errc::internal, name_of(at(targets_[tensor].path)) + ": has no elements to write");
  if (dataset_) return;
  const Place place = at(targets_[tensor].path, Errc::write_failed);
  const Target& target = targets_[tensor];
  // Shape and chunks may be reversed here, which leaves the decision the list makes as it is.
  const Handle access = make_access_list(target.shape, target.chunk, dtype_bytes(target.type.dtype), place);
  const std::string absolute = "/" + target.path;
  dataset_ = Handle(require(H5Dopen2(file_, absolute.c_str(), access), place, "open it"));
}

void Hdf5Sink::flush_slab(std::span<const std::byte> stored_le) {
  const Target& target = targets_[current_];
  const Place place = at(target.path, Errc::write_failed);
  const size_t element_bytes = dtype_bytes(target.type.dtype);
  std::vector<uint64_t> start(slab_.start.begin(), slab_.start.end());
  std::vector<uint64_t> extent(slab_.extent.begin(), slab_.extent.end());
  std::span<const std::byte> values = stored_le;
  if (target.fortran_order) {
    std::reverse(start.begin(), start.end());
    std::reverse(extent.begin(), extent.end());
    transpose(values, extent, element_bytes, transposed_);
    values = transposed_;
  }
  if (target.type.big_endian) {
    swapped_.assign(values.begin(), values.end());
    swap_element_bytes(swapped_, element_bytes);
    values = swapped_;
  }
  const Handle type(require(H5Dget_type(dataset_), place, "read its datatype"));
  const SlabSelection selection = select_slab(dataset_, start, extent, place);
  require(H5Dwrite(dataset_, type, selection.memory, selection.file, H5P_DEFAULT, values.data()), place,
          "write its values");
  check_disk();
}

void Hdf5Sink::write(size_t tensor, std::span<const std::byte> stored_le) {
  const Session session;
  if (!file_) throw Error(Errc::internal, path_ + ": written after it was finished");
  if (stored_le.empty()) return;
  begin(tensor);
  const Target& target = targets_[tensor];
  const size_t element_bytes = dtype_bytes(target.type.dtype);
  if (stored_le.size() % element_bytes != 0 || stored_le.size() / element_bytes > target.elements - written_)
    throw Error(Errc::internal,
                name_of(at(target.path)) + ": more values arrive than it has elements, or part of one");

  while (!stored_le.empty()) {
    if (arrived_.empty()) slab_ = slab_at(target.shape, target.chunk, element_bytes, written_);
    const size_t missing = slab_.count * element_bytes - arrived_.size();
    const auto piece = stored_le.first(std::min(missing, stored_le.size()));
    if (piece.size() == missing && arrived_.empty()) {
      flush_slab(piece);
    } else {
      arrived_.insert(arrived_.end(), piece.begin(), piece.end());
      if (piece.size() == missing) {
        flush_slab(arrived_);
        arrived_.clear();
      }
    }
    written_ += piece.size() / element_bytes;
    stored_le = stored_le.subspan(piece.size());
  }
}

void Hdf5Sink::finish() {
  const Session session;
  if (!file_) throw Error(Errc::internal, path_ + ": finished twice");
  while (current_ < targets_.size() && written_ == targets_[current_].elements) {
    ++current_;
    written_ = 0;
  }
  if (current_ < targets_.size())
    throw Error(Errc::internal, name_of(at(targets_[current_].path)) + ": finished with " +
                                    std::to_string(written_) + " of " +
                                    std::to_string(targets_[current_].elements) + " elements written");
  dataset_.reset();
  const Place place = at("", Errc::write_failed);
  require(H5Fflush(file_, H5F_SCOPE_GLOBAL), place, "flush the file");
  check_disk();
  require(H5Fclose(file_.release()), place, "close the file");
  check_disk();
}

}  // namespace

}  // namespace hdf5

std::unique_ptr<GradientSink> create_hdf5(const std::string& path, const DumpInfo& dump,
                                          const std::vector<TensorInfo>& tensors) {
  const hdf5::Session session;
  return std::make_unique<hdf5::Hdf5Sink>(path, dump, tensors);
}

}  // namespace jsq

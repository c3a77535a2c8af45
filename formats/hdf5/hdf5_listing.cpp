// Walking an HDF5 file; see hdf5_listing.hpp. Order: links by name, depth first.
#include "formats/hdf5/hdf5_listing.hpp"

#include <algorithm>
#include <unordered_map>

#include "formats/hdf5/hdf5_attachment.hpp"
#include "formats/hdf5/hdf5_member.hpp"
#include "formats/hdf5/hdf5_properties.hpp"
#include "formats/hdf5/hdf5_value.hpp"

namespace jsq::hdf5 {

namespace {

constexpr int deepest_group = 128;
constexpr size_t most_findings_told = 5;

class Walk {
 public:
  explicit Walk(std::string_view file_name) : file_name_(file_name) {}

  void visit_object(hid_t object, const std::string& path, int depth);
  void visit_file_properties(hid_t file);
  Listing finish(const std::string& member);

 private:
  void visit_group(hid_t group, const std::string& path, int depth);
  void visit_link(hid_t group, const LinkName& link, const std::string& path, int depth);
  void visit_dataset(hid_t dataset, const H5O_info_t& info, const std::string& path);
  void add_tensor(hid_t dataset, TensorType type, hid_t space, const Properties& properties,
                  bool has_attributes, const std::string& path);
  void add_extra(hid_t dataset, hid_t type, hid_t space, const Properties& properties, bool has_attributes,
                 const std::string& path);
  void visit_named_type(hid_t type, const H5O_info_t& info, const std::string& path);
  void add_group_record(hid_t group, const std::vector<LinkName>& links, const std::string& path,
                        bool is_empty);
  bool met_before(const H5O_info_t& info, const std::string& path);
  Place at(const std::string& path) const {
    return {Errc::damaged, file_name_, path.empty() ? std::string_view("/") : std::string_view(path)};
  }

  std::string_view file_name_;
  Generation generation_ = Generation::earliest;
  std::vector<TensorInfo> tensors_;
  std::vector<Storage> storage_;
  AttachmentWriter records_;
  size_t record_count_ = 0;
  Extras extras_;
  std::unordered_map<haddr_t, std::string> first_path_;  ///< of groups, and of all objects with several names
  std::vector<std::string> findings_;  ///< what was met instead of gradients, for the message
  size_t finding_count_ = 0;

  void record(RecordKind kind, const std::string& path, std::string_view body) {
    records_.add(kind, path, body);
    ++record_count_;
  }
};

void Walk::visit_file_properties(hid_t file) {
  H5F_info2_t info;
  require(H5Fget_info2(file, &info), at(""), "read its superblock");
  if (info.super.version == 2) generation_ = Generation::v18;
  if (info.super.version > 2) generation_ = Generation::v110;
  const Handle list(require(H5Fget_create_plist(file), at(""), "read its creation properties"));
  hsize_t user_block = 0;
  require(H5Pget_userblock(list, &user_block), at(""), "read the size of its user block");
  if (user_block > 0) extras_.skip("", Skip::user_block);
}

/// True, with a hard link recorded, if the object was reached by another name.
bool Walk::met_before(const H5O_info_t& info, const std::string& path) {
  if (info.type != H5O_TYPE_GROUP && info.rc <= 1) return false;
  const auto [known, is_new] = first_path_.try_emplace(info.addr, path);
  if (is_new) return false;
  record(RecordKind::hard_link, path, "/" + known->second);
  return true;
}

void Walk::visit_object(hid_t object, const std::string& path, int depth) {
  H5O_info_t info;
  require(H5Oget_info2(object, &info, H5O_INFO_BASIC | H5O_INFO_NUM_ATTRS), at(path), "read its header");
  if (met_before(info, path)) return;
  switch (info.type) {
    case H5O_TYPE_GROUP:
      return visit_group(object, path, depth);
    case H5O_TYPE_DATASET:
      return visit_dataset(object, info, path);
    case H5O_TYPE_NAMED_DATATYPE:
      return visit_named_type(object, info, path);
    default:
      break;
  }
  throw Error(Errc::damaged, name_of(at(path)) + ": is neither group, dataset nor datatype");
}

void Walk::visit_link(hid_t group, const LinkName& link, const std::string& path, int depth) {
  if (link.name == "." || link.name == "..")
    throw Error(Errc::unsupported_format,
                name_of(at(path)) + ": a link named '.' or '..' cannot be written back; rename it");
  if (link.type == H5L_TYPE_HARD) {
    const Handle object(require(H5Oopen(group, link.name.c_str(), H5P_DEFAULT), at(path), "open it"));
    return visit_object(object, path, depth);
  }
  if (link.type == H5L_TYPE_SOFT)
    return record(RecordKind::soft_link, path, soft_link_target(group, link.name, at(path)));
  const char* kind =
      link.type == H5L_TYPE_EXTERNAL ? "an external link to another file" : "a user-defined link";
  throw Error(Errc::unsupported_format, name_of(at(path)) + ": is " + kind +
                                            ", which jsq does not follow; compress "
                                            "the other file by itself, or remove the link");
}

void Walk::visit_group(hid_t group, const std::string& path, int depth) {
  if (depth > deepest_group)
    throw Error(Errc::limit, name_of(at(path)) + ": groups are nested more than 128 deep");
  const size_t tensors_before = tensors_.size();
  const size_t records_before = record_count_;
  const std::vector<LinkName> links = list_links(group, at(path));
  for (const LinkName& link : links)
    visit_link(group, link, path.empty() ? link.name : path + "/" + link.name, depth + 1);
  const bool is_empty = tensors_.size() == tensors_before && record_count_ == records_before;
  add_group_record(group, links, path, is_empty && !path.empty());
}

/// Records a group that would not come back by itself: one with attributes, with an order, or empty.
void Walk::add_group_record(hid_t group, const std::vector<LinkName>& links, const std::string& path,
                            bool is_empty) {
  const Handle list(require(H5Gget_create_plist(group), at(path), "read its creation properties"));
  unsigned link_order = 0;
  unsigned attribute_order = 0;
  require(H5Pget_link_creation_order(list, &link_order), at(path), "read the order of its links");
  require(H5Pget_attr_creation_order(list, &attribute_order), at(path), "read the order of its attributes");
  H5O_info_t info;
  require(H5Oget_info2(group, &info, H5O_INFO_NUM_ATTRS), at(path), "count its attributes");

  uint8_t flags = 0;
  if (link_order & H5P_CRT_ORDER_TRACKED) flags |= links_tracked;
  if (link_order & H5P_CRT_ORDER_INDEXED) flags |= links_indexed;
  if (attribute_order & H5P_CRT_ORDER_TRACKED) flags |= attributes_tracked;
  if (attribute_order & H5P_CRT_ORDER_INDEXED) flags |= attributes_indexed;
  ByteWriter attributes;
  if (info.num_attrs > 0 && encode_attributes(group, flags & attributes_tracked,
                                              {Errc::damaged, file_name_, path}, extras_, attributes))
    flags |= with_attributes;
  const bool by_name = std::is_sorted(links.begin(), links.end(), [](const LinkName& a, const LinkName& b) {
    return a.creation_order < b.creation_order;
  });
  if ((flags & links_tracked) && !by_name) flags |= with_link_order;
  if (flags == 0 && !is_empty) return;

  ByteWriter body;
  body.u8(flags);
  if (flags & with_link_order) {
    std::vector<const LinkName*> ordered;
    for (const LinkName& link : links) ordered.push_back(&link);
    std::sort(ordered.begin(), ordered.end(),
              [](const LinkName* a, const LinkName* b) { return a->creation_order < b->creation_order; });
    body.uvarint(ordered.size());
    for (const LinkName* link : ordered) body.string(link->name);
  }
  body.raw(attributes.bytes());
  record(RecordKind::group, path, body.bytes());
}

void Walk::visit_dataset(hid_t dataset, const H5O_info_t& info, const std::string& path) {
  const Place place = at(path);
  const Handle type(require(H5Dget_type(dataset), place, "read its datatype"));
  const Handle space(require(H5Dget_space(dataset), place, "read its shape"));
  const Handle list(require(H5Dget_create_plist(dataset), place, "read its creation properties"));
  const bool is_text = H5Tis_variable_str(type) > 0;
  const auto gradient = H5Sget_simple_extent_type(space) == H5S_NULL ? std::nullopt : tensor_type(type);

  // A fill value holds addresses wherever its type does: such types are never asked for one.
  ByteWriter encoded_type;
  const Skip skip = gradient ? Skip::none : encode_type(type, encoded_type);
  const bool plain = skip == Skip::none && !is_text;
  const Properties properties = read_properties(list, space, type, plain, place);
  const bool has_attributes = info.num_attrs > 0;
  if (gradient) return add_tensor(dataset, *gradient, space, properties, has_attributes, path);

  ++finding_count_;
  if (findings_.size() < most_findings_told)
    findings_.push_back("/" + path + " (" + describe_type(type) + ")");
  if (skip != Skip::none) return extras_.skip(path, skip);
  H5D_fill_value_t fill = H5D_FILL_VALUE_DEFAULT;
  require(H5Pfill_value_defined(list, &fill), place, "read its fill value");
  if (is_text && fill == H5D_FILL_VALUE_USER_DEFINED) extras_.skip(path, Skip::variable_fill);
  add_extra(dataset, type, space, properties, has_attributes, path);
}

/// Refuses shapes whose bytes would not fit 63 bits, which every later product relies on.
void check_size(const TensorInfo& tensor, const Place& place) {
  uint64_t bytes = dtype_bytes(tensor.dtype);
  for (uint64_t extent : tensor.shape)
    if (extent == 0) return;
  for (uint64_t extent : tensor.shape)
    if (__builtin_mul_overflow(bytes, extent, &bytes) || bytes > uint64_t(INT64_MAX))
      throw Error(Errc::damaged, name_of(place) + ": its shape has more than 2^63 bytes");
}

void Walk::add_tensor(hid_t dataset, TensorType type, hid_t space, const Properties& properties,
                      bool has_attributes, const std::string& path) {
  TensorInfo tensor{.name = path, .dtype = type.dtype, .big_endian = type.big_endian};
  tensor.shape = read_extent(space, at(path)).dims;
  check_size(tensor, at(path));

  ByteWriter attributes;
  if (has_attributes)
    has_attributes =
        encode_attributes(dataset, properties.attribute_order.tracked, at(path), extras_, attributes);
  ByteWriter attachment;
  encode_properties(properties, tensor.shape, has_attributes, attachment);
  attachment.raw(attributes.bytes());
  const bool all_default = attachment.size() == 1 && attachment.bytes().front() == 0;
  if (!all_default) tensor.attachment = attachment.take();

  Storage storage{.type = type, .chunk = properties.chunk, .file_offset = std::nullopt};
  if (storage.chunk.empty()) storage.chunk.assign(tensor.shape.size(), 1);
  if (properties.layout == Layout::contiguous) {
    const haddr_t offset = H5Dget_offset(dataset);  // undefined where nothing was ever written
    if (offset != HADDR_UNDEF) storage.file_offset = offset;
  }
  tensors_.push_back(std::move(tensor));
  storage_.push_back(std::move(storage));
}

void Walk::add_extra(hid_t dataset, hid_t type, hid_t space, const Properties& properties,
                     bool has_attributes, const std::string& path) {
  const Place place = at(path);
  const Extent extent = read_extent(space, place);
  ByteWriter attributes;
  if (has_attributes)
    has_attributes =
        encode_attributes(dataset, properties.attribute_order.tracked, place, extras_, attributes);
  ByteWriter body;
  encode_type(type, body);
  encode_extent(extent, body);
  encode_properties(properties, extent.dims, has_attributes, body);
  body.raw(attributes.bytes());
  // Storage that was never allocated holds fill values only, and comes back without being written.
  const bool has_data = !extent.null && H5Dget_storage_size(dataset) > 0;
  body.u8(has_data ? 1 : 0);
  if (has_data) encode_dataset_values(dataset, type, space, place, extras_, body);
  record(RecordKind::dataset, path, body.bytes());
}

void Walk::visit_named_type(hid_t type, const H5O_info_t& info, const std::string& path) {
  const Place place = at(path);
  ByteWriter body;
  if (const Skip skip = encode_type(type, body); skip != Skip::none) return extras_.skip(path, skip);
  const Handle list(require(H5Tget_create_plist(type), place, "read its creation properties"));
  unsigned order = 0;
  require(H5Pget_attr_creation_order(list, &order), place, "read the order of its attributes");
  uint8_t flags = 0;
  if (order & H5P_CRT_ORDER_TRACKED) flags |= attributes_tracked;
  if (order & H5P_CRT_ORDER_INDEXED) flags |= attributes_indexed;
  ByteWriter attributes;
  if (info.num_attrs > 0 && encode_attributes(type, flags & attributes_tracked, place, extras_, attributes))
    flags |= with_attributes;
  body.u8(flags);
  body.raw(attributes.bytes());
  record(RecordKind::named_type, path, body.bytes());
}

Listing Walk::finish(const std::string& member) {
  if (tensors_.empty()) {
    std::string found;
    for (const std::string& finding : findings_) found += (found.empty() ? "" : ", ") + printable(finding);
    if (finding_count_ > findings_.size())
      found += " and " + std::to_string(finding_count_ - findings_.size()) + " more";
    const std::string where = member.empty() ? "" : " at or below '" + printable(member) + "'";
    throw Error(Errc::unsupported_dtype,
                std::string(file_name_) + ": holds no dataset of float16, bfloat16, float32 or float64" +
                    where + "; found " + (found.empty() ? "no datasets at all" : found));
  }
  for (const Extras::Skipped& skipped : extras_.skipped())
    records_.add(RecordKind::skipped, skipped.path, std::string(1, char(skipped.reason)));
  return {{DumpFormat::hdf5, records_.finish(generation_)}, std::move(tensors_), std::move(storage_)};
}

}  // namespace

Listing list_file(hid_t file, const std::string& path, const std::string& member) {
  const Member found = find_member(file, path, member);
  Walk walk(path);
  walk.visit_file_properties(file);
  walk.visit_object(found.object, found.path, 0);
  return walk.finish(member);
}

}  // namespace jsq::hdf5

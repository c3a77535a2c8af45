// Attributes and data of datasets that are not gradients; see hdf5_value.hpp.
#include "formats/hdf5/hdf5_value.hpp"

#include <array>
#include <cstring>
#include <optional>

namespace jsq::hdf5 {

namespace {

constexpr uint8_t null_extent = 0xff;
constexpr uint64_t most_attributes = 65535;
constexpr uint64_t longest_name = 65535;

/// Texts that HDF5 allocated while reading variable-length strings; they are freed at the end.
class LibraryTexts {
 public:
  LibraryTexts(size_t count, hid_t type, hid_t space) : texts_(count, nullptr), type_(type), space_(space) {}
  LibraryTexts(const LibraryTexts&) = delete;
  LibraryTexts& operator=(const LibraryTexts&) = delete;
  ~LibraryTexts() { H5Dvlen_reclaim(type_, space_, H5P_DEFAULT, texts_.data()); }
  char** data() { return texts_.data(); }
  const std::vector<char*>& all() const { return texts_; }

 private:
  std::vector<char*> texts_;
  hid_t type_;
  hid_t space_;
};

/// Reads all elements of an attribute or dataset with `read(memory type, buffer)` and appends them.
template <class Read>
void encode_values(hid_t type, hid_t space, const Place& place, Extras& extras, ByteWriter& out, Read read) {
  const hssize_t signed_count = require(H5Sget_simple_extent_npoints(space), place, "count its elements");
  const uint64_t count = uint64_t(signed_count);
  if (count == 0) return;
  extras.expect(count, H5Tget_size(type), place);
  const Handle memory(require(H5Tcopy(type), place, "copy its type"));
  const size_t before = out.size();
  if (H5Tis_variable_str(type) > 0) {
    LibraryTexts texts(count, memory, space);
    require(read(memory, static_cast<void*>(texts.data())), place, "read its texts");
    for (const char* text : texts.all()) {
      out.uvarint(text == nullptr ? 0 : std::strlen(text) + 1);
      if (text != nullptr) out.raw(std::string_view(text));
      extras.expect(1, out.size() - before, place);
    }
  } else {
    // Reading with the file's own type keeps every bit, whatever the byte order.
    std::vector<std::byte> bytes(count * H5Tget_size(type));
    require(read(memory, static_cast<void*>(bytes.data())), place, "read its values");
    out.raw(bytes);
  }
  extras.carry(out.size() - before, place);
}

/// Decodes `count` elements and hands them to `write(memory type, buffer)`.
template <class Write>
void write_values(const DecodedType& type, uint64_t count, ByteReader& in, const Place& place, Write write) {
  if (count == 0) return;
  if (!type.variable_string) {
    if (count > in.remaining() / type.bytes) in.damaged("values reach beyond the end");
    const std::string_view bytes = in.raw(count * type.bytes);
    require(write(type.id, static_cast<const void*>(bytes.data())), place, "write its values");
    return;
  }
  if (count > in.remaining()) in.damaged("texts reach beyond the end");
  std::vector<std::optional<std::string>> texts(count);
  for (auto& text : texts) {
    const uint64_t stored = in.uvarint();
    if (stored == 0) continue;
    text = std::string(in.raw(stored - 1));
    if (text->find('\0') != std::string::npos) in.damaged("a text holds a NUL byte");
  }
  std::vector<const char*> pointers;
  for (const auto& text : texts) pointers.push_back(text ? text->c_str() : nullptr);
  require(write(type.id, static_cast<const void*>(pointers.data())), place, "write its texts");
}

/// Called by HDF5 for each attribute; must not throw through it.
extern "C" herr_t collect_attribute_name(hid_t, const char* name, const H5A_info_t*, void* names) noexcept {
  try {
    static_cast<std::vector<std::string>*>(names)->emplace_back(name);
    return 0;
  } catch (...) {
    return -1;
  }
}

Skip encode_attribute(hid_t object, const std::string& name, const Place& place, Extras& extras,
                      ByteWriter& out) {
  const Handle attribute(
      require(H5Aopen(object, name.c_str(), H5P_DEFAULT), place, "open its attribute '" + name + "'"));
  const Handle type(require(H5Aget_type(attribute), place, "read the type of its attribute '" + name + "'"));
  const Handle space(
      require(H5Aget_space(attribute), place, "read the shape of its attribute '" + name + "'"));
  ByteWriter one;
  one.string(name);
  if (const Skip skip = encode_type(type, one); skip != Skip::none) return skip;
  encode_extent(read_extent(space, place), one);
  encode_values(type, space, place, extras, one,
                [&](hid_t memory_type, void* buffer) { return H5Aread(attribute, memory_type, buffer); });
  out.raw(one.bytes());
  return Skip::none;
}

H5T_cset_t charset_of(std::string_view name) {
  for (char c : name)
    if (static_cast<unsigned char>(c) >= 0x80) return H5T_CSET_UTF8;
  return H5T_CSET_ASCII;
}

void create_attribute(hid_t object, ByteReader& in, const Place& place) {
  const std::string name(in.string(longest_name));
  if (name.empty() || name.find('\0') != std::string::npos) in.damaged("an attribute without a usable name");
  const DecodedType type = decode_type(in);
  const Extent extent = decode_extent(in);
  const uint64_t count = element_count(extent, in);
  const Handle space = make_space(extent, place);
  const Handle list(require(H5Pcreate(H5P_ATTRIBUTE_CREATE), place, "make a property list"));
  require(H5Pset_char_encoding(list, charset_of(name)), place, "set the character set of a name");
  // A claimed size is held against the bytes at hand before HDF5 allocates for it.
  if (count > in.remaining() / (type.variable_string ? 1 : type.bytes))
    in.damaged("values reach beyond the end");
  const Handle attribute(require(H5Acreate2(object, name.c_str(), type.id, space, list, H5P_DEFAULT), place,
                                 "make its attribute '" + printable(name) + "'"));
  write_values(type, count, in, place, [&](hid_t memory_type, const void* buffer) {
    return H5Awrite(attribute, memory_type, buffer);
  });
}

}  // namespace

void Extras::expect(uint64_t count, uint64_t element_bytes, const Place& place) const {
  const uint64_t left = most_extra_bytes - carried_;
  if (element_bytes == 0 || count <= left / element_bytes) return;
  throw Error(Errc::limit,
              name_of(place) +
                  ": with it, what is not a gradient exceeds the 64 MiB that are carried "
                  "unchanged; compress only the groups with gradients (FILE.h5::/group) or take this "
                  "object out of the file first");
}

void Extras::carry(uint64_t bytes, const Place& place) {
  expect(1, bytes, place);
  carried_ += bytes;
}

Extent read_extent(hid_t space, const Place& place) {
  const H5S_class_t kind = H5Sget_simple_extent_type(space);
  if (kind == H5S_NULL) return {true, {}};
  std::array<hsize_t, H5S_MAX_RANK> dims{};
  const int rank = require(H5Sget_simple_extent_dims(space, dims.data(), nullptr), place, "read its shape");
  return {false, {dims.begin(), dims.begin() + rank}};
}

void encode_extent(const Extent& extent, ByteWriter& out) {
  out.u8(extent.null ? null_extent : uint8_t(extent.dims.size()));
  for (uint64_t dim : extent.dims) out.uvarint(dim);
}

Extent decode_extent(ByteReader& in) {
  const uint8_t rank = in.u8();
  if (rank == null_extent) return {true, {}};
  if (rank > H5S_MAX_RANK) in.damaged("a shape of " + std::to_string(rank) + " dimensions");
  Extent extent;
  for (uint8_t d = 0; d < rank; ++d) extent.dims.push_back(in.uvarint(UINT64_MAX - 1));
  return extent;
}

uint64_t element_count(const Extent& extent, const ByteReader& in) {
  if (extent.null) return 0;
  uint64_t count = 1;
  for (uint64_t dim : extent.dims)
    if (dim == 0) return 0;
  for (uint64_t dim : extent.dims)
    if (__builtin_mul_overflow(count, dim, &count) || count > uint64_t(INT64_MAX))
      in.damaged("a shape beyond 2^63 elements");
  return count;
}

Handle make_space(const Extent& extent, const Place& place) {
  if (extent.null) return Handle(require(H5Screate(H5S_NULL), place, "make a null dataspace"));
  return make_space(extent.dims, Properties{}, place);
}

bool encode_attributes(hid_t object, bool by_creation, const Place& place, Extras& extras, ByteWriter& out) {
  std::vector<std::string> names;
  require(H5Aiterate2(object, by_creation ? H5_INDEX_CRT_ORDER : H5_INDEX_NAME, H5_ITER_INC, nullptr,
                      collect_attribute_name, &names),
          place, "list its attributes");
  if (names.size() > most_attributes)
    throw Error(Errc::limit, name_of(place) + ": has more than 65535 attributes");
  ByteWriter encoded;
  uint64_t count = 0;
  for (const std::string& name : names) {
    const Skip skip = encode_attribute(object, name, place, extras, encoded);
    if (skip == Skip::none) ++count;
    if (skip != Skip::none) extras.skip(std::string(place.object) + "@" + name, skip);
  }
  if (count == 0) return false;
  out.uvarint(count);
  out.raw(encoded.bytes());
  return true;
}

void create_attributes(hid_t object, ByteReader& in, const Place& place) {
  const uint64_t count = in.uvarint(most_attributes);
  for (uint64_t i = 0; i < count; ++i) create_attribute(object, in, place);
}

void encode_dataset_values(hid_t dataset, hid_t type, hid_t space, const Place& place, Extras& extras,
                           ByteWriter& out) {
  encode_values(type, space, place, extras, out, [&](hid_t memory_type, void* buffer) {
    return H5Dread(dataset, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, buffer);
  });
}

void write_dataset_values(hid_t dataset, const DecodedType& type, uint64_t count, ByteReader& in,
                          const Place& place) {
  write_values(type, count, in, place, [&](hid_t memory_type, const void* buffer) {
    return H5Dwrite(dataset, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, buffer);
  });
}

}  // namespace jsq::hdf5

// Creation properties of a dataset; see hdf5_properties.hpp and the "properties" table of formats/SPEC.md.
#include "formats/hdf5/hdf5_properties.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "formats/hdf5/hdf5_slab.hpp"

namespace jsq::hdf5 {

namespace {

// First byte of encoded properties.
constexpr uint8_t has_chunks = 1;
constexpr uint8_t is_compact = 2;
constexpr uint8_t has_shuffle = 4;
constexpr uint8_t has_deflate = 8;
constexpr uint8_t has_fletcher32 = 16;
constexpr uint8_t attributes_follow = 32;
constexpr uint8_t more_follows = 64;
constexpr uint8_t fills_on_allocation = 128;  // what h5py asks of every chunked dataset

// Second byte, present with more_follows.
constexpr uint8_t has_max_shape = 1;
constexpr uint8_t has_fill_value = 2;
constexpr uint8_t has_undefined_fill = 4;
constexpr uint8_t has_allocation_time = 8;
constexpr uint8_t never_fills = 16;
constexpr uint8_t has_filter_list = 32;
constexpr uint8_t tracks_attribute_order = 64;
constexpr uint8_t indexes_attribute_order = 128;

constexpr size_t most_filters = 16;
constexpr uint8_t highest_deflate_level = 9;

H5D_alloc_time_t default_allocation_time(Layout layout) {
  switch (layout) {
    case Layout::contiguous:
      return H5D_ALLOC_TIME_LATE;
    case Layout::chunked:
      return H5D_ALLOC_TIME_INCR;
    case Layout::compact:
      break;
  }
  return H5D_ALLOC_TIME_EARLY;
}

std::string_view known_filter_name(H5Z_filter_t id) {
  switch (id) {
    case H5Z_FILTER_SZIP:
      return "szip";
    case H5Z_FILTER_NBIT:
      return "nbit";
    case H5Z_FILTER_SCALEOFFSET:
      return "scaleoffset";
    case 32000:
      return "lzf";
    case 32001:
      return "blosc";
    case 32004:
      return "lz4";
    case 32008:
      return "bitshuffle";
    case 32013:
      return "zfp";
    case 32015:
      return "zstd";
    default:
      return "";
  }
}

[[noreturn]] void refuse_filter(const Place& place, H5Z_filter_t id, std::string_view name_in_file) {
  std::string name(known_filter_name(id));
  if (name.empty()) name = printable(name_in_file);
  throw Error(
      Errc::unsupported_format,
      name_of(place) + ": uses filter " + std::to_string(id) + (name.empty() ? "" : " (" + name + ")") +
          "; jsq reads only deflate (gzip), shuffle and fletcher32, since other filters need plugins or "
          "decoders it does not trust; rewrite the dataset with gzip, for example by h5repack -f GZIP=6");
}

Filter read_filter(hid_t list, unsigned index, const Place& place) {
  unsigned flags = 0;
  std::array<unsigned, 8> values{};
  size_t value_count = values.size();
  std::array<char, 64> name{};
  const H5Z_filter_t id = require(
      H5Pget_filter2(list, index, &flags, &value_count, values.data(), name.size(), name.data(), nullptr),
      place, "read its filters");
  name.back() = '\0';
  switch (id) {
    case H5Z_FILTER_DEFLATE: {
      const unsigned level = value_count > 0 ? values[0] : 0;
      return {Filter::Kind::deflate, uint8_t(std::min<unsigned>(level, highest_deflate_level))};
    }
    case H5Z_FILTER_SHUFFLE:
      return {Filter::Kind::shuffle};
    case H5Z_FILTER_FLETCHER32:
      return {Filter::Kind::fletcher32};
    default:
      refuse_filter(place, id, name.data());
  }
}

Layout read_layout(hid_t list, const Place& place) {
  if (require(H5Pget_external_count(list), place, "read its external storage") > 0)
    throw Error(Errc::unsupported_format,
                name_of(place) +
                    ": its values lie in external files, which jsq does not "
                    "follow; copy them into the file first, for example with h5repack");
  switch (require(H5Pget_layout(list), place, "read its layout")) {
    case H5D_CONTIGUOUS:
      return Layout::contiguous;
    case H5D_CHUNKED:
      return Layout::chunked;
    case H5D_COMPACT:
      return Layout::compact;
    case H5D_VIRTUAL:
      throw Error(Errc::unsupported_format,
                  name_of(place) +
                      ": is a virtual dataset, which jsq does not follow; "
                      "compress the files it is composed of, or copy it into one dataset");
    default:
      break;
  }
  throw Error(Errc::unsupported_format, name_of(place) + ": has a storage layout that jsq does not know");
}

void read_chunks(hid_t list, uint64_t element_bytes, uint64_t dataset_bytes, Properties& properties,
                 const Place& place) {
  std::array<hsize_t, H5S_MAX_RANK> dims{};
  const int rank = require(H5Pget_chunk(list, H5S_MAX_RANK, dims.data()), place, "read its chunk shape");
  properties.chunk.assign(dims.begin(), dims.begin() + rank);
  if (std::find(properties.chunk.begin(), properties.chunk.end(), 0) != properties.chunk.end())
    throw Error(Errc::damaged, name_of(place) + ": has a chunk without elements");
  const auto bytes = chunk_bytes(properties.chunk, element_bytes);
  if (!bytes || (*bytes > free_chunk_bytes && *bytes > dataset_bytes))
    throw Error(Errc::limit, name_of(place) +
                                 ": a chunk of more than 64 MiB that is larger than the dataset itself; "
                                 "rewrite it with smaller chunks, for example by h5repack -l CHUNK=...");
}

void read_fill(hid_t list, hid_t type, uint64_t element_bytes, Properties& properties, const Place& place) {
  H5D_fill_value_t state = H5D_FILL_VALUE_DEFAULT;
  require(H5Pfill_value_defined(list, &state), place, "read its fill value");
  if (state == H5D_FILL_VALUE_UNDEFINED) properties.fill = FillState::undefined;
  if (state != H5D_FILL_VALUE_USER_DEFINED) return;
  properties.fill = FillState::given;
  properties.fill_value.resize(element_bytes);
  require(H5Pget_fill_value(list, type, properties.fill_value.data()), place, "read its fill value");
}

int number_in(const auto& enumeration) {
  int number;
  static_assert(sizeof(enumeration) == sizeof(number));
  std::memcpy(&number, &enumeration, sizeof(number));
  return number;
}

void read_times(hid_t list, Properties& properties, const Place& place) {
  H5D_alloc_time_t allocation = H5D_ALLOC_TIME_DEFAULT;
  H5D_fill_time_t fill = H5D_FILL_TIME_IFSET;
  require(H5Pget_alloc_time(list, &allocation), place, "read its time of allocation");
  require(H5Pget_fill_time(list, &fill), place, "read its time of filling");
  // A damaged file may hold any number here, which an enumeration cannot.
  const int allocation_number = number_in(allocation);
  const int fill_number = number_in(fill);
  if (allocation_number < H5D_ALLOC_TIME_DEFAULT || allocation_number > H5D_ALLOC_TIME_INCR ||
      fill_number < H5D_FILL_TIME_ALLOC || fill_number > H5D_FILL_TIME_IFSET)
    throw Error(Errc::damaged, name_of(place) + ": has an unknown time of allocation or of filling");
  const bool default_allocation =
      allocation == H5D_ALLOC_TIME_DEFAULT || allocation == default_allocation_time(properties.layout);
  if (!default_allocation) properties.allocation_time = uint8_t(allocation);
  properties.fill_time = FillTime(fill_number);
}

void read_max_shape(hid_t space, Properties& properties, const Place& place) {
  std::array<hsize_t, H5S_MAX_RANK> dims{};
  std::array<hsize_t, H5S_MAX_RANK> max{};
  const int rank =
      require(H5Sget_simple_extent_dims(space, dims.data(), max.data()), place, "read its shape");
  for (int d = 0; d < rank; ++d)
    if (max[size_t(d)] < dims[size_t(d)])
      throw Error(Errc::damaged, name_of(place) + ": its shape exceeds its own maximal shape");
  if (!std::equal(dims.begin(), dims.begin() + rank, max.begin()))
    properties.max_shape.assign(max.begin(), max.begin() + rank);
}

/// The usual pipelines need one bit a filter: any subset, in the order shuffle, deflate, fletcher32.
bool in_usual_order(const std::vector<Filter>& filters) {
  auto rank = [](const Filter& filter) {
    return filter.kind == Filter::Kind::shuffle ? 0 : filter.kind == Filter::Kind::deflate ? 1 : 2;
  };
  for (size_t i = 1; i < filters.size(); ++i)
    if (rank(filters[i - 1]) >= rank(filters[i])) return false;
  return true;
}

uint8_t filter_bits(const std::vector<Filter>& filters) {
  uint8_t bits = 0;
  for (const Filter& filter : filters) {
    if (filter.kind == Filter::Kind::shuffle) bits |= has_shuffle;
    if (filter.kind == Filter::Kind::deflate) bits |= has_deflate;
    if (filter.kind == Filter::Kind::fletcher32) bits |= has_fletcher32;
  }
  return bits;
}

uint8_t extended_bits(const Properties& properties) {
  uint8_t bits = 0;
  if (!properties.max_shape.empty()) bits |= has_max_shape;
  if (properties.fill == FillState::given) bits |= has_fill_value;
  if (properties.fill == FillState::undefined) bits |= has_undefined_fill;
  if (properties.allocation_time) bits |= has_allocation_time;
  if (properties.fill_time == FillTime::never) bits |= never_fills;
  if (!in_usual_order(properties.filters)) bits |= has_filter_list;
  if (properties.attribute_order.tracked) bits |= tracks_attribute_order;
  if (properties.attribute_order.indexed) bits |= indexes_attribute_order;
  return bits;
}

void encode_filter_list(const std::vector<Filter>& filters, ByteWriter& out) {
  out.u8(uint8_t(filters.size()));
  for (const Filter& filter : filters) {
    out.u8(uint8_t(filter.kind));
    if (filter.kind == Filter::Kind::deflate) out.u8(filter.level);
  }
}

uint8_t decode_level(ByteReader& in) {
  const uint8_t level = in.u8();
  if (level > highest_deflate_level) in.damaged("deflate level " + std::to_string(level));
  return level;
}

std::vector<Filter> decode_filter_list(ByteReader& in) {
  const uint8_t count = in.u8();
  if (count > most_filters) in.damaged(std::to_string(count) + " filters");
  std::vector<Filter> filters;
  for (uint8_t i = 0; i < count; ++i) {
    const uint8_t kind = in.u8();
    if (kind < 1 || kind > 3) in.damaged("unknown filter " + std::to_string(kind));
    filters.push_back({Filter::Kind(kind)});
    if (filters.back().kind == Filter::Kind::deflate) filters.back().level = decode_level(in);
  }
  return filters;
}

std::vector<Filter> decode_usual_filters(ByteReader& in, uint8_t flags) {
  std::vector<Filter> filters;
  if (flags & has_shuffle) filters.push_back({Filter::Kind::shuffle});
  if (flags & has_deflate) filters.push_back({Filter::Kind::deflate, decode_level(in)});
  if (flags & has_fletcher32) filters.push_back({Filter::Kind::fletcher32});
  return filters;
}

/// Product of the shape times the element size, saturating: only compared with chunk sizes.
uint64_t saturating_bytes(std::span<const uint64_t> shape, uint64_t element_bytes) {
  uint64_t bytes = element_bytes;
  for (uint64_t extent : shape)
    if (__builtin_mul_overflow(bytes, extent, &bytes)) return UINT64_MAX;
  return bytes;
}

std::vector<uint64_t> decode_chunk(ByteReader& in, std::span<const uint64_t> shape, uint64_t element_bytes) {
  std::vector<uint64_t> chunk;
  for (uint64_t extent : shape) {
    const uint64_t stored = in.uvarint(largest_chunk_bytes);
    chunk.push_back(stored == 0 ? extent : stored);
    if (chunk.back() == 0) in.damaged("a chunk without elements");
  }
  if (chunk.empty()) in.damaged("chunks in a scalar");
  const auto bytes = chunk_bytes(chunk, element_bytes);
  if (!bytes || (*bytes > free_chunk_bytes && *bytes > saturating_bytes(shape, element_bytes)))
    in.damaged("a chunk larger than 64 MiB and than its dataset, or than 4 GiB");
  return chunk;
}

std::vector<uint64_t> decode_max_shape(ByteReader& in, std::span<const uint64_t> shape) {
  std::vector<uint64_t> max_shape;
  for (uint64_t extent : shape) {
    const uint64_t stored = in.uvarint();
    if (stored == 0) max_shape.push_back(extent);
    if (stored == 1) max_shape.push_back(unlimited);
    if (stored < 2) continue;
    if (stored - 1 >= unlimited - extent) in.damaged("a maximal extent beyond 64 bits");
    max_shape.push_back(extent + stored - 1);
  }
  return max_shape;
}

void decode_extension(ByteReader& in, uint8_t more, std::span<const uint64_t> shape, uint64_t element_bytes,
                      Properties& properties) {
  if (more & has_max_shape) properties.max_shape = decode_max_shape(in, shape);
  if ((more & has_fill_value) && (more & has_undefined_fill))
    in.damaged("a fill value both given and undefined");
  if (more & has_undefined_fill) properties.fill = FillState::undefined;
  if (more & has_fill_value) {
    properties.fill = FillState::given;
    properties.fill_value = std::string(in.raw(element_bytes));
  }
  if (more & has_allocation_time) {
    properties.allocation_time = in.u8();
    if (*properties.allocation_time < H5D_ALLOC_TIME_EARLY ||
        *properties.allocation_time > H5D_ALLOC_TIME_INCR)
      in.damaged("unknown time of allocation");
  }
  if (more & never_fills) {
    if (properties.fill_time != FillTime::if_set) in.damaged("two times of filling");
    properties.fill_time = FillTime::never;
  }
  if (more & has_filter_list) properties.filters = decode_filter_list(in);
  properties.attribute_order.tracked = more & tracks_attribute_order;
  properties.attribute_order.indexed = more & indexes_attribute_order;
}

void add_filter(hid_t list, const Filter& filter, const Place& place) {
  switch (filter.kind) {
    case Filter::Kind::deflate:
      require(H5Pset_deflate(list, filter.level), place, "set deflate");
      break;
    case Filter::Kind::shuffle:
      require(H5Pset_shuffle(list), place, "set shuffle");
      break;
    case Filter::Kind::fletcher32:
      require(H5Pset_fletcher32(list), place, "set fletcher32");
      break;
  }
}

void set_layout(hid_t list, const Properties& properties, const Place& place) {
  if (properties.layout == Layout::compact)
    require(H5Pset_layout(list, H5D_COMPACT), place, "set a compact layout");
  if (properties.layout != Layout::chunked) return;
  const std::vector<hsize_t> chunk(properties.chunk.begin(), properties.chunk.end());
  require(H5Pset_chunk(list, int(chunk.size()), chunk.data()), place, "set the chunk shape");
}

}  // namespace

std::optional<uint64_t> chunk_bytes(std::span<const uint64_t> chunk, uint64_t element_bytes) {
  const uint64_t bytes = saturating_bytes(chunk, element_bytes);
  if (bytes > largest_chunk_bytes) return std::nullopt;
  return bytes;
}

Properties read_properties(hid_t list, hid_t space, hid_t type, bool with_fill, const Place& place) {
  Properties properties;
  const uint64_t element_bytes = H5Tget_size(type);
  properties.layout = read_layout(list, place);
  const int filter_count = require(H5Pget_nfilters(list), place, "count its filters");
  for (int i = 0; i < filter_count; ++i) properties.filters.push_back(read_filter(list, unsigned(i), place));
  if (properties.filters.size() > most_filters)
    throw Error(Errc::unsupported_format, name_of(place) + ": has more than 16 filters");
  if (properties.layout != Layout::chunked && !properties.filters.empty())
    throw Error(Errc::damaged, name_of(place) + ": has filters but no chunks to filter");
  if (properties.layout == Layout::chunked) {
    const hssize_t elements = require(H5Sget_simple_extent_npoints(space), place, "count its elements");
    const uint64_t bytes[] = {uint64_t(elements)};
    read_chunks(list, element_bytes, saturating_bytes(bytes, element_bytes), properties, place);
  }
  if (H5Sget_simple_extent_type(space) == H5S_SIMPLE) read_max_shape(space, properties, place);
  if (with_fill) read_fill(list, type, element_bytes, properties, place);
  read_times(list, properties, place);
  unsigned order = 0;
  require(H5Pget_attr_creation_order(list, &order), place, "read the order of its attributes");
  properties.attribute_order = {(order & H5P_CRT_ORDER_TRACKED) != 0, (order & H5P_CRT_ORDER_INDEXED) != 0};
  return properties;
}

Handle make_creation_list(const Properties& properties, hid_t type, const Place& place) {
  Handle list(require(H5Pcreate(H5P_DATASET_CREATE), place, "make a property list"));
  require(H5Pset_obj_track_times(list, false), place, "leave out times");
  set_layout(list, properties, place);
  for (const Filter& filter : properties.filters) add_filter(list, filter, place);
  if (properties.fill == FillState::undefined)
    require(H5Pset_fill_value(list, type, nullptr), place, "leave the fill value undefined");
  if (properties.fill == FillState::given)
    require(H5Pset_fill_value(list, type, properties.fill_value.data()), place, "set the fill value");
  if (properties.allocation_time)
    require(H5Pset_alloc_time(list, H5D_alloc_time_t(*properties.allocation_time)), place,
            "set an allocation time");
  if (properties.fill_time != FillTime::if_set)
    require(H5Pset_fill_time(list, H5D_fill_time_t(properties.fill_time)), place, "set a time of filling");
  const unsigned order = (properties.attribute_order.tracked ? H5P_CRT_ORDER_TRACKED : 0) |
                         (properties.attribute_order.indexed ? H5P_CRT_ORDER_INDEXED : 0);
  if (order != 0) require(H5Pset_attr_creation_order(list, order), place, "set the order of attributes");
  return list;
}

Handle make_space(std::span<const uint64_t> shape, const Properties& properties, const Place& place) {
  if (shape.empty()) return Handle(require(H5Screate(H5S_SCALAR), place, "make a scalar dataspace"));
  const std::vector<hsize_t> dims(shape.begin(), shape.end());
  std::vector<hsize_t> max(dims);
  for (size_t d = 0; d < properties.max_shape.size(); ++d)
    max[d] = properties.max_shape[d] == unlimited ? H5S_UNLIMITED : properties.max_shape[d];
  return Handle(
      require(H5Screate_simple(int(dims.size()), dims.data(), max.data()), place, "make a dataspace"));
}

Handle make_access_list(std::span<const uint64_t> shape, std::span<const uint64_t> chunk,
                        uint64_t element_bytes, const Place& place) {
  const Slab slab = slab_at(shape, chunk, element_bytes, 0);
  bool covers_chunks = true;
  for (size_t d = 0; d < shape.size(); ++d) covers_chunks &= slab.extent[d] >= std::min(chunk[d], shape[d]);
  const uint64_t one_chunk = chunk_bytes(chunk, element_bytes).value_or(0);
  const uint64_t cache = covers_chunks ? 0 : std::max<uint64_t>(2 * slab_limit_bytes, one_chunk);
  // Several slots a chunk, so that few chunks push each other out.
  const uint64_t chunks_cached = cache / std::max<uint64_t>(1, one_chunk);
  const size_t slots = covers_chunks ? 0 : std::clamp<uint64_t>(10 * chunks_cached + 1, 101, 1000003);
  Handle list(require(H5Pcreate(H5P_DATASET_ACCESS), place, "make a property list"));
  require(H5Pset_chunk_cache(list, slots, cache, 1.0), place, "set its chunk cache");
  return list;
}

SlabSelection select_slab(hid_t dataset, std::span<const uint64_t> start, std::span<const uint64_t> extent,
                          const Place& place) {
  SlabSelection selection;
  selection.file = Handle(require(H5Dget_space(dataset), place, "read its shape"));
  selection.memory = make_space(extent, Properties{}, place);
  if (extent.empty()) return selection;
  const std::vector<hsize_t> from(start.begin(), start.end());
  const std::vector<hsize_t> size(extent.begin(), extent.end());
  require(H5Sselect_hyperslab(selection.file, H5S_SELECT_SET, from.data(), nullptr, size.data(), nullptr),
          place, "select a part of it");
  return selection;
}

void encode_properties(const Properties& properties, std::span<const uint64_t> shape, bool has_attributes,
                       ByteWriter& out) {
  const uint8_t more = extended_bits(properties);
  uint8_t flags = 0;
  if (properties.layout == Layout::chunked) flags |= has_chunks;
  if (properties.layout == Layout::compact) flags |= is_compact;
  if (!(more & has_filter_list)) flags |= filter_bits(properties.filters);
  if (has_attributes) flags |= attributes_follow;
  if (properties.fill_time == FillTime::on_allocation) flags |= fills_on_allocation;
  if (more != 0) flags |= more_follows;

  out.u8(flags);
  if (more != 0) out.u8(more);
  if (flags & has_deflate)
    for (const Filter& filter : properties.filters)
      if (filter.kind == Filter::Kind::deflate) out.u8(filter.level);
  for (size_t d = 0; d < properties.chunk.size(); ++d)
    out.uvarint(properties.chunk[d] == shape[d] ? 0 : properties.chunk[d]);
  if (more & has_max_shape)
    for (size_t d = 0; d < shape.size(); ++d) {
      const uint64_t max = properties.max_shape[d];
      out.uvarint(max == unlimited ? 1 : max == shape[d] ? 0 : max - shape[d] + 1);
    }
  if (more & has_fill_value) out.raw(properties.fill_value);
  if (more & has_allocation_time) out.u8(*properties.allocation_time);
  if (more & has_filter_list) encode_filter_list(properties.filters, out);
}

DecodedProperties decode_properties(ByteReader& in, std::span<const uint64_t> shape, uint64_t element_bytes) {
  DecodedProperties decoded;
  Properties& properties = decoded.properties;
  const uint8_t flags = in.u8();
  const uint8_t more = flags & more_follows ? in.u8() : 0;
  if ((flags & more_follows) && more == 0) in.damaged("an empty second byte of properties");
  if ((flags & has_chunks) && (flags & is_compact)) in.damaged("a layout both chunked and compact");
  const uint8_t filter_flags = flags & (has_shuffle | has_deflate | has_fletcher32);
  if ((more & has_filter_list) && filter_flags != 0) in.damaged("filters given twice");
  if (!(flags & has_chunks) && (filter_flags != 0 || (more & has_filter_list)))
    in.damaged("filters without chunks");

  if (flags & is_compact) properties.layout = Layout::compact;
  if (flags & has_chunks) properties.layout = Layout::chunked;
  properties.filters = decode_usual_filters(in, filter_flags);
  if (flags & has_chunks) properties.chunk = decode_chunk(in, shape, element_bytes);
  if (flags & fills_on_allocation) properties.fill_time = FillTime::on_allocation;
  decode_extension(in, more, shape, element_bytes, properties);
  decoded.has_attributes = flags & attributes_follow;
  return decoded;
}

}  // namespace jsq::hdf5

// A table of layers as HDF5 compounds.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "formats/hdf5/hdf5_file.hpp"
#include "formats/hdf5/hdf5_member.hpp"
#include "jsq/layers.hpp"

namespace jsq {
namespace hdf5 {
namespace {

constexpr uint64_t most_rows = 1 << 20;
constexpr hsize_t rows_at_once = 4096;  // a file can claim rows that it does not store
constexpr size_t longest_name = 256;
constexpr hsize_t most_dimensions = 32;

[[noreturn]] void refuse(const Place& place, const std::string& found) {
  throw Error(Errc::unsupported_format,
              fmt::format("{}: {}; expected a table of layers with the fields name, offset, ndim and shape",
                          name_of(place), found));
}

/// The type of a field, if the table has it.
Handle field_type(hid_t table_type, const char* field, const Place& place) {
  const int index = H5Tget_member_index(table_type, field);
  if (index < 0) refuse(place, fmt::format("it has no field '{}'", field));
  return Handle(require(H5Tget_member_type(table_type, unsigned(index)), place, "read a field's type"));
}

hsize_t extents_of(hid_t table_type, const Place& place) {
  const Handle type = field_type(table_type, "shape", place);
  if (H5Tget_class(type) != H5T_ARRAY || H5Tget_array_ndims(type) != 1)
    refuse(place, "its shape is no array");
  hsize_t extents = 0;
  require(H5Tget_array_dims2(type, &extents), place, "read the size of shape");
  if (extents > most_dimensions) refuse(place, fmt::format("its shape has {} extents", extents));
  return extents;
}

/// A row as it is read: the name, the offset, the number of dimensions, then the extents.
struct RowLayout {
  size_t offset = longest_name, ndim = offset + sizeof(int64_t), shape = ndim + sizeof(int64_t),
         bytes = shape;

  explicit RowLayout(hsize_t extents) : bytes(shape + size_t(extents) * sizeof(int64_t)) {}
};

Handle row_type(const RowLayout& layout, hsize_t extents, const Place& place) {
  Handle type(require(H5Tcreate(H5T_COMPOUND, layout.bytes), place, "make a datatype"));
  const Handle name(require(H5Tcopy(H5T_C_S1), place, "make a datatype"));
  require(H5Tset_size(name, longest_name), place, "make a datatype");
  const Handle shape(require(H5Tarray_create2(H5T_NATIVE_INT64, 1, &extents), place, "make a datatype"));
  require(H5Tinsert(type, "name", 0, name), place, "make a datatype");
  require(H5Tinsert(type, "offset", layout.offset, H5T_NATIVE_INT64), place, "make a datatype");
  require(H5Tinsert(type, "ndim", layout.ndim, H5T_NATIVE_INT64), place, "make a datatype");
  require(H5Tinsert(type, "shape", layout.shape, shape), place, "make a datatype");
  return type;
}

int64_t number_at(const char* row, size_t place) {
  int64_t number = 0;
  std::memcpy(&number, row + place, sizeof number);
  return number;
}

LayerRow parse_row(const char* bytes, const RowLayout& layout, hsize_t extents, size_t index,
                   const Place& place) {
  const int64_t offset = number_at(bytes, layout.offset), ndim = number_at(bytes, layout.ndim);
  if (offset < 0 || ndim < 0 || uint64_t(ndim) > extents)
    throw Error(Errc::damaged, fmt::format("{}: row {} has offset {} and {} dimensions", name_of(place),
                                           index, offset, ndim));
  LayerRow row{.name = std::string(bytes, strnlen(bytes, longest_name)), .offset = uint64_t(offset)};
  for (int64_t d = 0; d < ndim; ++d) {
    const int64_t extent = number_at(bytes, layout.shape + size_t(d) * sizeof(int64_t));
    if (extent <= 0)
      throw Error(Errc::damaged,
                  fmt::format("{}: row {} has an extent of {}", name_of(place), index, extent));
    row.shape.push_back(uint64_t(extent));
  }
  return row;
}

std::vector<LayerRow> read_table(hid_t file, const std::string& path, const std::string& member) {
  const Member found = find_member(file, path, member);
  const std::string object = "/" + found.path;
  const Place place{Errc::damaged, path, object};
  if (H5Iget_type(found.object) != H5I_DATASET) refuse(place, "it is a group");
  const Handle type(require(H5Dget_type(found.object), place, "read its datatype"));
  if (H5Tget_class(type) != H5T_COMPOUND) refuse(place, "it is no table");
  const Handle name = field_type(type, "name", place);
  if (H5Tget_class(name) != H5T_STRING || H5Tis_variable_str(name) > 0)
    refuse(place, "its names are no strings of fixed length");
  for (const char* field : {"offset", "ndim"})
    if (H5Tget_class(field_type(type, field, place)) != H5T_INTEGER)
      refuse(place, fmt::format("its {} is no whole number", field));
  const hsize_t extents = extents_of(type, place);
  const Handle space(require(H5Dget_space(found.object), place, "read its shape"));
  const hssize_t rows = require(H5Sget_simple_extent_npoints(space), place, "read its shape");
  if (uint64_t(rows) > most_rows)
    throw Error(Errc::limit,
                fmt::format("{}: {} rows; at most {} layers are read", name_of(place), rows, most_rows));
  if (H5Sget_simple_extent_ndims(space) != 1) refuse(place, "its rows are no list");
  const RowLayout layout(extents);
  const Handle memory = row_type(layout, extents, place);
  std::vector<LayerRow> layers;
  std::string bytes;
  for (hsize_t first = 0; first < hsize_t(rows); first += rows_at_once) {
    const hsize_t count = std::min(rows_at_once, hsize_t(rows) - first);
    bytes.assign(size_t(count) * layout.bytes, '\0');
    require(H5Sselect_hyperslab(space, H5S_SELECT_SET, &first, nullptr, &count, nullptr), place,
            "select its rows");
    const Handle piece(require(H5Screate_simple(1, &count, nullptr), place, "make a dataspace"));
    require(H5Dread(found.object, memory, piece, space, H5P_DEFAULT, bytes.data()), place, "read its rows");
    for (size_t i = 0; i < size_t(count); ++i)
      layers.push_back(parse_row(bytes.data() + i * layout.bytes, layout, extents, size_t(first) + i, place));
  }
  return layers;
}

}  // namespace
}  // namespace hdf5

std::vector<LayerRow> read_hdf5_layers(const std::string& path) {
  const size_t separator = path.find("::");
  const std::string file = path.substr(0, separator);
  const std::string member = separator == std::string::npos ? "/layers" : path.substr(separator + 2);
  hdf5::check_file(file);
  const hdf5::Session session;
  const hdf5::Handle handle = hdf5::open_file(file);
  return hdf5::read_table(handle, file, member);
}

}  // namespace jsq

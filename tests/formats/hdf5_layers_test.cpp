// Tables of layers in HDF5 files that the HDF5 library itself wrote, field by field: every layout of the
// fields that are asked for reads as the same layers, and a table that is none, or whose rows cannot be
// layers, is refused by name.
#include <gtest/gtest.h>
#include <hdf5.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "formats/hdf5/hdf5.hpp"
#include "jsq/error.hpp"
#include "tests/largest_allocation.hpp"

namespace jsq {
namespace {

namespace fs = std::filesystem;

/// A field of a table: its name, its type in the file, and where it stands in a row.
struct Field {
  std::string name;
  hid_t type;
  size_t at;
};

hid_t text_of(size_t bytes) {
  const hid_t type = H5Tcopy(H5T_C_S1);
  H5Tset_size(type, bytes);
  return type;
}

hid_t array_of(hid_t type, const std::vector<hsize_t>& extents) {
  return H5Tarray_create2(type, unsigned(extents.size()), extents.data());
}

/// One row as the tests write it: 64 bytes of name, 64-bit offset and number of dimensions, four extents.
struct Row {
  char name[64] = {};
  int64_t offset = 0, ndim = 0, shape[4] = {};

  Row(const char* row_name, int64_t row_offset, int64_t row_ndim, const std::vector<int64_t>& extents)
      : offset(row_offset), ndim(row_ndim) {
    std::strncpy(name, row_name, sizeof name);
    std::copy(extents.begin(), extents.end(), shape);
  }
};

std::vector<Field> usual_fields() {
  return {{"name", text_of(64), offsetof(Row, name)},
          {"offset", H5T_STD_I64LE, offsetof(Row, offset)},
          {"ndim", H5T_STD_I64LE, offsetof(Row, ndim)},
          {"shape", array_of(H5T_STD_I64LE, {4}), offsetof(Row, shape)}};
}

/// A file that goes with the test.
class LayerTable : public ::testing::Test {
 protected:
  LayerTable() : folder_((fs::temp_directory_path() / "jsq-layers-test-XXXXXX").string()) {
    if (::mkdtemp(folder_.data()) == nullptr) throw std::runtime_error("cannot make a scratch folder");
    path_ = folder_ + "/run.h5";
    file_ = H5Fcreate(path_.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  }
  ~LayerTable() override {
    close();
    fs::remove_all(folder_);
  }

  void close() {
    if (file_ >= 0) H5Fclose(file_);
    file_ = -1;
  }

  /// A data set of `rows` elements of `type`, in chunks, of which none is stored where `values` is null.
  void dataset(const std::string& name, hid_t type, hsize_t rows, const void* values,
               hid_t memory = H5I_INVALID_HID) {
    const hid_t space = H5Screate_simple(1, &rows, nullptr), properties = H5Pcreate(H5P_DATASET_CREATE),
                links = H5Pcreate(H5P_LINK_CREATE);
    const hsize_t chunk = std::max<hsize_t>(1, std::min<hsize_t>(rows, 1000));
    H5Pset_chunk(properties, 1, &chunk);
    H5Pset_create_intermediate_group(links, 1);
    const hid_t made = H5Dcreate2(file_, name.c_str(), type, space, links, properties, H5P_DEFAULT);
    ASSERT_GE(made, 0) << name;
    if (values) {
      ASSERT_GE(H5Dwrite(made, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, values), 0);
    }
    H5Dclose(made);
    H5Pclose(links);
    H5Pclose(properties);
    H5Sclose(space);
  }

  /// A table of the fields, packed as the file holds them; values are taken from `rows` by the usual layout.
  void table(const std::string& name, const std::vector<Field>& fields, const std::vector<Row>& rows,
             std::optional<hsize_t> unwritten = {}) {
    size_t bytes = 0;
    for (const Field& field : fields) bytes += H5Tget_size(field.type);
    const hid_t type = H5Tcreate(H5T_COMPOUND, bytes), memory = H5Tcreate(H5T_COMPOUND, sizeof(Row));
    size_t at = 0;
    for (const Field& field : fields) {
      H5Tinsert(type, field.name.c_str(), at, field.type);
      at += H5Tget_size(field.type);
    }
    for (const Field& field : usual_fields()) H5Tinsert(memory, field.name.c_str(), field.at, field.type);
    dataset(name, type, unwritten.value_or(rows.size()), unwritten ? nullptr : rows.data(), memory);
    H5Tclose(memory);
    H5Tclose(type);
  }

  std::vector<LayerRow> layers(const std::string& member = "") {
    close();
    return read_hdf5_layers(path_ + member);
  }

  /// What reading says, or the code `internal` when it says nothing.
  Error error(const std::string& member = "") {
    try {
      layers(member);
    } catch (const Error& error) {
      return error;
    }
    return Error(Errc::internal, "nothing was thrown");
  }

  void expect_refused(Errc code, const std::string& words, const std::string& member = "") {
    const Error found = error(member);
    EXPECT_EQ(found.code(), code) << found.what();
    EXPECT_NE(std::string(found.what()).find(words), std::string::npos) << found.what();
    EXPECT_NE(std::string(found.what()).find(path_), std::string::npos) << found.what();
  }

  std::string folder_, path_;
  hid_t file_ = -1;
};

const std::vector<Row> three_rows = {
    {"conv", 0, 4, {16, 3, 3, 3}}, {"bias", 432, 1, {16}}, {"scale", 448, 0, {}}};

void expect_three(const std::vector<LayerRow>& layers) {
  ASSERT_EQ(layers.size(), 3u);
  EXPECT_EQ(layers[0].name, "conv");
  EXPECT_EQ(layers[0].offset, 0u);
  EXPECT_EQ(layers[0].shape, (std::vector<uint64_t>{16, 3, 3, 3}));
  EXPECT_EQ(layers[1].name, "bias");
  EXPECT_EQ(layers[1].offset, 432u);
  EXPECT_EQ(layers[1].shape, std::vector<uint64_t>{16});
  EXPECT_EQ(layers[2].name, "scale");
  EXPECT_EQ(layers[2].offset, 448u);
  EXPECT_TRUE(layers[2].shape.empty());
}

TEST_F(LayerTable, IsFoundByItsUsualNameOrByAnyOther) {
  table("layers", usual_fields(), three_rows);
  table("run/tables/of layers", usual_fields(), {{"only", 7, 2, {5, 6}}});
  expect_three(layers());
  expect_three(layers("::/layers"));
  const std::vector<LayerRow> other = layers("::/run/tables/of layers");
  ASSERT_EQ(other.size(), 1u);
  EXPECT_EQ(other[0].name, "only");
  EXPECT_EQ(other[0].offset, 7u);
  EXPECT_EQ(other[0].shape, (std::vector<uint64_t>{5, 6}));
}

TEST_F(LayerTable, ReadsTheSameWhateverTheOrderAndTheWidthOfItsFields) {
  const std::vector<Field> fields = {{"shape", array_of(H5T_STD_U16BE, {4}), 0},
                                     {"ndim", H5T_STD_U8LE, 0},
                                     {"size", H5T_IEEE_F64LE, 0},
                                     {"offset", H5T_STD_I32BE, 0},
                                     {"name", text_of(6), 0}};
  table("layers", fields, three_rows);
  expect_three(layers());
}

TEST_F(LayerTable, NamesMayFillTheirFieldWithoutAnEnd) {
  std::vector<Field> fields = usual_fields();
  const hid_t padded = text_of(4);
  H5Tset_strpad(padded, H5T_STR_NULLPAD);
  fields[0].type = padded;
  table("layers", fields, {{"conv", 0, 1, {3}}, {"fc", 3, 1, {2}}});
  const std::vector<LayerRow> read = layers();
  ASSERT_EQ(read.size(), 2u);
  EXPECT_EQ(read[0].name, "conv");
  EXPECT_EQ(read[1].name, "fc");
}

TEST_F(LayerTable, OfManyRowsIsReadInTheirOrder) {
  std::vector<Row> rows;
  for (int64_t i = 0; i < 10000; ++i)
    rows.emplace_back(std::to_string(i).c_str(), 6 * i, 2, std::vector<int64_t>{2, 3});
  table("layers", usual_fields(), rows);
  const std::vector<LayerRow> read = layers();
  ASSERT_EQ(read.size(), rows.size());
  for (size_t i = 0; i < read.size(); ++i) {
    ASSERT_EQ(read[i].name, std::to_string(i));
    ASSERT_EQ(read[i].offset, 6 * i);
    ASSERT_EQ(read[i].shape, (std::vector<uint64_t>{2, 3}));
  }
}

TEST_F(LayerTable, WithoutRowsHasNoLayers) {
  table("layers", usual_fields(), {}, 0);
  EXPECT_TRUE(layers().empty());
}

TEST_F(LayerTable, NeedsEachOfItsFields) {
  for (size_t missing = 0; missing < 4; ++missing) {
    std::vector<Field> fields = usual_fields();
    fields.erase(fields.begin() + std::ptrdiff_t(missing));
    table("without " + usual_fields()[missing].name, fields, three_rows);
  }
  for (const std::string name : {"name", "offset", "ndim", "shape"})
    expect_refused(Errc::unsupported_format, "it has no field '" + name + "'", "::/without " + name);
}

TEST_F(LayerTable, NeedsFieldsOfTheirTypes) {
  const auto with = [&](const std::string& table_name, size_t field, hid_t type) {
    std::vector<Field> fields = usual_fields();
    fields[field].type = type;
    table(table_name, fields, {}, 2);
  };
  with("variable names", 0, text_of(H5T_VARIABLE));
  with("numbers for names", 0, H5T_STD_I64LE);
  with("offset of a float", 1, H5T_IEEE_F64LE);
  with("ndim of a float", 2, H5T_IEEE_F32LE);
  with("shape of a number", 3, H5T_STD_I64LE);
  with("shape of a matrix", 3, array_of(H5T_STD_I64LE, {2, 2}));
  with("33 extents", 3, array_of(H5T_STD_I64LE, {33}));
  for (const char* member : {"::/variable names", "::/numbers for names"})
    expect_refused(Errc::unsupported_format, "its names are no strings of fixed length", member);
  expect_refused(Errc::unsupported_format, "its offset is no whole number", "::/offset of a float");
  expect_refused(Errc::unsupported_format, "its ndim is no whole number", "::/ndim of a float");
  for (const char* member : {"::/shape of a number", "::/shape of a matrix"})
    expect_refused(Errc::unsupported_format, "its shape is no array", member);
  expect_refused(Errc::unsupported_format, "its shape has 33 extents", "::/33 extents");
}

TEST_F(LayerTable, IsNeitherAGroupNorNumbersNorARowAlone) {
  table("group/layers", usual_fields(), three_rows);
  const double numbers[] = {1, 2};
  dataset("numbers", H5T_IEEE_F64LE, 2, numbers, H5T_NATIVE_DOUBLE);
  const hid_t row = H5Tcreate(H5T_COMPOUND, sizeof(Row)), scalar = H5Screate(H5S_SCALAR);
  for (const Field& field : usual_fields()) H5Tinsert(row, field.name.c_str(), field.at, field.type);
  H5Dclose(H5Dcreate2(file_, "one", row, scalar, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
  H5Sclose(scalar);
  H5Tclose(row);
  expect_refused(Errc::unsupported_format, "it is a group", "::/group");
  expect_refused(Errc::unsupported_format, "it is no table", "::/numbers");
  expect_refused(Errc::unsupported_format, "its rows are no list", "::/one");
  EXPECT_EQ(error().code(), Errc::unknown_name);  // no /layers
  EXPECT_EQ(error("::/group/other").code(), Errc::unknown_name);
}

TEST_F(LayerTable, RefusesRowsThatAreNoLayers) {
  struct Case {
    std::string name, words;
    Row row;
  };
  const std::vector<Case> cases = {
      {"negative offset", "row 1 has offset -1 and 1 dimensions", {"a", -1, 1, {3}}},
      {"negative ndim", "row 1 has offset 5 and -1 dimensions", {"a", 5, -1, {3}}},
      {"more dimensions than extents", "row 1 has offset 5 and 5 dimensions", {"a", 5, 5, {1, 1, 1, 1}}},
      {"most dimensions", "row 1 has offset 5 and 9223372036854775807 dimensions", {"a", 5, INT64_MAX, {1}}},
      {"extent of zero", "row 1 has an extent of 0", {"a", 5, 2, {3, 0}}},
      {"negative extent", "row 1 has an extent of -4", {"a", 5, 1, {-4}}}};
  for (const Case& c : cases) table(c.name, usual_fields(), {three_rows[0], c.row});
  for (const Case& c : cases) expect_refused(Errc::damaged, c.words, "::/" + c.name);
}

TEST_F(LayerTable, TakesMemoryForTheLayersThatItHasAndNotForRowsThatItClaims) {
  std::vector<Field> fields = usual_fields();
  fields[3].type = array_of(H5T_STD_I64LE, {32});
  const hsize_t most = hsize_t(1) << 20;
  table("layers", fields, {}, most);
  table("too many", fields, {}, most + 1);
  expect_refused(Errc::limit, "1048577 rows; at most 1048576 layers are read", "::/too many");
  test::largest_allocation = 0;
  EXPECT_EQ(layers().size(), most);  // rows that were never stored are zeros: layers without extents
  EXPECT_LE(test::largest_allocation, size_t(80) << 20);
}

TEST_F(LayerTable, OfAFileThatIsNotThereOrIsNoHdf5IsRefused) {
  table("layers", usual_fields(), three_rows);
  close();
  const std::string whole = path_;
  path_ = folder_ + "/none.h5";
  expect_refused(Errc::not_found, "none.h5");
  std::ofstream(path_) << "layers: none";
  expect_refused(Errc::unsupported_format, "is not an HDF5 file");
  path_ = folder_;
  expect_refused(Errc::unsupported_format, "is not a regular file");
  // Cut within: the signature is there, and what it announces is not.
  path_ = folder_ + "/cut.h5";
  fs::copy_file(whole, path_);
  fs::resize_file(path_, 600);
  EXPECT_EQ(error().code(), Errc::damaged);
}

}  // namespace
}  // namespace jsq

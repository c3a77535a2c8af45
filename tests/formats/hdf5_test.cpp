// HDF5 against h5py: every good dump of make_hdf5_fixtures.py reads as h5py reads it and comes back with
// everything in it; every bad one is refused with the right code and words; hostile names and attachments
// never get past the sink. JSQ_FIXTURES (environment or definition) is the folder that script made.
// JSQ_SHARED (environment) or JSQ_SHARED_DIR (definition) is a folder with gradients/*.h5, real dumps that
// are copied too where they exist.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <hdf5.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <numeric>
#include <random>
#include <sstream>
#include <thread>

#include "formats/hdf5/hdf5.hpp"
#include "formats/hdf5/hdf5_attachment.hpp"
#include "formats/hdf5/hdf5_slab.hpp"
#include "jsq/error.hpp"

namespace jsq {
namespace {

namespace fs = std::filesystem;

fs::path fixtures() {
  if (const char* folder = std::getenv("JSQ_FIXTURES")) return folder;
#ifdef JSQ_FIXTURES
  return JSQ_FIXTURES;
#else
  throw std::runtime_error("set JSQ_FIXTURES to the folder that make_hdf5_fixtures.py made");
#endif
}

fs::path fixture(const std::string& name) {
  return fixtures() / "hdf5" / name;
}

std::string file_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path.string());
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_text(const fs::path& path, std::string_view text) {
  std::ofstream(path, std::ios::binary | std::ios::trunc).write(text.data(), std::streamsize(text.size()));
}

/// A folder of its own for each test, removed afterwards.
class Scratch {
 public:
  Scratch() : folder_((fs::temp_directory_path() / "jsq-hdf5-test-XXXXXX").string()) {
    if (::mkdtemp(folder_.data()) == nullptr) throw std::runtime_error("cannot make a scratch folder");
  }
  ~Scratch() { fs::remove_all(folder_); }
  fs::path operator/(const std::string& name) const { return fs::path(folder_) / name; }

 private:
  std::string folder_;
};

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  for (size_t from = 0;;) {
    const size_t to = text.find(separator, from);
    parts.push_back(text.substr(from, to - from));
    if (to == std::string::npos) return parts;
    from = to + 1;
  }
}

std::vector<std::vector<std::string>> table(const fs::path& path) {
  std::vector<std::vector<std::string>> rows;
  std::istringstream lines(file_text(path));
  for (std::string line; std::getline(lines, line);) rows.push_back(split(line, '\t'));
  return rows;
}

std::string from_hex(const std::string& hex) {
  std::string text;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) text += char(std::stoi(hex.substr(i, 2), nullptr, 16));
  return text;
}

Error error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  throw std::runtime_error("nothing was thrown");
}

std::vector<std::byte> stored(const GradientSource& source, size_t tensor, size_t piece = SIZE_MAX) {
  const TensorInfo& info = source.tensors()[tensor];
  const size_t bytes = dtype_bytes(info.dtype);
  std::vector<std::byte> all(info.stored_bytes());
  for (uint64_t at = 0; at < info.elements(); at += piece) {
    const size_t count = std::min<uint64_t>(piece, info.elements() - at);
    source.read_stored(tensor, at, count, all.data() + at * bytes);
    if (piece == SIZE_MAX) break;
  }
  return all;
}

void write_tensor(GradientSink& sink, size_t tensor, size_t element_bytes, std::span<const std::byte> all,
                  size_t piece) {
  for (size_t at = 0; at < all.size(); at += piece * element_bytes)
    sink.write(tensor, all.subspan(at, std::min(piece * element_bytes, all.size() - at)));
}

/// Copies a dump through source and sink in runs of `piece` elements.
void copy(const fs::path& from, const fs::path& to, size_t piece, const std::string& member = "") {
  const auto source = open_hdf5(from.string(), member);
  const auto sink = create_hdf5(to.string(), source->dump(), source->tensors());
  for (size_t t = 0; t < source->tensors().size(); ++t)
    write_tensor(*sink, t, dtype_bytes(source->tensors()[t].dtype), stored(*source, t), piece);
  sink->finish();
}

/// What h5py finds different between two files; "" if nothing.
std::string differences(const fs::path& original, const fs::path& restored,
                        const std::string& may_be_missing = "") {
  const std::string log = restored.string() + ".differences";
  std::string command = "/usr/bin/python3 '" + (fixtures() / "make_hdf5_fixtures.py").string() +
                        "' verify '" + original.string() + "' '" + restored.string() + "'";
  if (!may_be_missing.empty()) command += " --allow-missing '" + may_be_missing + "'";
  const int status = std::system((command + " > '" + log + "' 2>&1").c_str());
  const std::string text = file_text(log);
  return status == 0 ? text : "exit " + std::to_string(status) + ": " + text;
}

// ---------------------------------------------------------------- good files

struct Good {
  std::string name;
  std::string may_be_missing;
};
void PrintTo(const Good& good, std::ostream* out) {
  *out << good.name;
}

std::vector<Good> good_files() {
  std::vector<Good> all;
  for (const auto& row : table(fixture("good.tsv"))) all.push_back({row[0], row[1]});
  return all;
}

std::string test_name(std::string name) {
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
}

class GoodHdf5 : public testing::TestWithParam<Good> {};
INSTANTIATE_TEST_SUITE_P(Fixtures, GoodHdf5, testing::ValuesIn(good_files()),
                         [](const auto& file) { return test_name(file.param.name); });

TEST_P(GoodHdf5, ListsTheTensorsThatH5pyLists) {
  const auto source = open_hdf5(fixture(GetParam().name).string(), "");
  const auto rows = table(fixture(GetParam().name + ".tsv"));
  EXPECT_EQ(source->dump().format, DumpFormat::hdf5);
  ASSERT_EQ(source->tensors().size(), rows.size());
  for (size_t t = 0; t < rows.size(); ++t) {
    const TensorInfo& info = source->tensors()[t];
    EXPECT_EQ(info.name, from_hex(rows[t][0]));
    EXPECT_EQ(dtype_name(info.dtype), rows[t][1]) << info.name;
    EXPECT_EQ(info.big_endian, rows[t][2] == "1") << info.name;
    EXPECT_FALSE(info.fortran_order) << info.name;
    std::string shape;
    for (uint64_t extent : info.shape) {
      if (!shape.empty()) shape += ',';
      shape += std::to_string(extent);
    }
    EXPECT_EQ(shape.empty() ? "scalar" : shape, rows[t][3]) << info.name;
  }
}

TEST_P(GoodHdf5, ReadsEveryStoredBitInRunsOfAnyLength) {
  const auto source = open_hdf5(fixture(GetParam().name).string(), "");
  const std::string expected = file_text(fixture(GetParam().name + ".le"));
  for (size_t piece : {SIZE_MAX, size_t(65536), size_t(997), size_t(7)}) {
    if (piece == 7 && expected.size() > 1000000) continue;
    size_t at = 0;
    for (size_t t = 0; t < source->tensors().size(); ++t) {
      const auto bytes = stored(*source, t, piece);
      ASSERT_LE(at + bytes.size(), expected.size());
      ASSERT_TRUE(std::equal(bytes.begin(), bytes.end(),
                             std::as_bytes(std::span(expected)).begin() + std::ptrdiff_t(at)))
          << source->tensors()[t].name << " in runs of " << piece;
      at += bytes.size();
    }
    ASSERT_EQ(at, expected.size());
  }
}

TEST_P(GoodHdf5, ReadsTheFloatsThatNumpyConvertsTo) {
  const auto source = open_hdf5(fixture(GetParam().name).string(), "");
  const std::string bytes = file_text(fixture(GetParam().name + ".f32"));
  std::vector<float> expected(bytes.size() / sizeof(float));
  std::memcpy(expected.data(), bytes.data(), bytes.size());
  size_t base = 0;
  std::vector<float> scratch;
  for (size_t t = 0; t < source->tensors().size(); ++t) {
    const uint64_t elements = source->tensors()[t].elements();
    for (uint64_t at = 0; at < elements; at += 1009) {
      const size_t count = std::min<uint64_t>(1009, elements - at);
      const auto values = source->read(t, at, count, scratch);
      ASSERT_EQ(values.size(), count);
      for (size_t i = 0; i < count; ++i) {
        const float want = expected[base + at + i];
        if (std::isnan(want)) {
          ASSERT_TRUE(std::isnan(values[i])) << source->tensors()[t].name << " element " << at + i;
        } else {
          ASSERT_EQ(std::bit_cast<uint32_t>(values[i]), std::bit_cast<uint32_t>(want))
              << source->tensors()[t].name << " element " << at + i;
        }
      }
    }
    base += elements;
  }
  EXPECT_EQ(base, expected.size());
}

TEST_P(GoodHdf5, ComesBackWithEverythingThatH5pySees) {
  const Scratch scratch;
  copy(fixture(GetParam().name), scratch / "copy.h5", 1013);
  EXPECT_EQ(differences(fixture(GetParam().name), scratch / "copy.h5", GetParam().may_be_missing), "");
}

TEST_P(GoodHdf5, ComesBackAsTheSameBytesHoweverTheRunsEnd) {
  const Scratch scratch;
  copy(fixture(GetParam().name), scratch / "a.h5", 100000);
  copy(fixture(GetParam().name), scratch / "b.h5", 13);
  EXPECT_TRUE(file_text(scratch / "a.h5") == file_text(scratch / "b.h5"));
}

TEST_P(GoodHdf5, IsDescribedTheSameAfterACopy) {
  const Scratch scratch;
  copy(fixture(GetParam().name), scratch / "copy.h5", 4096);
  const auto before = open_hdf5(fixture(GetParam().name).string(), "");
  const auto after = open_hdf5((scratch / "copy.h5").string(), "");
  ASSERT_EQ(before->tensors().size(), after->tensors().size());
  for (size_t t = 0; t < before->tensors().size(); ++t)
    EXPECT_EQ(before->tensors()[t].attachment, after->tensors()[t].attachment) << before->tensors()[t].name;
}

TEST(Hdf5Verify, SeesOneChangedValueAttributeOrProperty) {
  const Scratch scratch;
  copy(fixture("extras.h5"), scratch / "copy.h5", 1000);
  ASSERT_EQ(differences(fixture("extras.h5"), scratch / "copy.h5"), "");
  const char* changes[] = {"f['ints'][3, 4] += 1",
                           "f['model/weight'][0, 0] = 7",
                           "f['model'].attrs['new'] = 1",
                           "f.attrs['int'] = 6",
                           "del f['described'].attrs['text']",
                           "f['names'][1] = 'x'",
                           "del f['empty/deeper']",
                           "f['another'] = 1",
                           "v = f['early'][()]; del f['early']; f['early'] = v.astype('>f4')"};
  for (const char* change : changes) {
    fs::copy_file(scratch / "copy.h5", scratch / "changed.h5", fs::copy_options::overwrite_existing);
    const std::string command = "/usr/bin/python3 -c \"import h5py; f = h5py.File('" +
                                (scratch / "changed.h5").string() + "', 'r+'); " + change + "; f.close()\"";
    ASSERT_EQ(std::system(command.c_str()), 0) << change;
    EXPECT_NE(differences(fixture("extras.h5"), scratch / "changed.h5"), "") << change;
  }
}

// ---------------------------------------------------------------- attachments stay small

TEST(Hdf5Attachment, IsEmptyForDefaultDatasetsInPlainGroups) {
  const auto source = open_hdf5(fixture("many.h5").string(), "");
  EXPECT_EQ(source->dump().attachment, "");
  for (const TensorInfo& info : source->tensors()) EXPECT_EQ(info.attachment, "") << info.name;
}

TEST(Hdf5Attachment, TakesAtMostEightBytesForChunksAndFilters) {
  for (const char* name : {"types.h5", "latest.h5"}) {
    const auto source = open_hdf5(fixture(name).string(), "");
    for (const TensorInfo& info : source->tensors()) EXPECT_LE(info.attachment.size(), 8u) << info.name;
  }
}

TEST(Hdf5Attachment, NamesWhatCouldNotBeCarried) {
  const auto source = open_hdf5(fixture("skipped.h5").string(), "");
  const auto lines = skipped_in_hdf5(source->dump());
  ASSERT_EQ(lines.size(), 5u);
  const std::pair<const char*, const char*> expected[] = {{"mixed", "variable-length strings inside"},
                                                          {"ragged", "sequences of variable length"},
                                                          {"references", "references"},
                                                          {"weight@reference", "references"},
                                                          {"@region", "references"}};
  for (size_t i = 0; i < lines.size(); ++i) {
    EXPECT_TRUE(lines[i].starts_with(std::string(expected[i].first) + ": ")) << lines[i];
    EXPECT_NE(lines[i].find(expected[i].second), std::string::npos) << lines[i];
  }
}

TEST(Hdf5Attachment, SaysThatAUserBlockIsNotCarriedAndReadsBehindIt) {
  const auto source = open_hdf5(fixture("user_block.h5").string(), "");
  ASSERT_EQ(skipped_in_hdf5(source->dump()).size(), 1u);
  EXPECT_NE(skipped_in_hdf5(source->dump())[0].find("user block"), std::string::npos);
  std::vector<float> scratch;
  const auto values = source->read(0, 0, 100, scratch);
  for (size_t i = 0; i < values.size(); ++i) EXPECT_EQ(values[i], float(i));
}

// ---------------------------------------------------------------- reading

TEST(Hdf5Source, PointsIntoTheFileForAlignedLittleEndianFloats) {
  const auto source = open_hdf5(fixture("many.h5").string(), "");
  size_t in_place = 0;
  std::vector<float> scratch;
  for (size_t t = 0; t < source->tensors().size(); ++t) {
    const auto values = source->read(t, 0, 3, scratch);
    in_place += scratch.empty() || values.data() != scratch.data();
    scratch.clear();
  }
  EXPECT_GT(in_place, 5000u);
}

TEST(Hdf5Source, ReadsRowsOfChunksLargerThanASlab) {
  const auto source = open_hdf5(fixture("tall.h5").string(), "");
  ASSERT_EQ(source->tensors().size(), 2u);
  for (size_t t = 0; t < 2; ++t) {
    std::vector<float> scratch;
    const uint64_t elements = source->tensors()[t].elements();
    ASSERT_EQ(elements, 10800000u);
    for (uint64_t at = 0; at < elements; at += 65536) {
      const size_t count = std::min<uint64_t>(65536, elements - at);
      const auto values = source->read(t, at, count, scratch);
      for (size_t i = 0; i < count; ++i) ASSERT_EQ(values[i], float((at + i) % 65521));
    }
  }
  // Out of order, in more slabs than are kept.
  std::vector<float> scratch;
  for (uint64_t i = 0; i < 40; ++i) {
    const uint64_t at = i * 7919093 % 10800000;
    ASSERT_EQ(source->read(i % 2, at, 1, scratch)[0], float(at % 65521)) << at;
  }
}

TEST(Hdf5Source, ReadsFromSeveralThreadsAtOnce) {
  const auto source = open_hdf5(fixture("slabs.h5").string(), "");
  std::vector<std::vector<std::byte>> expected;
  for (size_t t = 0; t < source->tensors().size(); ++t) expected.push_back(stored(*source, t));
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (size_t k = 0; k < 4; ++k)
    threads.emplace_back([&, k] {
      for (size_t i = 0; i < expected.size(); ++i) {
        const size_t t = (i * 7 + k * 5) % expected.size();
        wrong[k] += stored(*source, t, 4099 + k) != expected[t];
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4, 0));
}

TEST(Hdf5Source, LimitsItselfToAMemberAndKeepsFullNames) {
  for (const char* member : {"/gzip", "gzip/", "//gzip"}) {
    const auto source = open_hdf5(fixture("types.h5").string(), member);
    ASSERT_EQ(source->tensors().size(), 8u) << member;
    for (const TensorInfo& info : source->tensors()) EXPECT_TRUE(info.name.starts_with("gzip/")) << info.name;
  }
  const auto one = open_hdf5(fixture("types.h5").string(), "/scalar/f16_be");
  ASSERT_EQ(one->tensors().size(), 1u);
  EXPECT_EQ(one->tensors()[0].name, "scalar/f16_be");
  EXPECT_EQ(open_hdf5(fixture("types.h5").string(), "/")->tensors().size(),
            open_hdf5(fixture("types.h5").string(), "")->tensors().size());
}

TEST(Hdf5Source, WritesAMemberBackWithItsAttributesAndWithoutTheRest) {
  const Scratch scratch;
  copy(fixture("extras.h5"), scratch / "model.h5", 100, "/model");
  const std::string command =
      "/usr/bin/python3 -c \"import h5py, sys; f = h5py.File('" + (scratch / "model.h5").string() +
      "', 'r'); sys.exit(list(f) != ['model'] or len(f['model/weight'].attrs) != 16 or "
      "len(f.attrs) != 0)\"";
  EXPECT_EQ(std::system(command.c_str()), 0);
}

TEST(Hdf5Source, RefusesDamagedChecksumsWhenTheyAreRead) {
  const auto source = open_hdf5(fixture("checksum.h5").string(), "");
  const Error error = error_of([&] { stored(*source, 0); });
  EXPECT_EQ(error.code(), Errc::damaged);
  EXPECT_NE(std::string(error.what()).find("'/weight'"), std::string::npos) << error.what();
  EXPECT_NE(std::string(error.what()).find("Fletcher32"), std::string::npos) << error.what();
}

TEST(Hdf5Source, RefusesARangeBeyondTheTensor) {
  const auto source = open_hdf5(fixture("v18.h5").string(), "");
  std::vector<float> scratch;
  EXPECT_EQ(source->read(0, 20, 0, scratch).size(), 0u);
  EXPECT_EQ(error_of([&] { source->read(0, 20, 1, scratch); }).code(), Errc::internal);
  EXPECT_EQ(error_of([&] { source->read(0, UINT64_MAX, 2, scratch); }).code(), Errc::internal);
  EXPECT_EQ(error_of([&] { source->read(1, 0, 1, scratch); }).code(), Errc::internal);
}

struct Bad {
  std::string name, member, error, fragments;
};
void PrintTo(const Bad& bad, std::ostream* out) {
  *out << bad.name << "::" << bad.member;
}

std::vector<Bad> bad_files() {
  std::vector<Bad> all;
  for (const auto& row : table(fixture("bad.tsv"))) all.push_back({row[0], row[1], row[2], row[3]});
  return all;
}

class BadHdf5 : public testing::TestWithParam<Bad> {};
INSTANTIATE_TEST_SUITE_P(Fixtures, BadHdf5, testing::ValuesIn(bad_files()),
                         [](const auto& file) { return test_name(file.param.name + file.param.member); });

TEST_P(BadHdf5, IsRefusedWithTheReason) {
  const Error error = error_of([] { open_hdf5(fixture(GetParam().name).string(), GetParam().member); });
  EXPECT_EQ(error_name(error.code()), GetParam().error) << error.what();
  const std::string message = error.what();
  EXPECT_NE(message.find(GetParam().name), std::string::npos) << message;
  for (const std::string& fragment : split(GetParam().fragments, '|'))
    EXPECT_NE(message.find(fragment), std::string::npos) << message;
}

TEST(Hdf5Source, RefusesAFolderAndAPipe) {
  const Scratch scratch;
  EXPECT_EQ(error_of([&] { open_hdf5((scratch / "").string(), ""); }).code(), Errc::unsupported_format);
  ASSERT_EQ(::mkfifo((scratch / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(error_of([&] { open_hdf5((scratch / "pipe").string(), ""); }).code(), Errc::unsupported_format);
}

TEST(Hdf5Source, RefusesEveryTruncation) {
  const Scratch scratch;
  for (const char* name : {"extras.h5", "latest.h5", "links.h5", "types.h5"}) {
    const std::string whole = file_text(fixture(name));
    const size_t step = std::max<size_t>(1, whole.size() / 300);
    std::vector<size_t> lengths{whole.size() - 1, 0, 1, 7, 8, 9, 47, 48, 95, 96};
    for (size_t length = 0; length < whole.size(); length += step) lengths.push_back(length);
    for (size_t length : lengths) {
      write_text(scratch / "cut.h5", std::string_view(whole).substr(0, length));
      const Error error = error_of([&] { open_hdf5((scratch / "cut.h5").string(), ""); });
      EXPECT_EQ(error.code(), length < 8 ? Errc::unsupported_format : Errc::damaged)
          << name << " at " << length;
    }
  }
}

TEST(Hdf5Session, LeavesTheErrorPrinterOfTheProgramInPlace) {
  H5E_auto2_t before = nullptr;
  H5E_auto2_t after = nullptr;
  void* data = nullptr;
  H5Eget_auto2(H5E_DEFAULT, &before, &data);
  open_hdf5(fixture("v18.h5").string(), "");
  H5Eget_auto2(H5E_DEFAULT, &after, &data);
  EXPECT_NE(before, nullptr);
  EXPECT_EQ(before, after);
}

// ---------------------------------------------------------------- writing

TensorInfo f32_tensor(const std::string& name, std::vector<uint64_t> shape) {
  TensorInfo info{.name = name};
  info.shape = std::move(shape);
  return info;
}

std::vector<std::byte> counted(size_t elements) {
  std::vector<float> values(elements);
  std::iota(values.begin(), values.end(), 0.0f);
  std::vector<std::byte> bytes(elements * sizeof(float));
  encode_elements(DType::f32, values, bytes.data());
  return bytes;
}

const DumpInfo plain_dump{DumpFormat::hdf5, ""};

TEST(Hdf5Sink, MakesGroupsFromNamesWithoutAttachments) {
  const Scratch scratch;
  const std::vector<TensorInfo> tensors{f32_tensor("b/c/weight", {2, 3}), f32_tensor("a", {}),
                                        f32_tensor("b/empty", {0, 4})};
  const auto sink = create_hdf5((scratch / "x.h5").string(), plain_dump, tensors);
  sink->write(0, counted(6));
  sink->write(1, counted(1));
  sink->finish();
  const auto source = open_hdf5((scratch / "x.h5").string(), "");
  ASSERT_EQ(source->tensors().size(), 3u);
  EXPECT_EQ(source->tensors()[0].name, "a");
  EXPECT_EQ(source->tensors()[1].name, "b/c/weight");
  EXPECT_EQ(source->tensors()[1].shape, (std::vector<uint64_t>{2, 3}));
  EXPECT_EQ(source->tensors()[1].attachment, "");
  EXPECT_EQ(stored(*source, 1), counted(6));
  EXPECT_EQ(source->tensors()[2].shape, (std::vector<uint64_t>{0, 4}));
}

TEST(Hdf5Sink, NamesALoneTensorWithoutANameData) {
  const Scratch scratch;
  const auto sink = create_hdf5((scratch / "x.h5").string(), plain_dump, {f32_tensor("", {4})});
  sink->write(0, counted(4));
  sink->finish();
  EXPECT_EQ(open_hdf5((scratch / "x.h5").string(), "")->tensors()[0].name, "data");
}

TEST(Hdf5Sink, TurnsFortranOrderIntoTheSameLogicalArray) {
  const Scratch scratch;
  TensorInfo info = f32_tensor("w", {3, 4, 5});
  info.fortran_order = true;
  for (bool big_endian : {false, true}) {
    info.big_endian = big_endian;
    const auto sink = create_hdf5((scratch / "x.h5").string(), plain_dump, {info});
    write_tensor(*sink, 0, 4, counted(60), 7);
    sink->finish();
    const auto source = open_hdf5((scratch / "x.h5").string(), "");
    EXPECT_EQ(source->tensors()[0].shape, info.shape);
    std::vector<float> memory;
    const auto values = source->read(0, 0, 60, memory);
    // Stored in Fortran order, element (i, j, k) was number i + 3 j + 12 k.
    for (size_t i = 0; i < 3; ++i)
      for (size_t j = 0; j < 4; ++j)
        for (size_t k = 0; k < 5; ++k) EXPECT_EQ(values[i * 20 + j * 5 + k], float(i + 3 * j + 12 * k));
  }
}

TEST(Hdf5Sink, RefusesNamesThatHdf5WouldReadAsSomethingElse) {
  const Scratch scratch;
  std::string deep = "g";
  for (int i = 0; i < 200; ++i) deep += "/g";
  for (const std::string& name : {std::string("/a"), std::string("a/"), std::string("a//b"), std::string("."),
                                  std::string(".."), std::string("a/../b"), std::string("a/./b"),
                                  std::string("../../etc/passwd"), std::string("a\0b", 3), deep}) {
    const Error error =
        error_of([&] { create_hdf5((scratch / "x.h5").string(), plain_dump, {f32_tensor(name, {1})}); });
    EXPECT_EQ(error.code(), Errc::damaged) << name;
    EXPECT_EQ(std::string(error.what()).find('\0'), std::string::npos);
  }
}

TEST(Hdf5Sink, RefusesShapesThatHdf5CannotHold) {
  const Scratch scratch;
  const auto refusal = [&](std::vector<uint64_t> shape) {
    return error_of([&] { create_hdf5((scratch / "x.h5").string(), plain_dump, {f32_tensor("w", shape)}); });
  };
  EXPECT_EQ(refusal(std::vector<uint64_t>(33, 1)).code(), Errc::unsupported_format);
  EXPECT_EQ(refusal({uint64_t(1) << 61}).code(), Errc::damaged);
  EXPECT_EQ(refusal({uint64_t(1) << 31, uint64_t(1) << 31}).code(), Errc::damaged);
}

TEST(Hdf5Sink, RefusesAStream) {
  const Error error = error_of([] { create_gradients("-", {DumpFormat::hdf5, ""}, {f32_tensor("w", {1})}); });
  EXPECT_EQ(error.code(), Errc::unsupported_format);
  EXPECT_NE(std::string(error.what()).find("name an output file"), std::string::npos);
}

TEST(Hdf5Sink, RefusesNamesThatClash) {
  const Scratch scratch;
  const std::vector<std::vector<std::string>> cases{
      {"a", "a"}, {"a", "a/b"}, {"a/b", "a"}, {"a/b/c", "a/b"}, {"", "b"}};
  for (const auto& names : cases) {
    std::vector<TensorInfo> tensors;
    for (const std::string& name : names) tensors.push_back(f32_tensor(name, {1}));
    EXPECT_EQ(error_of([&] { create_hdf5((scratch / "x.h5").string(), plain_dump, tensors); }).code(),
              Errc::damaged)
        << names[0] << " and " << names[1];
  }
}

TEST(Hdf5Sink, RefusesRecordsThatClashWithTensors) {
  const Scratch scratch;
  for (const char* path : {"w", "w/below", "..", "/w2", ""}) {
    hdf5::AttachmentWriter writer;
    writer.add(hdf5::RecordKind::soft_link, path, "/elsewhere");
    const DumpInfo dump{DumpFormat::hdf5, writer.finish(hdf5::Generation::earliest)};
    EXPECT_EQ(
        error_of([&] { create_hdf5((scratch / "x.h5").string(), dump, {f32_tensor("w", {1})}); }).code(),
        Errc::damaged)
        << path;
  }
}

TEST(Hdf5Sink, NeverWritesThroughASoftLinkOfAnAttachment) {
  const Scratch scratch;
  hdf5::AttachmentWriter writer;
  writer.add(hdf5::RecordKind::soft_link, "a", "/b");
  const DumpInfo dump{DumpFormat::hdf5, writer.finish(hdf5::Generation::earliest)};
  const std::vector<TensorInfo> tensors{f32_tensor("a/w", {1}), f32_tensor("b/v", {1})};
  EXPECT_EQ(error_of([&] { create_hdf5((scratch / "x.h5").string(), dump, tensors); }).code(), Errc::damaged);
}

TEST(Hdf5Sink, LeavesOutHardLinksToTensorsThatAreNotWritten) {
  const Scratch scratch;
  const auto source = open_hdf5(fixture("links.h5").string(), "");
  const auto sink = create_hdf5((scratch / "x.h5").string(), source->dump(), {f32_tensor("other", {1})});
  sink->write(0, counted(1));
  sink->finish();
  EXPECT_EQ(open_hdf5((scratch / "x.h5").string(), "")->tensors().size(), 1u);
}

TEST(Hdf5Sink, RefusesWritesOutOfOrderIncompleteOrBeyondTheTensor) {
  const Scratch scratch;
  const std::vector<TensorInfo> tensors{f32_tensor("a", {4}), f32_tensor("b", {4})};
  const auto make = [&] { return create_hdf5((scratch / "x.h5").string(), plain_dump, tensors); };
  EXPECT_EQ(error_of([&] { make()->write(1, counted(4)); }).code(), Errc::internal);
  EXPECT_EQ(error_of([&] { make()->write(2, counted(4)); }).code(), Errc::internal);
  EXPECT_EQ(error_of([&] { make()->write(0, counted(5)); }).code(), Errc::internal);
  EXPECT_EQ(error_of([&] {
              create_hdf5((scratch / "y.h5").string(), plain_dump, {f32_tensor("none", {0, 3})})
                  ->write(0, counted(3));
            }).code(),
            Errc::internal);
  EXPECT_EQ(error_of([&] {
              const auto values = counted(4);
              make()->write(0, std::span(values).first(7));
            }).code(),
            Errc::internal);
  EXPECT_EQ(error_of([&] {
              const auto sink = make();
              sink->write(0, counted(4));
              sink->write(1, counted(3));
              sink->finish();
            }).code(),
            Errc::internal);
}

TEST(Hdf5Sink, SaysWhyAFileCannotBeCreated) {
  const Scratch scratch;
  const Error error =
      error_of([&] { create_hdf5((scratch / "no/such/x.h5").string(), plain_dump, {f32_tensor("w", {1})}); });
  EXPECT_EQ(error.code(), Errc::write_failed);
  EXPECT_NE(std::string(error.what()).find("No such file or directory"), std::string::npos) << error.what();
}

TEST(Hdf5Sink, ReportsAFullDisk) {
  const auto fill = [] {
    const auto sink = create_hdf5("/dev/full", plain_dump, {f32_tensor("w", {1 << 20})});
    sink->write(0, counted(1 << 20));
    sink->finish();
  };
  const Error error = error_of(fill);
  EXPECT_EQ(error.code(), Errc::write_failed);
  EXPECT_NE(std::string(error.what()).find("No space left"), std::string::npos) << error.what();
}

/// Limits the size of files that this process may write, while it lives.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limited{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limited);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  void (*handler_)(int);
  rlimit before_{};
};

TEST(Hdf5Sink, ReportsADiskThatFillsUpAtAnyMoment) {
  const Scratch scratch;
  const auto source = open_hdf5(fixture("extras.h5").string(), "");
  const uint64_t whole = file_text(fixture("extras.h5")).size();
  size_t failures = 0;
  for (rlim_t limit = 0; limit < whole / 2; limit += whole / 24) {
    const FileSizeLimit guard(limit);
    const Error error = error_of([&] { copy(fixture("extras.h5"), scratch / "x.h5", 100); });
    EXPECT_EQ(error.code(), Errc::write_failed) << "at " << limit << ": " << error.what();
    ++failures;
  }
  EXPECT_GT(failures, 10u);
  // The library must be usable afterwards.
  copy(fixture("extras.h5"), scratch / "y.h5", 100);
  EXPECT_EQ(differences(fixture("extras.h5"), scratch / "y.h5"), "");
}

// ---------------------------------------------------------------- hostile attachments

/// Creates and finishes a dump with zeros, and tells whether that was refused; any other end is a failure of
/// the test.
bool is_refused(const fs::path& path, const DumpInfo& dump, const std::vector<TensorInfo>& tensors) {
  try {
    const auto sink = create_hdf5(path.string(), dump, tensors);
    for (size_t t = 0; t < tensors.size(); ++t) {
      const std::vector<std::byte> zeros(tensors[t].stored_bytes());
      sink->write(t, zeros);
    }
    sink->finish();
    return false;
  } catch (const Error& error) {
    EXPECT_TRUE(error.code() == Errc::damaged || error.code() == Errc::limit ||
                error.code() == Errc::write_failed)
        << error.what();
    return true;
  }
}

TEST(HostileHdf5Attachment, IsRefusedOrHarmlessWhenCutAnywhere) {
  const Scratch scratch;
  const auto source = open_hdf5(fixture("extras.h5").string(), "");
  const std::string& whole = source->dump().attachment;
  size_t refused = 0;
  size_t tried = 0;
  for (size_t length = 1; length < whole.size(); length += 29, ++tried)
    refused += is_refused(scratch / "x.h5", {DumpFormat::hdf5, whole.substr(0, length)}, source->tensors());
  EXPECT_GT(refused, tried * 9 / 10);
}

TEST(HostileHdf5Attachment, IsRefusedOrHarmlessWhenABitIsFlipped) {
  const Scratch scratch;
  std::mt19937 random(20240603);
  for (const char* name : {"extras.h5", "ordered_latest.h5", "links.h5"}) {
    const auto source = open_hdf5(fixture(name).string(), "");
    for (int i = 0; i < 300; ++i) {
      DumpInfo dump = source->dump();
      // Most of an attachment is data: half of the flips go where the structure is dense.
      const size_t size =
          i % 2 == 0 ? dump.attachment.size() : std::min<size_t>(dump.attachment.size(), 1500);
      dump.attachment[random() % size] ^= char(1 << (random() % 8));
      is_refused(scratch / "x.h5", dump, source->tensors());
    }
  }
}

TEST(HostileHdf5Attachment, OfATensorIsRefusedWhenCutAndHarmlessWhenChanged) {
  const Scratch scratch;
  const auto source = open_hdf5(fixture("extras.h5").string(), "");
  for (const TensorInfo& original : source->tensors()) {
    for (size_t length = 1; length < original.attachment.size(); ++length) {
      TensorInfo info = original;
      info.attachment.resize(length);
      EXPECT_TRUE(is_refused(scratch / "x.h5", plain_dump, {info})) << original.name << " cut at " << length;
    }
    for (size_t at = 0; at < std::min<size_t>(original.attachment.size(), 24); ++at)
      for (int value : {0x00, 0x01, 0x1f, 0x20, 0x3f, 0x40, 0x7f, 0x80, 0xff}) {
        TensorInfo info = original;
        info.attachment[at] = char(value);
        is_refused(scratch / "x.h5", plain_dump, {info});
      }
  }
}

struct HostileProperties {
  const char* what;
  std::vector<uint8_t> bytes;
};

TEST(HostileHdf5Attachment, OfATensorMayNotClaimWhatItIsNot) {
  const Scratch scratch;
  const HostileProperties cases[] = {
      {"deflate level 10", {1 + 8, 10, 2}},
      {"filters without chunks", {8, 6}},
      {"chunked and compact", {3, 2}},
      {"chunk beyond 4 GiB", {1, 0xff, 0xff, 0xff, 0xff, 0x0f}},
      {"chunk of 256 MiB for four elements", {1, 0x80, 0x80, 0x80, 0x20}},
      {"chunk larger than a fixed extent", {1, 5}},
      {"an empty second byte", {64, 0}},
      {"unknown filter", {1 + 64, 32, 2, 1, 4}},
      {"seventeen filters", {1 + 64, 32, 2, 17}},
      {"fill value both given and undefined", {64, 6, 0, 0, 0, 0}},
      {"maximal extent beyond 64 bits", {64, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}},
      {"unknown time of allocation", {64, 8, 4}},
      {"order of attributes indexed but not tracked", {64, 128}},
      {"bytes behind the end", {0, 0}},
      {"more attributes than bytes", {32, 0xff, 0xff, 0x03}},
      {"attribute of unknown type", {32, 1, 1, 'a', 0x7f}},
      {"attribute larger than its bytes", {32, 1, 1, 'a', 0x13, 1, 0xff, 0xff, 0xff, 0xff, 0x0f}},
      {"texts beyond the bytes", {32, 1, 1, 'a', 0x3c, 1, 0xff, 0xff, 0xff, 0xff, 0x0f}},
      {"two attributes of one name", {32, 2, 1, 'a', 0x10, 0, 7, 1, 'a', 0x10, 0, 7}},
      {"attribute without a name", {32, 1, 0, 0x10, 0, 7}},
      {"attribute of 33 dimensions", {32, 1, 1, 'a', 0x10, 33}},
      {"member beyond its compound", {32, 1, 1, 'a', 0x40, 4, 1, 1, 'm', 2, 0x12, 0, 0, 0, 0, 0}},
      {"members that overlap", {32, 1, 1, 'a', 0x40, 4, 2, 1, 'm', 0, 0x12, 1, 'n', 2, 0x11, 0, 0, 0, 0, 0}},
      {"text inside a compound", {32, 1, 1, 'a', 0x40, 16, 1, 1, 'm', 0, 0x3c, 0}},
      {"enumeration of floats", {32, 1, 1, 'a', 0x41, 0x23, 0, 0}},
      {"array beyond 16 MiB", {32, 1, 1, 'a', 0x42, 2, 0xff, 0xff, 0x03, 0xff, 0xff, 0x03, 0x10, 0}},
      {"types nested without end",
       {32,   1, 1, 'a',  0x42, 1, 1,    0x42, 1, 1,    0x42, 1, 1,    0x42, 1, 1,    0x42, 1, 1,
        0x42, 1, 1, 0x42, 1,    1, 0x42, 1,    1, 0x42, 1,    1, 0x42, 1,    1, 0x10, 0,    7}},
  };
  for (const HostileProperties& hostile : cases) {
    TensorInfo info = f32_tensor("w", {4});
    info.attachment.assign(hostile.bytes.begin(), hostile.bytes.end());
    const Error error = error_of([&] { create_hdf5((scratch / "x.h5").string(), plain_dump, {info}); });
    EXPECT_EQ(error.code(), Errc::damaged) << hostile.what << ": " << error.what();
  }
}

struct HostileRecord {
  hdf5::RecordKind kind;
  std::string body;
  const char* reason;
};

TEST(HostileHdf5Attachment, OfARecordMayNotClaimWhatItIsNot) {
  using hdf5::RecordKind;
  const Scratch scratch;
  const HostileRecord cases[] = {
      // int8, a shape, properties, values or none
      {RecordKind::dataset, std::string("\x10\x01\x64\x02\x00", 5), "values reach beyond the end"},
      {RecordKind::dataset,
       std::string("\x10\x02\x80\x80\x80\x80\x80\x01\x80\x80\x80\x80\x80\x01\x00\x00", 16),
       "a shape beyond 2^63 elements"},
      {RecordKind::dataset, std::string("\x10\x00\x00\x02", 4), "unknown mark 2 before the values"},
      // a float of 2 bytes whose fields are those of binary16
      {RecordKind::named_type,
       std::string("\x45\x00\x02\x10\x00\x00\x00\x0f\x0a\x05\x00\x0a\x0f\x03\x00\x00", 16),
       "normalisation code 3"},
      {RecordKind::named_type,
       std::string("\x45\x00\x02\x10\x00\x00\x00\x0f\x0a\x05\x00\x0a\x0f\x00\x03\x00", 16), "padding code 3"},
      {RecordKind::named_type, std::string("\x10\x01"), "unknown datatype flags"},
      {RecordKind::soft_link, std::string("/w\0x", 4), "the target of a soft link holds a NUL byte"},
      {RecordKind::hard_link, "w", "the target of a hard link is not an absolute path"},
      {RecordKind::hard_link, "/a_link", "a hard link to another link"},
  };
  for (const HostileRecord& hostile : cases) {
    hdf5::AttachmentWriter writer;
    writer.add(RecordKind::soft_link, "a_link", "/w");
    writer.add(hostile.kind, "hostile", hostile.body);
    const DumpInfo dump{DumpFormat::hdf5, writer.finish(hdf5::Generation::earliest)};
    const Error error =
        error_of([&] { create_hdf5((scratch / "x.h5").string(), dump, {f32_tensor("w", {4})})->finish(); });
    EXPECT_EQ(error.code(), Errc::damaged) << hostile.reason;
    EXPECT_NE(std::string(error.what()).find(hostile.reason), std::string::npos) << error.what();
  }
}

TEST(HostileHdf5Attachment, MayNotGiveAnAddressAsTheFillValueOfTexts) {
  const Scratch scratch;
  // variable-length string, scalar, fill value of 8 bytes, no data
  const std::string body("\x3c\x00\x40\x02\x41\x41\x41\x41\x41\x41\x41\x41\x00", 13);
  hdf5::AttachmentWriter writer;
  writer.add(hdf5::RecordKind::dataset, "texts", body);
  const DumpInfo dump{DumpFormat::hdf5, writer.finish(hdf5::Generation::earliest)};
  const Error error =
      error_of([&] { create_hdf5((scratch / "x.h5").string(), dump, {f32_tensor("w", {4})}); });
  EXPECT_EQ(error.code(), Errc::damaged);
  EXPECT_NE(std::string(error.what()).find("address"), std::string::npos) << error.what();
}

TEST(HostileHdf5Attachment, MayNotFillADiskWithPadding) {
  const Scratch scratch;
  std::vector<TensorInfo> tensors;
  for (int i = 0; i < 100; ++i) {
    TensorInfo info = f32_tensor(std::to_string(i), {1});
    // one chunk of 64 MiB, no limit on the extent
    info.attachment.assign({char(1 + 64), 1, char(0x80), char(0x80), char(0x80), 8, 1});
    tensors.push_back(info);
  }
  EXPECT_EQ(error_of([&] { create_hdf5((scratch / "x.h5").string(), plain_dump, tensors); }).code(),
            Errc::limit);
}

TEST(HostileHdf5Attachment, HasKnownGenerationsAndRecordsOnly) {
  for (const std::string& bytes :
       {std::string("\x03", 1), std::string("\x00\x07\x00\x01w\x00", 6),
        std::string("\x00\x01\x05\x01w\x00", 6), std::string("\x00\x01\x00\x7fw", 5)})
    EXPECT_EQ(error_of([&] { skipped_in_hdf5({DumpFormat::hdf5, bytes}); }).code(), Errc::damaged);
}

// ---------------------------------------------------------------- slabs

struct SlabCase {
  std::vector<uint64_t> shape, chunk;
  size_t element_bytes;
};

TEST(Hdf5Slab, CutsEveryArrayIntoBoxesThatAreFlatRangesInOrder) {
  const SlabCase cases[] = {
      {{}, {}, 4},
      {{1}, {1}, 4},
      {{1000003}, {1}, 8},
      {{50000000}, {1 << 16}, 4},
      {{100, 1000, 1000}, {10, 100, 100}, 4},
      {{100, 1000, 1000}, {1, 1, 1}, 2},
      {{7, 3, 100000000}, {7, 3, 1000}, 4},
      {{4, 100000, 1000}, {4, 100, 1000}, 8},
      {{3, 40000000}, {2, 40000000}, 4},
      {{2, 2, 2, 2, 2, 2, 2, 2}, {1, 2, 1, 2, 1, 2, 1, 2}, 8},
      {{5, 1, 1, 7}, {2, 1, 1, 7}, 4},
  };
  for (const SlabCase& c : cases) {
    const uint64_t elements =
        std::accumulate(c.shape.begin(), c.shape.end(), uint64_t(1), std::multiplies<>());
    uint64_t at = 0;
    while (at < elements) {
      const hdf5::Slab slab = hdf5::slab_at(c.shape, c.chunk, c.element_bytes, at);
      ASSERT_EQ(slab.first, at);
      ASSERT_GE(slab.count, 1u);
      ASSERT_LE(slab.count * c.element_bytes, hdf5::slab_limit_bytes);
      uint64_t volume = 1;
      uint64_t flat = 0;
      bool is_full =
          true;  // behind the first extent above one, all extents must be whole: then the box is a flat range
      bool past_ones = false;
      for (size_t d = 0; d < c.shape.size(); ++d) {
        ASSERT_LE(slab.start[d] + slab.extent[d], c.shape[d]);
        if (past_ones) is_full &= slab.extent[d] == c.shape[d];
        past_ones |= slab.extent[d] > 1;
        volume *= slab.extent[d];
        flat = flat * c.shape[d] + slab.start[d];
      }
      ASSERT_TRUE(is_full);
      ASSERT_EQ(volume, slab.count);
      ASSERT_EQ(flat, slab.first);
      // Any element of a slab finds the same slab.
      for (uint64_t inside : {slab.first + slab.count / 2, slab.first + slab.count - 1})
        ASSERT_EQ(hdf5::slab_at(c.shape, c.chunk, c.element_bytes, inside).first, slab.first);
      at += slab.count;
    }
    EXPECT_EQ(at, elements);
  }
}

TEST(Hdf5Slab, TakesWholeRowsOfChunksWhereTheyFit) {
  const std::vector<uint64_t> shape{1000, 500};
  const std::vector<uint64_t> chunk{300, 7};
  for (uint64_t at = 0; at < 500000; at += 4999) {
    const hdf5::Slab slab = hdf5::slab_at(shape, chunk, 4, at);
    EXPECT_EQ(slab.start[0] % 300, 0u);
    EXPECT_TRUE(slab.extent[0] % 300 == 0 || slab.start[0] + slab.extent[0] == 1000);
  }
}

// ---------------------------------------------------------------- real dumps

fs::path shared_folder() {
  if (const char* folder = std::getenv("JSQ_SHARED")) return folder;
#ifdef JSQ_SHARED_DIR
  return JSQ_SHARED_DIR;
#else
  return {};
#endif
}

TEST(RealHdf5, ComesBackWithEverythingThatH5pySees) {
  const fs::path folder = shared_folder() / "gradients";
  if (shared_folder().empty() || !fs::is_directory(folder))
    GTEST_SKIP() << "no folder of real dumps (JSQ_SHARED)";
  size_t copied = 0;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() != ".h5") continue;
    const Scratch scratch;
    copy(entry.path(), scratch / "copy.h5", 65536);
    EXPECT_EQ(differences(entry.path(), scratch / "copy.h5"), "") << entry.path();
    const auto source = open_hdf5(entry.path().string(), "");
    EXPECT_EQ(skipped_in_hdf5(source->dump()), std::vector<std::string>{}) << entry.path();
    for (const TensorInfo& info : source->tensors()) EXPECT_LE(info.attachment.size(), 8u) << info.name;
    ++copied;
  }
  if (copied == 0) GTEST_SKIP() << "no HDF5 file among the real dumps";
}

}  // namespace
}  // namespace jsq

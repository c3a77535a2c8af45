// npy and npz against numpy: every good dump of make_npy_fixtures.py reads as numpy reads it and comes back
// as it was; every bad one is refused with the right code and words. JSQ_FIXTURES (environment or definition)
// is the folder that script made.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <thread>

#include "jsq/error.hpp"
#include "jsq/gradients.hpp"

namespace jsq {
namespace {

namespace fs = std::filesystem;

fs::path fixtures() {
  if (const char* folder = std::getenv("JSQ_FIXTURES")) return folder;
#ifdef JSQ_FIXTURES
  return JSQ_FIXTURES;
#else
  throw std::runtime_error("set JSQ_FIXTURES to the folder that make_npy_fixtures.py made");
#endif
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
  Scratch() : folder_((fs::temp_directory_path() / "jsq-npy-test-XXXXXX").string()) {
    if (::mkdtemp(folder_.data()) == nullptr) throw std::runtime_error("cannot make a scratch folder");
  }
  ~Scratch() { fs::remove_all(folder_); }
  fs::path operator/(const std::string& name) const { return fs::path(folder_) / name; }

 private:
  std::string folder_;
};

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::stringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  if (!text.empty() && text.back() == separator) parts.emplace_back();
  return parts;
}

std::vector<std::vector<std::string>> manifest(const std::string& folder) {
  std::vector<std::vector<std::string>> rows;
  for (const std::string& line : split(file_text(fixtures() / folder / "manifest.tsv"), '\n'))
    if (!line.empty()) rows.push_back(split(line, '\t'));
  return rows;
}

std::string from_hex(const std::string& hex) {
  std::string text;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) text += char(std::stoi(hex.substr(i, 2), nullptr, 16));
  return text;
}

std::vector<std::byte> stored_of(const GradientSource& source, size_t tensor) {
  const TensorInfo& info = source.tensors()[tensor];
  std::vector<std::byte> stored(info.stored_bytes());
  source.read_stored(tensor, 0, info.elements(), stored.data());
  return stored;
}

/// All values and all stored bytes of a dump, as raw bytes.
struct Contents {
  std::string values, stored;
};

Contents contents_of(const GradientSource& source) {
  Contents all;
  std::vector<float> scratch;
  for (size_t i = 0; i < source.tensors().size(); ++i) {
    const std::vector<std::byte> stored = stored_of(source, i);
    all.stored.append(reinterpret_cast<const char*>(stored.data()), stored.size());
    const auto values = source.read(i, 0, source.tensors()[i].elements(), scratch);
    all.values.append(reinterpret_cast<const char*>(values.data()), values.size_bytes());
  }
  return all;
}

/// Writes a dump back as decompress would, in runs of `run_elements`.
void restore(const GradientSource& source, const std::string& path, size_t run_elements = 1000) {
  const auto sink = create_gradients(path, source.dump(), source.tensors());
  for (size_t i = 0; i < source.tensors().size(); ++i) {
    const TensorInfo& info = source.tensors()[i];
    for (uint64_t first = 0; first < info.elements(); first += run_elements) {
      const size_t count = size_t(std::min<uint64_t>(run_elements, info.elements() - first));
      std::vector<std::byte> run(count * dtype_bytes(info.dtype));
      source.read_stored(i, first, count, run.data());
      sink->write(i, run);
    }
  }
  sink->finish();
}

/// Runs `action`, which must throw: the error's name and message, or "" for no error.
struct Refusal {
  std::string name, message;
};

Refusal refusal_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return {error_name(error.code()), error.what()};
  }
  return {};
}

void expect_refused(const std::function<void()>& action, const std::string& name,
                    const std::string& fragment) {
  const Refusal refusal = refusal_of(action);
  EXPECT_EQ(refusal.name, name) << refusal.message;
  EXPECT_NE(refusal.message.find(fragment), std::string::npos)
      << "message: " << refusal.message << "\nwanted: " << fragment;
}

void open_and_read(const std::string& path) {
  contents_of(*open_gradients(path));
}

/// Makes a file or pipe descriptor 0 while it lives.
class StandardStream {
 public:
  StandardStream(int standard_fd, int fd) : standard_fd_(standard_fd), saved_(::dup(standard_fd)) {
    ::dup2(fd, standard_fd);
    ::close(fd);
  }
  ~StandardStream() { close(); }
  void close() {
    if (saved_ < 0) return;
    ::dup2(saved_, standard_fd_);
    ::close(saved_);
    saved_ = -1;
  }

 private:
  int standard_fd_, saved_;
};

TensorInfo tensor(const std::string& name, DType dtype, std::vector<uint64_t> shape) {
  TensorInfo info;
  info.name = name;
  info.dtype = dtype;
  info.shape = std::move(shape);
  return info;
}

// ---- npy ----

TEST(Npy, ReadsWhatNumpyWroteInEveryDtypeOrderVersionAndShape) {
  const auto rows = manifest("npy");
  ASSERT_GT(rows.size(), 300u);
  for (const auto& row : rows) {
    SCOPED_TRACE(row[0]);
    const fs::path path = fixtures() / "npy" / row[0];
    const auto source = open_gradients(path);
    ASSERT_EQ(source->tensors().size(), 1u);
    const TensorInfo& info = source->tensors()[0];
    EXPECT_EQ(source->dump().format, DumpFormat::npy);
    EXPECT_EQ(info.name, "");
    EXPECT_EQ(dtype_name(info.dtype), row[1]);
    EXPECT_EQ(info.big_endian, row[2] == "1");
    EXPECT_EQ(info.fortran_order, row[3] == "1");
    std::vector<uint64_t> shape;
    for (const std::string& extent : split(row[4], ',')) shape.push_back(std::stoull(extent));
    EXPECT_EQ(info.shape, shape);
    const Contents contents = contents_of(*source);
    EXPECT_TRUE(contents.stored == file_text(path.string() + ".le"));
    EXPECT_TRUE(contents.values == file_text(path.string() + ".f32"));
  }
}

TEST(Npy, KeepsAHeaderOnlyWhenNumpyWouldNotWriteItSo) {
  size_t kept = 0;
  for (const auto& row : manifest("npy")) {
    SCOPED_TRACE(row[0]);
    const auto source = open_gradients(fixtures() / "npy" / row[0]);
    const std::string& attachment = source->tensors()[0].attachment;
    EXPECT_EQ(attachment.empty(), row[5] == "1");
    EXPECT_EQ(source->dump().attachment, "");
    if (attachment.empty()) continue;
    EXPECT_TRUE(file_text(fixtures() / "npy" / row[0]).starts_with(attachment));
    ++kept;
  }
  EXPECT_GT(kept, 100u);
}

TEST(Npy, ComesBackByteForByte) {
  const Scratch scratch;
  for (const auto& row : manifest("npy")) {
    SCOPED_TRACE(row[0]);
    const fs::path original = fixtures() / "npy" / row[0];
    const fs::path restored = scratch / "restored.npy";
    restore(*open_gradients(original), restored);
    EXPECT_TRUE(file_text(restored) == file_text(original));
  }
}

TEST(Npy, ReadsAnyRangeAsThatPartOfTheWhole) {
  for (const std::string name :
       {"all_f16_little.npy", "all_bf16_big.npy", "f64_rounding.npy", "odd_misaligned_data.npy"}) {
    SCOPED_TRACE(name);
    const auto source = open_gradients(fixtures() / "npy" / name);
    const std::string values = file_text((fixtures() / "npy" / name).string() + ".f32");
    const std::string stored = file_text((fixtures() / "npy" / name).string() + ".le");
    const uint64_t elements = source->tensors()[0].elements();
    const size_t element_bytes = dtype_bytes(source->tensors()[0].dtype);
    std::vector<float> scratch;
    for (const uint64_t first : {uint64_t(0), uint64_t(1), elements / 2, elements - 1, elements}) {
      const size_t count = size_t(std::min<uint64_t>(elements - first, 777));
      const auto part = source->read(0, first, count, scratch);
      ASSERT_EQ(part.size(), count);
      EXPECT_TRUE(std::string_view(reinterpret_cast<const char*>(part.data()), count * 4) ==
                  std::string_view(values).substr(first * 4, count * 4));
      std::vector<std::byte> bytes(count * element_bytes);
      source->read_stored(0, first, count, bytes.data());
      EXPECT_TRUE(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()) ==
                  std::string_view(stored).substr(first * element_bytes, bytes.size()));
    }
  }
}

TEST(Npy, GivesLittleEndianFloatsWithoutCopyingThem) {
  const auto source = open_gradients(fixtures() / "npy/f32_little_C_v1_shape7.npy");
  std::vector<float> scratch;
  EXPECT_EQ(source->read(0, 0, source->tensors()[0].elements(), scratch).size(), 24u);
  EXPECT_TRUE(scratch.empty());
}

TEST(Npy, RefusesARangeBeyondTheTensor) {
  const auto source = open_gradients(fixtures() / "npy/f32_little_C_v1_shape7.npy");
  std::vector<float> scratch;
  expect_refused([&] { source->read(0, 20, 5, scratch); }, "internal", "of 24 elements");
  expect_refused([&] { source->read(0, UINT64_MAX, 2, scratch); }, "internal", "of 24 elements");
}

TEST(Npy, RefusesEveryTruncationAsDamaged) {
  const Scratch scratch;
  for (const std::string name :
       {"f32_little_C_v1_shape6.npy", "f64_big_C_v2_shape0.npy", "f32_little_C_v3_shape1.npy"}) {
    const std::string whole = file_text(fixtures() / "npy" / name);
    for (size_t length = 0; length < whole.size(); ++length) {
      SCOPED_TRACE(name + " cut to " + std::to_string(length));
      write_text(scratch / "cut.npy", whole.substr(0, length));
      EXPECT_EQ(refusal_of([&] { open_and_read(scratch / "cut.npy"); }).name, "damaged");
    }
  }
}

TEST(Npy, RefusesOneToSixtyFourTrailingBytes) {
  const Scratch scratch;
  const std::string whole = file_text(fixtures() / "npy/f32_little_C_v1_shape6.npy");
  for (size_t more = 1; more <= 64; ++more) {
    write_text(scratch / "longer.npy", whole + std::string(more, '\0'));
    expect_refused([&] { open_and_read(scratch / "longer.npy"); }, "damaged",
                   std::to_string(more) + " bytes follow the data");
  }
}

TEST(Npy, AnyFlippedBitOfTheHeaderIsReadOrRefusedButNeverACrash) {
  const Scratch scratch;
  std::string bytes = file_text(fixtures() / "npy/f32_little_C_v1_shape6.npy");
  for (size_t bit = 0; bit < 128 * 8; ++bit) {
    bytes[bit / 8] = char(bytes[bit / 8] ^ (1 << bit % 8));
    write_text(scratch / "flipped.npy", bytes);
    EXPECT_NE(refusal_of([&] { open_and_read(scratch / "flipped.npy"); }).name, "internal");
    bytes[bit / 8] = char(bytes[bit / 8] ^ (1 << bit % 8));
  }
}

TEST(NpySink, WritesToStandardOutput) {
  const Scratch scratch;
  const fs::path original = fixtures() / "npy/all_f16_big.npy";
  const auto source = open_gradients(original);
  StandardStream out(STDOUT_FILENO, ::open((scratch / "out").c_str(), O_WRONLY | O_CREAT, 0600));
  restore(*source, "-");
  out.close();
  EXPECT_TRUE(file_text(scratch / "out") == file_text(original));
}

TEST(NpySink, WritesTheSameBigEndianElementsFromRunsOfAnyLength) {
  const Scratch scratch;
  TensorInfo info = tensor("", DType::f64, {300000});
  info.big_endian = true;
  std::vector<std::byte> little(info.stored_bytes());
  for (size_t i = 0; i < little.size(); ++i) little[i] = std::byte((i * 2654435761u) >> 24);
  std::string big(little.size(), '\0');
  for (size_t i = 0; i < big.size(); ++i) big[i] = char(little[i / 8 * 8 + 7 - i % 8]);
  for (const DumpFormat format : {DumpFormat::npy, DumpFormat::npz})
    for (const size_t run_elements : {size_t(1777), size_t(8192), size_t(131072), size_t(300000)}) {
      const auto sink = create_gradients(scratch / "x", {format, ""}, {info});
      for (size_t first = 0; first < 300000; first += run_elements)
        sink->write(0, std::span(little).subspan(first * 8, std::min(run_elements, 300000 - first) * 8));
      sink->finish();
      EXPECT_EQ(stored_of(*open_gradients(scratch / "x"), 0), little);
      const std::string file = file_text(scratch / "x");
      EXPECT_NE(file.find("{'descr': '>f8', 'fortran_order': False, 'shape': (300000,), }"),
                std::string::npos);
      EXPECT_NE(file.find(big), std::string::npos);
    }
}

TEST(NpySink, RefusesASecondTensorAndNoTensor) {
  const Scratch scratch;
  const TensorInfo one = tensor("a", DType::f32, {2});
  const std::string path = scratch / "two.npy";
  expect_refused(
      [&] {
        create_gradients(path, {DumpFormat::npy, ""}, {one, one});
      },
      "unsupported_format", "use npz or h5");
  expect_refused(
      [&] {
        create_gradients(path, {DumpFormat::npy, ""}, {});
      },
      "unsupported_format", "exactly one tensor");
  EXPECT_FALSE(fs::exists(path));
}

TEST(NpySink, SaysWhyAFileCannotBeWritten) {
  const TensorInfo info = tensor("", DType::f32, {1000});
  const std::vector<std::byte> elements(info.stored_bytes());
  for (const DumpFormat format : {DumpFormat::npy, DumpFormat::npz}) {
    expect_refused(
        [&] {
          const auto sink = create_gradients("/dev/full", {format, ""}, {info});
          sink->write(0, elements);
          sink->finish();
        },
        "write_failed", "/dev/full: cannot write: No space left on device");
    expect_refused(
        [&] {
          create_gradients("missing-folder/x", {format, ""}, {info});
        },
        "write_failed", "missing-folder/x: cannot write: No such file or directory");
  }
}

TEST(NpySink, HoldsItsCallerToWholeTensorsInOrder) {
  const Scratch scratch;
  const std::vector<TensorInfo> infos = {tensor("a", DType::f32, {2}), tensor("none", DType::f32, {0}),
                                         tensor("b", DType::f16, {2})};
  const std::vector<std::byte> bytes(8);
  const std::string path = scratch / "x.npz";
  const auto create = [&] { return create_gradients(path, {DumpFormat::npz, ""}, infos); };
  expect_refused([&] { create()->write(2, std::span(bytes).first(4)); }, "internal", "out of order");
  expect_refused([&] { create()->write(3, {}); }, "internal", "out of order");
  expect_refused(
      [&] {
        const auto sink = create();
        sink->write(0, bytes);
        sink->write(0, bytes);
      },
      "internal", "out of order");
  expect_refused(
      [&] {
        const auto sink = create();
        sink->write(0, bytes);
        sink->finish();
      },
      "internal", "tensor 2 ends at byte 0 of 4");
}

TEST(NpySink, UsesAKeptHeaderOnlyForTheTensorItDescribes) {
  const Scratch scratch;
  const auto source = open_gradients(fixtures() / "npy/odd_padded_to_4096.npy");
  TensorInfo info = source->tensors()[0];
  const auto size_with = [&](const TensorInfo& changed) {
    const auto sink = create_gradients(scratch / "x.npy", {DumpFormat::npy, ""}, {changed});
    sink->write(0, std::vector<std::byte>(changed.stored_bytes()));
    sink->finish();
    return fs::file_size(scratch / "x.npy");
  };
  EXPECT_EQ(size_with(info), 4096u + 24);
  info.dtype = DType::f16;
  EXPECT_EQ(size_with(info), 128u + 12);
  info.attachment = "no header";
  expect_refused([&] { size_with(info); }, "damaged", "kept npy header");
  info.attachment = source->tensors()[0].attachment + " ";
  expect_refused([&] { size_with(info); }, "damaged", "bytes follow the header");
}

// ---- npz ----

TEST(Npz, ReadsWhatNumpyReadsInArchiveOrder) {
  const auto rows = manifest("npz");
  ASSERT_GE(rows.size(), 10u);
  for (const auto& row : rows) {
    SCOPED_TRACE(row[0]);
    const fs::path path = fixtures() / "npz" / row[0];
    const auto source = open_gradients(path);
    EXPECT_EQ(source->dump().format, DumpFormat::npz);
    std::vector<std::string> names, expected;
    for (const TensorInfo& info : source->tensors()) names.push_back(info.name);
    for (const std::string& hex : split(row[1], '|')) expected.push_back(from_hex(hex));
    EXPECT_EQ(names, expected);
    const Contents contents = contents_of(*source);
    EXPECT_TRUE(contents.values == file_text(path.string() + ".f32"));
    EXPECT_TRUE(contents.stored == file_text(path.string() + ".le"));
  }
}

/// Asks the fixture script, and so numpy and zipfile; JSQ_PYTHON names another interpreter than the system's.
void expect_numpy_finds_no_difference(const fs::path& original, const fs::path& restored) {
  const char* const chosen = std::getenv("JSQ_PYTHON");
  const std::string script = fixtures() / "make_npy_fixtures.py";
  const std::string command = std::string(chosen != nullptr ? chosen : "/usr/bin/python3") + " '" + script +
                              "' verify '" + original.string() + "' '" + restored.string() + "'";
  EXPECT_EQ(std::system(command.c_str()), 0) << command;
}

TEST(Npz, ComesBackWithEveryMemberStyleAndCommentAsNumpyAndZipfileSeeIt) {
  const Scratch scratch;
  for (const auto& row : manifest("npz")) {
    SCOPED_TRACE(row[0]);
    restore(*open_gradients(fixtures() / "npz" / row[0]), scratch / row[0]);
    expect_numpy_finds_no_difference(fixtures() / "npz" / row[0], scratch / row[0]);
  }
}

TEST(Npz, RestoredTwiceGivesTheSameBytes) {
  const Scratch scratch;
  for (const std::string name : {"mixed.npz", "deflated.npz"}) {
    restore(*open_gradients(fixtures() / "npz" / name), scratch / "1.npz");
    restore(*open_gradients(scratch / "1.npz"), scratch / "2.npz", 7);
    EXPECT_TRUE(file_text(scratch / "1.npz") == file_text(scratch / "2.npz"));
  }
}

TEST(Npz, CostsOneAttachedByteATensorWhenNumpyWroteIt) {
  for (const std::string name : {"stored.npz", "deflated.npz"}) {
    const auto source = open_gradients(fixtures() / "npz" / name);
    EXPECT_EQ(source->dump().attachment, "");
    for (const TensorInfo& info : source->tensors())
      EXPECT_EQ(info.attachment, name == "stored.npz" ? std::string(1, '\0') : "\x01");
  }
}

TEST(Npz, ReadsOneMemberAloneWithOrWithoutItsSuffix) {
  const std::string path = fixtures() / "npz/mixed.npz";
  for (const std::string member : {"folder/c", "folder/c.npy"}) {
    const auto source = open_gradients(path + "::" + member);
    ASSERT_EQ(source->tensors().size(), 1u);
    EXPECT_EQ(source->tensors()[0].name, "folder/c");
    EXPECT_EQ(source->tensors()[0].shape, (std::vector<uint64_t>{5, 2}));
    EXPECT_EQ(source->dump().attachment, "");
    contents_of(*source);
  }
  expect_refused([&] { open_gradients(path + "::nothing"); }, "unknown_name",
                 "no member 'nothing'; it has 12 members: 'README.txt', 'a.npy'");
  expect_refused([&] { open_gradients(path + "::ids"); }, "unsupported_dtype",
                 "found 'ids.npy' of dtype '<i8'");
  expect_refused([&] { open_gradients(path + "::README.txt"); }, "unsupported_dtype", "(not named .npy)");
  EXPECT_EQ(open_gradients((fixtures() / "npz/names.npz").string() + "::::")->tensors()[0].name, "::");
}

TEST(Npz, GivesTheSameValuesToManyThreads) {
  const fs::path path = fixtures() / "npz/large.npz";
  const auto source = open_gradients(path);
  const Contents expected{file_text(path.string() + ".f32"), file_text(path.string() + ".le")};
  std::vector<Contents> seen(4);
  std::vector<std::thread> threads;
  for (Contents& contents : seen) threads.emplace_back([&] { contents = contents_of(*source); });
  for (std::thread& thread : threads) thread.join();
  for (const Contents& contents : seen) {
    EXPECT_TRUE(contents.values == expected.values);
    EXPECT_TRUE(contents.stored == expected.stored);
  }
}

TEST(Npz, ReadsAnyRangeOfADeflatedMember) {
  const fs::path path = fixtures() / "npz/large.npz";
  const auto source = open_gradients(path);
  const std::string values = file_text(path.string() + ".f32");
  std::vector<float> scratch;
  uint64_t before = 0;
  for (size_t i = 0; i < source->tensors().size(); ++i) {
    const uint64_t elements = source->tensors()[i].elements();
    for (const uint64_t first : {elements - 20000, uint64_t(12345), uint64_t(0)}) {
      const auto part = source->read(i, first, 20000, scratch);
      EXPECT_TRUE(std::string_view(reinterpret_cast<const char*>(part.data()), 80000) ==
                  std::string_view(values).substr((before + first) * 4, 80000));
    }
    expect_refused([&] { source->read(i, elements, 1, scratch); }, "internal", "elements");
    before += elements;
  }
}

TEST(Npz, RefusesEveryTruncationAsDamaged) {
  const Scratch scratch;
  for (const std::string name : {"stored.npz", "deflated.npz", "zip64.npz"}) {
    const std::string whole = file_text(fixtures() / "npz" / name);
    for (size_t length = 0; length < whole.size(); ++length) {
      SCOPED_TRACE(name + " cut to " + std::to_string(length));
      write_text(scratch / "cut.npz", whole.substr(0, length));
      EXPECT_EQ(refusal_of([&] { open_and_read(scratch / "cut.npz"); }).name, "damaged");
    }
  }
}

TEST(Npz, AnyFlippedByteOfAGradientIsFound) {
  const Scratch scratch;
  for (const std::string name : {"stored.npz", "deflated.npz"}) {
    std::string bytes = file_text(fixtures() / "npz" / name);
    const Contents expected = contents_of(*open_gradients(fixtures() / "npz" / name));
    for (size_t at = 0; at < bytes.size(); ++at) {
      SCOPED_TRACE(name + " byte " + std::to_string(at));
      bytes[at] = char(bytes[at] ^ 0x10);
      write_text(scratch / "flipped.npz", bytes);
      bytes[at] = char(bytes[at] ^ 0x10);
      // Names, times and attributes carry no checksum; the elements do.
      const Refusal refusal = refusal_of([&] {
        const Contents contents = contents_of(*open_gradients(scratch / "flipped.npz"));
        const bool subset = contents.stored.size() < expected.stored.size();  // a name that lost its ".npy"
        EXPECT_TRUE(subset || contents.stored == expected.stored);
      });
      EXPECT_NE(refusal.name, "internal");
    }
  }
}

TEST(Npz, WrongChecksumOfAStoredOrDeflatedGradientIsFoundOnReading) {
  const Scratch scratch;
  for (const std::string name : {"stored.npz", "deflated.npz"}) {
    std::string bytes = file_text(fixtures() / "npz" / name);
    const size_t central = bytes.find("PK\x01\x02");
    ASSERT_NE(central, std::string::npos);
    bytes[central + 16] = char(bytes[central + 16] ^ 1);
    write_text(scratch / "crc.npz", bytes);
    const auto source = open_gradients(scratch / "crc.npz");
    std::vector<float> values;
    for (int attempt = 0; attempt < 2; ++attempt)
      expect_refused([&] { source->read(0, 0, 1, values); }, "damaged",
                     "member 'conv.weight.npy': cannot be read: CRC error");
    EXPECT_EQ(source->read(1, 0, 37, values).size(), 37u);
  }
}

TEST(NpzSink, NamesAnUnnamedTensorAsNumpyDoes) {
  const Scratch scratch;
  const TensorInfo info = tensor("", DType::f32, {});
  const auto sink = create_gradients(scratch / "x.npz", {DumpFormat::npz, ""}, {info});
  sink->write(0, std::vector<std::byte>(4));
  sink->finish();
  EXPECT_EQ(open_gradients(scratch / "x.npz")->tensors()[0].name, "arr_0");
}

TEST(NpzSink, WritesThroughAPipe) {
  const Scratch scratch;
  const auto source = open_gradients(fixtures() / "npz/mixed.npz");
  restore(*source, scratch / "file.npz");
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  std::string received;
  std::thread reader([&] {
    char piece[4096];
    for (ssize_t got; (got = ::read(ends[0], piece, sizeof piece)) > 0;) received.append(piece, size_t(got));
  });
  {
    StandardStream out(STDOUT_FILENO, ends[1]);
    restore(*source, "-");
  }
  reader.join();
  ::close(ends[0]);
  EXPECT_TRUE(received == file_text(scratch / "file.npz"));
}

TEST(NpzSink, WritesAChosenPartOfTheTensorsWithTheOtherMembers) {
  const Scratch scratch;
  const auto source = open_gradients(fixtures() / "npz/mixed.npz");
  const auto sink = create_gradients(scratch / "part.npz", source->dump(), {source->tensors()[1]});
  sink->write(0, stored_of(*source, 1));
  sink->finish();
  const auto part = open_gradients(scratch / "part.npz");
  ASSERT_EQ(part->tensors().size(), 1u);
  EXPECT_EQ(part->tensors()[0].name, "b");
  EXPECT_EQ(stored_of(*part, 0), stored_of(*source, 1));
}

TEST(NpzSink, RefusesAttachmentsAndNamesThatMakeNoArchive) {
  const Scratch scratch;
  const std::string path = scratch / "x.npz";
  TensorInfo info = tensor("a", DType::f32, {2});
  const auto create = [&](const std::string& dump, const std::vector<TensorInfo>& infos) {
    return [&path, dump, infos] { create_gradients(path, {DumpFormat::npz, dump}, infos); };
  };
  expect_refused(create("", {info, info}), "unsupported_format", "two npz members would be named 'a.npy'");
  expect_refused(create("", {}), "unsupported_format", "at least one member");
  expect_refused(create("", {tensor(std::string("a\0b", 3), DType::f32, {})}), "unsupported_format",
                 "cannot name an npz member");
  expect_refused(create("", {tensor(std::string(65536, 'n'), DType::f32, {})}), "unsupported_format",
                 "cannot name an npz member");
  expect_refused(create("", {tensor("deep", DType::f32, std::vector<uint64_t>(65, 1))}), "unsupported_format",
                 "65 dimensions");
  info.attachment = "\x10";
  expect_refused(create("", {info}), "damaged", "unknown member flags 16");
  info.attachment = "\x08";
  expect_refused(create("", {info}), "damaged", "expected an npy header");
  info.attachment = std::string("\x01\x00", 2);
  expect_refused(create("", {info}), "damaged", "bytes follow the end");
  info.attachment = "";
  expect_refused(create(std::string("\x05"
                                    "ab",
                                    3),
                        {info}),
                 "damaged", "expected 5 more bytes");
  EXPECT_FALSE(fs::exists(path));
}

TEST(NpzSink, RefusesEveryTruncationAndSurvivesEveryFlipOfItsAttachment) {
  const Scratch scratch;
  const auto source = open_gradients(fixtures() / "npz/mixed.npz");
  const std::vector<TensorInfo> infos = {tensor("other", DType::f32, {})};
  const auto build = [&](const std::string& attachment) {
    const auto sink = create_gradients(scratch / "x.npz", {DumpFormat::npz, attachment}, infos);
    sink->write(0, std::vector<std::byte>(4));
    sink->finish();
  };
  std::string attachment = source->dump().attachment;
  build(attachment);
  size_t refused = 0;
  for (size_t length = 1; length < attachment.size(); ++length)
    refused += refusal_of([&] { build(attachment.substr(0, length)); }).name == "damaged";
  // Cuts between two members leave a shorter list that is sound in itself; the frame's checksums find those.
  EXPECT_EQ(refused, attachment.size() - 1 - 8);
  for (size_t at = 0; at < attachment.size(); ++at) {
    attachment[at] = char(attachment[at] ^ 0x04);
    EXPECT_NE(refusal_of([&] { build(attachment); }).name, "internal");
    attachment[at] = char(attachment[at] ^ 0x04);
  }
}

// ---- open ----

TEST(OpenGradients, RefusesEveryBadDumpWithItsCodeAndReason) {
  const auto rows = manifest("bad");
  ASSERT_GT(rows.size(), 80u);
  for (const auto& row : rows) {
    SCOPED_TRACE(row[0]);
    ASSERT_EQ(row.size(), 3u);
    const std::string path = fixtures() / "bad" / row[0];
    expect_refused([&] { open_and_read(path); }, row[1], row[2]);
    expect_refused([&] { open_and_read(path); }, row[1], row[0]);
  }
}

TEST(OpenGradients, NamesTheReasonForWhatIsNoFile) {
  const Scratch scratch;
  expect_refused([&] { open_gradients("missing.npy"); }, "not_found",
                 "missing.npy: cannot open: No such file or directory");
  expect_refused([&] { open_gradients("missing.npz::a"); }, "not_found",
                 "missing.npz: cannot open: No such file");
  expect_refused([&] { open_gradients("::a"); }, "not_found", "::a: cannot open");
  expect_refused([&] { open_gradients(scratch / ""); }, "unsupported_format", "is a directory");
  expect_refused([&] { open_gradients("/dev/null"); }, "unsupported_format", "is a device");
  expect_refused([&] { open_gradients((fixtures() / "npy/all_f16_big.npy").string() + "::x"); },
                 "unknown_name", "an npy has no members");
}

TEST(OpenGradients, OpensAFileWhoseNameHoldsTheMemberSign) {
  const Scratch scratch;
  fs::copy_file(fixtures() / "npy/all_f16_big.npy", scratch / "a::b.npy");
  EXPECT_EQ(open_gradients(scratch / "a::b.npy")->tensors()[0].elements(), 65536u);
  fs::copy_file(fixtures() / "npz/mixed.npz", scratch / "c::d.npz");
  EXPECT_EQ(open_gradients((scratch / "c::d.npz").string() + "::b")->tensors()[0].name, "b");
}

TEST(OpenGradients, GoesByMagicBytesBeforeTheExtension) {
  const Scratch scratch;
  fs::copy_file(fixtures() / "npz/mixed.npz", scratch / "x.npy");
  EXPECT_EQ(open_gradients(scratch / "x.npy")->dump().format, DumpFormat::npz);
  fs::copy_file(fixtures() / "npy/all_f16_big.npy", scratch / "x.h5");
  EXPECT_EQ(open_gradients(scratch / "x.h5")->dump().format, DumpFormat::npy);
}

TEST(OpenGradients, ReadsStandardInputFromAPipeAndFromAFile) {
  for (const std::string name : {"npy/all_bf16_little.npy", "npz/large.npz"}) {
    SCOPED_TRACE(name);
    const std::string bytes = file_text(fixtures() / name);
    const std::string values = file_text((fixtures() / name).string() + ".f32");
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    std::thread writer([&] {
      for (size_t done = 0; done < bytes.size();)
        done += size_t(std::max<ssize_t>(
            0, ::write(ends[1], bytes.data() + done, std::min<size_t>(5000, bytes.size() - done))));
      ::close(ends[1]);
    });
    {
      StandardStream in(STDIN_FILENO, ends[0]);
      const auto source = open_gradients("-");
      writer.join();
      EXPECT_TRUE(contents_of(*source).values == values);
    }
    StandardStream in(STDIN_FILENO, ::open((fixtures() / name).c_str(), O_RDONLY));
    EXPECT_TRUE(contents_of(*open_gradients("-")).values == values);
    if (name.starts_with("npz")) {
      EXPECT_EQ(open_gradients("-::c")->tensors().size(), 1u);
    }
  }
  StandardStream in(STDIN_FILENO, ::open("/dev/null", O_RDONLY));
  expect_refused([] { open_gradients("-"); }, "unsupported_format",
                 "standard input: empty input; expected an npy, npz or HDF5 dump");
}

TEST(OpenGradients, ReadsANamedPipe) {
  const Scratch scratch;
  const std::string pipe = scratch / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const std::string bytes = file_text(fixtures() / "npy/all_bf16_little.npy");
  std::thread writer([&] { write_text(pipe, bytes); });
  const auto source = open_gradients(pipe);
  writer.join();
  EXPECT_TRUE(contents_of(*source).values ==
              file_text((fixtures() / "npy/all_bf16_little.npy").string() + ".f32"));
}

TEST(OpenGradients, SaysWhenTheSpoolHasNoFolder) {
  ::setenv("TMPDIR", "/missing-folder", 1);
  const auto source = open_gradients(fixtures() / "npz/large.npz");
  std::vector<float> values;
  expect_refused([&] { source->read(0, 0, 1, values); }, "write_failed",
                 "/missing-folder: cannot keep temporary data here: No such file or directory; set TMPDIR");
  ::unsetenv("TMPDIR");
  EXPECT_EQ(source->read(0, 0, 1, values).size(), 1u);
}

TEST(DumpFormatName, IsWhatTheCommandLineCallsIt) {
  EXPECT_EQ(dump_format_name(DumpFormat::npy), "npy");
  EXPECT_EQ(dump_format_name(DumpFormat::npz), "npz");
  EXPECT_EQ(dump_format_name(DumpFormat::hdf5), "h5");
}

}  // namespace
}  // namespace jsq

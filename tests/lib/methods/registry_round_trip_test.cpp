// Every method brings back what its report says it does: from memory, from a file, as f32, as stored bytes,
// as slices, for tensors of every element type and of many shapes in one archive.
#include <unistd.h>

#include <cstdio>
#include <fstream>

#include "tests/lib/methods/registry_suite.hpp"

namespace jsq {
namespace {

using test::coded;
using test::Coded;
using test::EveryMethod;
using test::Kind;
using test::make_data;
using test::same_bits;
using test::StoredSource;
using test::Truth;

/// Shapes that a method might get wrong: none, one, prime, more than a block, several axes, both orders.
std::shared_ptr<StoredSource> many_tensors() {
  auto source = std::make_shared<StoredSource>();
  uint64_t seed = 0;
  const auto add = [&](DType dtype, std::vector<uint64_t> shape, bool fortran_order = false) {
    uint64_t n = 1;
    for (uint64_t extent : shape) n *= extent;
    ++seed;
    source->add("tensor" + std::to_string(seed), dtype, std::move(shape), make_data(Kind::heavy, n, seed),
                fortran_order);
  };
  add(DType::f32, {65537});
  add(DType::f32, {});
  add(DType::f32, {0});
  add(DType::f64, {0, 5});
  add(DType::f16, {1});
  for (DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
    add(dtype, {7, 3, 5});
    add(dtype, {13, 211}, true);
    add(dtype, {1009});
  }
  add(DType::f32, {64, 3, 3, 3});
  add(DType::bf16, {1, 1, 1});
  return source;
}

/// A file that is gone after the test.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& bytes) : path_(testing::TempDir() + "/registry.XXXXXX") {
    close(mkstemp(path_.data()));
    std::ofstream(path_, std::ios::binary) << bytes;
  }
  ~TemporaryFile() { std::remove(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

class RoundTrip : public EveryMethod {
 protected:
  /// The archive with the default target, and with the method's own size for each tensor.
  std::vector<CompressOptions> both_scopes() const {
    CompressOptions each = sized(80000);
    each.scope = Scope::tensor;
    return {options(default_target(spec())), each};
  }
};

TEST_P(RoundTrip, LosesWhatItsReportSaysInTheArchiveAndInEachTensor) {
  const auto source = many_tensors();
  for (const CompressOptions& options : both_scopes()) {
    const Coded result = coded(source, options);
    const FrameReader reader = FrameReader::from_bytes(result.bytes);
    for (const BlockDamage& damage : reader.test(false)) ADD_FAILURE() << damage.message;
    test::expect_true(result.report, test::truth_of(*source, reader));
    ASSERT_EQ(reader.tensors().size(), source->tensors().size());
    EXPECT_EQ(reader.seed(), options.seed);
    for (size_t t = 0; t < reader.tensors().size(); ++t) {
      const TensorInfo &was = source->tensors()[t], &is = reader.tensors()[t].info;
      SCOPED_TRACE(was.name);
      EXPECT_EQ(is.name, was.name);
      EXPECT_EQ(is.shape, was.shape);
      EXPECT_EQ(is.dtype, was.dtype);
      EXPECT_EQ(is.fortran_order, was.fortran_order);
      StoredSource alone;
      alone.add(was, source->stored(t));
      const std::vector<float> back = test::values_of(reader, t);
      double squared = 0;
      std::vector<float> scratch;
      const std::span<const float> original = alone.read(0, 0, back.size(), scratch);
      for (size_t i = 0; i < back.size(); ++i) {
        const double error = double(back[i]) - double(original[i]);
        squared += error * error;
      }
      const Distortion& said = result.report.tensors[t].distortion;
      EXPECT_EQ(said.elements, was.elements());
      EXPECT_NEAR(said.squared_error, squared, 1e-12 * squared);
    }
  }
}

TEST_P(RoundTrip, ReadsTheSameFromMemoryAndFromAFileAsF32AndAsStoredBytes) {
  const auto source = many_tensors();
  const Coded result = coded(source, options(default_target(spec())));
  const TemporaryFile file(result.bytes);
  const FrameReader memory = FrameReader::from_bytes(result.bytes), disk = FrameReader::open(file.path());
  EXPECT_TRUE(disk.test(false).empty());
  for (size_t t = 0; t < memory.tensors().size(); ++t) {
    const TensorInfo& info = memory.tensors()[t].info;
    SCOPED_TRACE(info.name);
    const uint64_t n = info.elements();
    std::vector<std::byte> stored(n * dtype_bytes(info.dtype)), stored_on_disk(stored.size());
    memory.read_stored(t, 0, n, stored);
    disk.read_stored(t, 0, n, stored_on_disk);
    EXPECT_EQ(stored, stored_on_disk);
    std::vector<float> from_stored(n);
    if (n) decode_elements(info.dtype, false, stored.data(), from_stored);
    EXPECT_TRUE(same_bits(test::values_of(memory, t), from_stored));
    EXPECT_TRUE(same_bits(test::values_of(disk, t, 1), from_stored));
  }
}

TEST_P(RoundTrip, ReadsASliceAsThatPartOfTheWhole) {
  const auto source = many_tensors();
  const Coded result = coded(source, options(default_target(spec())));
  const FrameReader reader = FrameReader::from_bytes(result.bytes);
  test::Random random(4);
  for (size_t t = 0; t < reader.tensors().size(); ++t) {
    const TensorInfo& info = reader.tensors()[t].info;
    const uint64_t n = info.elements();
    const std::vector<float> whole = test::values_of(reader, t);
    std::vector<std::pair<uint64_t, uint64_t>> slices = {{0, 0}, {n, 0}, {0, std::min<uint64_t>(n, 1)}};
    if (n > 65536) slices.insert(slices.end(), {{65535, 2}, {65536, 1}, {12345, n - 12345}});
    for (int i = 0; i < 3 && n > 0; ++i) {
      const uint64_t first = random.below(n);
      slices.emplace_back(first, 1 + random.below(n - first));
    }
    for (const auto& [first, count] : slices) {
      SCOPED_TRACE(info.name + ' ' + std::to_string(first) + '+' + std::to_string(count));
      const std::span<const float> expected = std::span(whole).subspan(first, count);
      std::vector<float> part(count);
      reader.read(t, first, part);
      ASSERT_TRUE(same_bits(part, expected));
      std::vector<std::byte> stored(count * dtype_bytes(info.dtype));
      reader.read_stored(t, first, count, stored);
      if (count) decode_elements(info.dtype, false, stored.data(), part);
      ASSERT_TRUE(same_bits(part, expected));
    }
  }
}

TEST_P(RoundTrip, NamesItsMethodAndItsOptionsAsTheyCanBeAskedForAgain) {
  const std::vector<float> values = make_data(Kind::heavy, 24 * 40);
  const auto source = test::one_tensor(values, {24, 40});
  CompressOptions options = sized(values.size());
  const Coded result = coded(source, options);
  const FrameReader reader = FrameReader::from_bytes(result.bytes);
  // Not always the row's own: L-GreCo stores its base, low-rank methods store vectors as fp32.
  options.method = parse_method(reader.method_of(0));
  EXPECT_EQ(method_named(options.method.name).wire_id, reader.tensors()[0].method_id);
  EXPECT_EQ(FrameReader::from_bytes(coded(source, options).bytes).method_of(0), reader.method_of(0));
}

TEST_P(RoundTrip, TakesADumpWithoutTensorsAndNoDumpAtAll) {
  const Coded nothing = coded(std::make_shared<StoredSource>(), sized(0));
  EXPECT_TRUE(FrameReader::from_bytes(nothing.bytes).tensors().empty());
  MemorySink sink;
  compress({}, sized(0), sink);
  EXPECT_TRUE(FrameReader::from_bytes(sink.bytes).dumps().empty());
}

INSTANTIATE_TEST_SUITE_P(Registry, RoundTrip, testing::ValuesIn(methods()), test::row_name);

}  // namespace
}  // namespace jsq

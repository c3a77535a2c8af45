// compress() as its users see it: budgets, errors, determinism, special values, and that the report tells the
// truth, measured on decoded values and counted on file bytes.
#include "jsq/compress.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <functional>

#include "jsq/error.hpp"
#include "jsq/frame.hpp"
#include "tests/kernels/data.hpp"

namespace jsq {
namespace {

using test::Kind;
using test::make_data;
using test::Random;

/// A dump in memory with any element types: tensors as stored little-endian bytes.
class StoredSource final : public GradientSource {
 public:
  void add(TensorInfo info, std::vector<std::byte> bytes) {
    infos_.push_back(std::move(info));
    stored_.push_back(std::move(bytes));
  }
  template <class Word>
  void add(const std::string& name, DType dtype, std::vector<uint64_t> shape,
           const std::vector<Word>& words) {
    TensorInfo info;
    info.name = name;
    info.dtype = dtype;
    info.shape = std::move(shape);
    std::vector<std::byte> bytes(words.size() * sizeof(Word));
    if (!words.empty()) std::memcpy(bytes.data(), words.data(), bytes.size());
    add(std::move(info), std::move(bytes));
  }
  const DumpInfo& dump() const override { return dump_; }
  const std::vector<TensorInfo>& tensors() const override { return infos_; }
  std::span<const float> read(size_t t, uint64_t first, size_t count,
                              std::vector<float>& scratch) const override {
    scratch.resize(count);
    const DType dtype = infos_[t].dtype;
    if (count) decode_elements(dtype, false, stored_[t].data() + first * dtype_bytes(dtype), scratch);
    return scratch;
  }
  void read_stored(size_t t, uint64_t first, size_t count, std::byte* out) const override {
    const size_t size = dtype_bytes(infos_[t].dtype);
    if (count) std::memcpy(out, stored_[t].data() + first * size, count * size);
  }
  const std::vector<std::byte>& stored(size_t t) const { return stored_[t]; }

 private:
  DumpInfo dump_;
  std::vector<TensorInfo> infos_;
  std::vector<std::vector<std::byte>> stored_;
};

struct Compressed {
  std::string bytes;
  CompressReport report;
};

Compressed compressed(const std::shared_ptr<const GradientSource>& source, const CompressOptions& options) {
  Compressed result;
  MemorySink sink;
  result.report = compress({{"dump", source, {}, true}}, options, sink);
  result.bytes = std::move(sink.bytes);
  EXPECT_EQ(result.report.file_bytes, result.bytes.size());
  return result;
}

CompressOptions options_for(const Target& target, const std::string& method = "jointsq") {
  CompressOptions options;
  options.method = parse_method(method);
  options.target = target;
  return options;
}

std::shared_ptr<const GradientSource> one_tensor(const std::vector<float>& values,
                                                 std::vector<uint64_t> shape = {}, bool scalar = false) {
  TensorInfo info;
  info.shape = shape.empty() && !scalar ? std::vector<uint64_t>{values.size()} : std::move(shape);
  return source_of(info, values);
}

/// What a user measures: original and decoded values, in double, without anything of jsq's sums.
struct Measured {
  double energy = 0, squared = 0, largest = 0;
  double nmse() const { return energy > 0 ? squared / energy : 0; }
};

Measured measured(const GradientSource& source, const std::string& frame) {
  const FrameReader reader = FrameReader::from_bytes(frame);
  Measured result;
  long double energy = 0, squared = 0;
  EXPECT_EQ(reader.tensors().size(), source.tensors().size());
  for (size_t t = 0; t < source.tensors().size(); ++t) {
    const uint64_t n = source.tensors()[t].elements();
    EXPECT_EQ(reader.tensors()[t].info.shape, source.tensors()[t].shape);
    std::vector<float> scratch, decoded(n);
    const auto original = source.read(t, 0, n, scratch);
    std::vector<std::byte> stored(n * dtype_bytes(source.tensors()[t].dtype));
    reader.read_stored(t, 0, n, stored);
    if (n) decode_elements(source.tensors()[t].dtype, false, stored.data(), decoded);
    for (uint64_t i = 0; i < n; ++i) {
      const double g = double(original[i]), error = double(decoded[i]) - g;
      if (!std::isfinite(g)) continue;
      energy += (long double)g * g;
      squared += (long double)error * error;
      result.largest = std::max(result.largest, std::fabs(error));
    }
  }
  result.energy = double(energy);
  result.squared = double(squared);
  return result;
}

void expect_true_report(const GradientSource& source, const Compressed& result) {
  const Measured truth = measured(source, result.bytes);
  EXPECT_NEAR(result.report.distortion.nmse(), truth.nmse(), 1e-10 * truth.nmse());
  EXPECT_NEAR(result.report.distortion.max_error, truth.largest, 1e-6 * truth.largest);
  EXPECT_NEAR(result.report.distortion.energy, truth.energy, 1e-10 * truth.energy);
}

Error error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  return Error(Errc::internal, "nothing was thrown");
}

std::string sample(const std::string& name) {
  return std::string(JSQ_SAMPLES_DIR) + "/" + name;
}
std::shared_ptr<const GradientSource> resnet() {
  return open_gradients(sample("resnet20_mid.npy"));
}
std::shared_ptr<const GradientSource> vit() {
  return open_gradients(sample("vit2_early.h5"));
}

class RealGradient : public testing::TestWithParam<std::pair<double, double>> {};

TEST_P(RealGradient, FitsItsRatioUsesItAndLosesNoMoreThanBefore) {
  const auto [ratio, worst_nmse] = GetParam();
  const auto source = resnet();
  const Compressed result = compressed(source, options_for({TargetKind::ratio, ratio}));
  const double budget = double(source->tensors()[0].stored_bytes()) / ratio;
  EXPECT_LE(double(result.bytes.size()), budget);
  EXPECT_GE(double(result.bytes.size()), 0.99 * std::floor(budget));
  EXPECT_EQ(result.report.budget_bytes, uint64_t(budget));
  EXPECT_NEAR(result.report.file_ratio(),
              double(source->tensors()[0].stored_bytes()) / double(result.bytes.size()), 1e-9 * ratio);
  EXPECT_LE(result.report.distortion.nmse(), worst_nmse);
  expect_true_report(*source, result);
}

INSTANTIATE_TEST_SUITE_P(Ratios, RealGradient,
                         testing::Values(std::pair(8.0, 0.0049), std::pair(16.0, 0.057),
                                         std::pair(32.0, 0.178), std::pair(100.0, 0.415),
                                         std::pair(1000.0, 0.735)),
                         [](const auto& row) { return std::to_string(int(row.param.first)); });

TEST(Compress, SpendsFewerThan64BytesOnTheFrameOfOneTensorInOneBlock) {
  for (size_t n : {1u, 100u, 5000u, 65536u}) {
    const std::vector<float> values = make_data(Kind::heavy, n);
    const Compressed result =
        compressed(one_tensor(values), options_for({TargetKind::bytes, double(n) / 2 + 200}));
    EXPECT_LT(result.report.frame_bytes, 64u) << n;
  }
}

TEST(Compress, WritesTheSameBytesForEveryThreadCountAndEveryRun) {
  const std::vector<float> large = make_data(Kind::heavy, 1200000);
  for (const auto& source : {resnet(), vit(), one_tensor(large)})
    for (const char* method : {"jointsq", "jointsq:quant=offmag", "jointsq:alloc=sampled"}) {
      CompressOptions options = options_for({TargetKind::ratio, 50}, method);
      options.seed = 5;
      std::string first;
      for (unsigned threads : {1u, 2u, 7u, 0u, 1u}) {
        options.threads = threads;
        const Compressed result = compressed(source, options);
        if (first.empty()) first = result.bytes;
        ASSERT_EQ(result.bytes, first) << method << ' ' << threads;
      }
    }
}

TEST(Compress, SeedsChangeTheBytesOnlyWhereRandomNumbersAreDrawn) {
  const auto source = resnet();
  for (const auto& [method, random] :
       {std::pair("jointsq", false), {"jointsq:quant=mid", true}, {"jointsq:alloc=sampled", true}}) {
    CompressOptions options = options_for({TargetKind::ratio, 64}, method);
    const Compressed zero = compressed(source, options);
    options.seed = 1;
    const Compressed one = compressed(source, options);
    const auto blocks = [](const std::string& frame) {
      const FrameSizes sizes = FrameReader::from_bytes(frame).sizes();
      return frame.substr(sizes.header, sizes.blocks + sizes.checksums);
    };
    EXPECT_EQ(blocks(zero.bytes) != blocks(one.bytes), random) << method;
    EXPECT_EQ(FrameReader::from_bytes(one.bytes).seed(), 1u);
  }
}

TEST(Compress, SharesOneBudgetInAnArchiveAndGivesEachTensorItsOwnOnRequest) {
  const auto source = vit();
  ASSERT_GT(source->tensors().size(), 3u);
  uint64_t input = 0;
  for (const TensorInfo& info : source->tensors()) input += info.stored_bytes();
  // At 8 and less the least error of these dumps takes fewer bytes than allowed.
  for (double ratio : {12.0, 32.0}) {
    CompressOptions options = options_for({TargetKind::ratio, ratio});
    const Compressed archive = compressed(source, options);
    EXPECT_EQ(archive.report.input_bytes, input);
    EXPECT_LE(double(archive.bytes.size()), double(input) / ratio);
    EXPECT_GE(double(archive.bytes.size()), 0.99 * double(input) / ratio);
    EXPECT_EQ(archive.report.pools.size(), 1u);
    expect_true_report(*source, archive);
    options.scope = Scope::tensor;
    const Compressed tensors = compressed(source, options);
    EXPECT_LE(double(tensors.bytes.size()), double(input) / ratio);
    EXPECT_GE(double(tensors.bytes.size()), 0.9 * double(input) / ratio);
    EXPECT_EQ(tensors.report.pools.size(), source->tensors().size());
    expect_true_report(*source, tensors);
    // One multiplier for all is the better use of the same bytes.
    EXPECT_LT(archive.report.distortion.nmse(), tensors.report.distortion.nmse());
    // No tensor of its own takes much more than its share.
    for (const TensorReport& tensor : tensors.report.tensors)
      EXPECT_LE(double(tensor.block_bytes), double(tensor.input_bytes) / ratio * 1.02 + 64) << tensor.name;
  }
}

TEST(Compress, ReportsWhatItsTensorsAndPoolsAddUpTo) {
  const auto source = vit();
  const Compressed result = compressed(source, options_for({TargetKind::ratio, 16}));
  const CompressReport& report = result.report;
  uint64_t elements = 0, blocks = 0;
  double squared = 0;
  for (const TensorReport& tensor : report.tensors) {
    elements += tensor.distortion.elements;
    blocks += tensor.block_bytes;
    squared += tensor.distortion.squared_error;
  }
  EXPECT_EQ(elements, report.elements);
  EXPECT_NEAR(squared, report.distortion.squared_error, 1e-12 * squared);
  const FrameSizes sizes = FrameReader::from_bytes(result.bytes).sizes();
  EXPECT_EQ(sizes.file, result.bytes.size());
  EXPECT_EQ(sizes.blocks + sizes.checksums, blocks);
  uint64_t members = 0, payload = 0;
  for (const PoolReport& pool : report.pools)
    for (size_t j = 0; j < pool.widths.size(); ++j)
      members += pool.members[j], payload += pool.members[j] * pool.widths[j];
  EXPECT_EQ(members, elements);
  EXPECT_NEAR(report.payload_ratio(), 8.0 * double(report.input_bytes) / double(payload),
              1e-9 * report.payload_ratio());
  EXPECT_NEAR(report.bits_per_element(), 8.0 * double(result.bytes.size()) / double(elements), 1e-12);
  EXPECT_NEAR(report.hprime(), report.pools[0].noise.per_element, 1e-12);
  EXPECT_GT(report.pools[0].map_bytes + report.pools[0].value_bytes, blocks * 9 / 10);
}

TEST(Compress, CountsThePapersPayloadWhenAsked) {
  const auto source = resnet();
  for (double ratio : {8.0, 20.0, 100.0, 1000.0}) {
    CompressOptions options = options_for({TargetKind::ratio, ratio});
    options.ratio_kind = RatioKind::payload;
    const Compressed result = compressed(source, options);
    EXPECT_GE(result.report.payload_ratio(), ratio);
    EXPECT_LE(result.report.payload_ratio(), ratio * 1.01);
    EXPECT_LT(result.report.file_ratio(), ratio);  // the map is not free
    expect_true_report(*source, result);
  }
}

TEST(Compress, MeetsEverySizeTarget) {
  const auto source = resnet();
  const double elements = double(source->tensors()[0].elements());
  for (const Target& target : {Target{TargetKind::bpw, 1.0}, Target{TargetKind::bpw, 0.05},
                               Target{TargetKind::bytes, 12345}, Target{TargetKind::bytes, 200000}}) {
    const Compressed result = compressed(source, options_for(target));
    const double budget =
        target.kind == TargetKind::bpw ? std::floor(target.value * elements / 8) : target.value;
    const bool saturated = budget > 150000;  // every element at its best
    EXPECT_TRUE(saturated || double(result.bytes.size()) >= 0.99 * budget) << to_string(target);
    EXPECT_LE(double(result.bytes.size()), budget) << to_string(target);
  }
}

TEST(Compress, MoreBytesNeverLoseMore) {
  const auto source = resnet();
  double before = HUGE_VAL;
  for (double bits : {0.1, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 12.0}) {
    const double nmse = compressed(source, options_for({TargetKind::bpw, bits})).report.distortion.nmse();
    EXPECT_LE(nmse, before * 1.01) << bits;
    before = nmse;
  }
}

TEST(Compress, MeetsErrorTargets) {
  const auto source = resnet();
  for (double nmse : {0.3, 0.1, 0.01}) {
    const Compressed result = compressed(source, options_for({TargetKind::nmse, nmse}));
    EXPECT_LE(measured(*source, result.bytes).nmse(), nmse * (1 + 1e-9));
    EXPECT_GE(result.report.distortion.nmse(), 0.98 * nmse);
  }
  std::vector<float> scratch;
  float largest = 0;
  for (float g : source->read(0, 0, source->tensors()[0].elements(), scratch))
    largest = std::max(largest, std::fabs(g));
  for (double share : {0.5, 0.1, 0.01}) {
    const double maxabs = share * double(largest);
    const Compressed result = compressed(source, options_for({TargetKind::maxabs, maxabs}));
    EXPECT_LE(measured(*source, result.bytes).largest, maxabs) << share;
  }
  for (double hprime : {0.3, 0.01, 0.001}) {
    const Compressed result = compressed(source, options_for({TargetKind::hprime, hprime}));
    EXPECT_LE(result.report.hprime(), hprime);
    EXPECT_GE(result.report.hprime(), 0.98 * hprime);
  }
}

TEST(Compress, MeetsErrorTargetsThatASizeTargetReaches) {
  const std::vector<float> heavy = make_data(Kind::heavy, 60000);
  for (const auto& source : {resnet(), one_tensor(heavy)})
    for (double bits : {3.0, 4.0}) {
      const Compressed by_size = compressed(source, options_for({TargetKind::bpw, bits}));
      const double nmse = by_size.report.distortion.nmse() * 1.02,
                   maxabs = by_size.report.distortion.max_error * 1.02;
      Compressed by_error = compressed(source, options_for({TargetKind::nmse, nmse}));
      EXPECT_LE(measured(*source, by_error.bytes).nmse(), nmse * (1 + 1e-9));
      EXPECT_LE(double(by_error.bytes.size()), 1.03 * double(by_size.bytes.size())) << bits;
      by_error = compressed(source, options_for({TargetKind::maxabs, maxabs}));
      EXPECT_LE(measured(*source, by_error.bytes).largest, maxabs);
    }
}

TEST(Compress, NamesTheNearestTargetWhenOneCannotBeReached) {
  const std::vector<float> values = make_data(Kind::heavy, 1000);
  const auto source = one_tensor(values);
  for (const Target& target :
       {Target{TargetKind::ratio, 1e6}, Target{TargetKind::bytes, 20}, Target{TargetKind::bpw, 0.001}}) {
    const Error error = error_of([&] { compressed(source, options_for(target)); });
    EXPECT_EQ(error.code(), Errc::unreachable_target) << to_string(target);
    // The size it names is one that works.
    const std::string text = error.what();
    const size_t at = text.find(" has ");
    ASSERT_NE(at, std::string::npos) << text;
    const double nearest = std::stod(text.substr(at + 5));
    EXPECT_LE(double(compressed(source, options_for({TargetKind::bytes, nearest})).bytes.size()), nearest);
    EXPECT_THROW(compressed(source, options_for({TargetKind::bytes, nearest - 1})), Error);
  }
  for (const Target& target : {Target{TargetKind::nmse, 1e-12}, Target{TargetKind::maxabs, 1e-12},
                               Target{TargetKind::hprime, 1e-12}}) {
    const Error error = error_of([&] { compressed(source, options_for(target)); });
    EXPECT_EQ(error.code(), Errc::unreachable_target) << to_string(target);
    EXPECT_NE(std::string(error.what()).find("nearest"), std::string::npos) << error.what();
  }
}

TEST(Compress, TakesTargetsBeyondAllNumbersOfBytes) {
  const std::vector<float> values = make_data(Kind::heavy, 1000);
  const auto source = one_tensor(values);
  const double best = compressed(source, options_for({TargetKind::bytes, 1e6})).report.distortion.nmse();
  for (RatioKind kind : {RatioKind::file, RatioKind::payload})
    for (const Target& target : {Target{TargetKind::ratio, 1e-30}, Target{TargetKind::bpw, 1e30},
                                 Target{TargetKind::bytes, 1e300}}) {
      CompressOptions options = options_for(target);
      options.ratio_kind = kind;
      const Compressed result = compressed(source, options);
      EXPECT_LT(result.bytes.size(), 2000u);
      EXPECT_TRUE(kind == RatioKind::payload || result.report.distortion.nmse() <= best * 1.0001)
          << to_string(target);
    }
  for (const Target& target : {Target{TargetKind::nmse, 1e300}, Target{TargetKind::maxabs, 1e300},
                               Target{TargetKind::hprime, 1e300}})
    EXPECT_LT(compressed(source, options_for(target)).bytes.size(), 200u);
}

TEST(Compress, TakesTensorsOfNoAndOneElement) {
  for (const Target& target : {Target{TargetKind::bytes, 4096}, Target{TargetKind::nmse, 0.01}}) {
    const std::vector<float> none, one = {-3.25f};
    const auto empty = one_tensor(none, {0, 5});
    EXPECT_EQ(FrameReader::from_bytes(compressed(empty, options_for(target)).bytes).tensors()[0].info.shape,
              (std::vector<uint64_t>{0, 5}));
    for (bool scalar : {false, true}) {
      const auto source =
          one_tensor(one, scalar ? std::vector<uint64_t>{} : std::vector<uint64_t>{1, 1, 1}, scalar);
      const Compressed result = compressed(source, options_for(target));
      float value = 0;
      FrameReader::from_bytes(result.bytes).read(0, 0, std::span(&value, 1));
      EXPECT_EQ(value, -3.25f);
    }
  }
}

TEST(Compress, TakesDumpsWithoutTensorsAndNoDumpsAtAll) {
  const auto nothing = std::make_shared<StoredSource>();
  const Compressed result = compressed(nothing, options_for({TargetKind::bytes, 1000}));
  EXPECT_TRUE(FrameReader::from_bytes(result.bytes).tensors().empty());
  MemorySink sink;
  compress({}, options_for({TargetKind::bytes, 1000}), sink);
  EXPECT_TRUE(FrameReader::from_bytes(sink.bytes).dumps().empty());
}

class SpecialData : public testing::TestWithParam<Kind> {};

TEST_P(SpecialData, FitsItsBudgetAndIsReportedTruthfullyInEveryElementType) {
  for (size_t n : {1u, 33u, 5000u, 70000u}) {
    const std::vector<float> values = make_data(GetParam(), n);
    for (DType dtype : {DType::f16, DType::bf16, DType::f32, DType::f64}) {
      auto source = std::make_shared<StoredSource>();
      TensorInfo info;
      info.dtype = dtype;
      info.shape = {n};
      std::vector<std::byte> bytes(n * dtype_bytes(dtype));
      encode_elements(dtype, values, bytes.data());
      source->add(info, bytes);
      for (double bits : {0.5, 2.0, 20.0}) {
        const double budget = std::floor(bits * double(n) / 8 + 120);
        const Compressed result = compressed(source, options_for({TargetKind::bytes, budget}));
        ASSERT_LE(double(result.bytes.size()), budget) << n << ' ' << dtype_name(dtype);
        expect_true_report(*source, result);
        // Coding nothing is always possible, so nothing may be worse.
        ASSERT_LE(result.report.distortion.nmse(), 1.0) << n << ' ' << dtype_name(dtype) << ' ' << bits;
        ASSERT_TRUE(std::isfinite(result.report.distortion.max_error));
        if (HasFailure()) return;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, SpecialData, testing::ValuesIn(test::all_kinds),
                         [](const auto& row) { return std::string(test::kind_name(row.param)); });

TEST(Compress, GivesZerosForZerosAndConstantsExactly) {
  for (Kind kind :
       {Kind::zeros, Kind::negative_zeros, Kind::constant, Kind::one_nonzero, Kind::signed_zeros}) {
    const std::vector<float> values = make_data(kind, 10000);
    const auto source = one_tensor(values);
    const Compressed result = compressed(source, options_for({TargetKind::ratio, 8}));
    EXPECT_EQ(result.report.distortion.squared_error, 0.0) << test::kind_name(kind);
    std::vector<float> decoded(values.size());
    FrameReader::from_bytes(result.bytes).read(0, 0, decoded);
    for (size_t i = 0; i < values.size(); ++i) ASSERT_EQ(decoded[i], values[i]);
  }
}

TEST(Compress, UsesTheBudgetOnHeavilyTiedDumps) {
  for (Kind kind : {Kind::ternary, Kind::f16_grid})
    for (size_t n : {200000u, 900000u}) {
      const std::vector<float> values = make_data(kind, n);
      const Compressed result = compressed(one_tensor(values), options_for({TargetKind::ratio, 40}));
      const double budget = double(4 * n) / 40;
      EXPECT_LE(double(result.bytes.size()), budget);
      EXPECT_GE(double(result.bytes.size()), 0.99 * budget) << test::kind_name(kind) << n;
    }
}

TEST(Compress, DenormalTensorsLoseNoMoreThanNormalOnes) {
  // The same tensor 2^130 times smaller: every magnitude is subnormal.
  std::vector<float> normal = make_data(Kind::gauss, 20000), tiny;
  for (float& g : normal) {
    g = std::round(g * 0x1p15f) * 0x1p-15f;
    tiny.push_back(std::ldexp(g, -131));
  }
  for (const char* quantizer : {"cell", "mid", "offmag", "sym"}) {
    const CompressOptions options =
        options_for({TargetKind::ratio, 12}, std::string("jointsq:quant=") + quantizer);
    const double expected = compressed(one_tensor(normal), options).report.distortion.nmse();
    EXPECT_NEAR(compressed(one_tensor(tiny), options).report.distortion.nmse(), expected, 0.1 * expected)
        << quantizer;
  }
}

TEST(Compress, HugeTensorsLoseNoMoreThanNormalOnes) {
  std::vector<float> normal = make_data(Kind::gauss, 20000), huge;
  float largest = 0;
  for (float g : normal) largest = std::max(largest, std::fabs(g));
  for (float& g : normal) {
    g /= largest;
    huge.push_back(g * FLT_MAX);
  }
  for (const char* quantizer : {"cell", "mid", "offmag", "sym"}) {
    const CompressOptions options =
        options_for({TargetKind::ratio, 12}, std::string("jointsq:quant=") + quantizer);
    const double expected = compressed(one_tensor(normal), options).report.distortion.nmse();
    EXPECT_NEAR(compressed(one_tensor(huge), options).report.distortion.nmse(), expected, 0.1 * expected)
        << quantizer;
  }
}

std::shared_ptr<StoredSource> with_nonfinite() {
  auto source = std::make_shared<StoredSource>();
  std::vector<uint32_t> words(6 * 70000);
  const std::vector<float> values = make_data(Kind::heavy, words.size());
  std::memcpy(words.data(), values.data(), 4 * words.size());
  words[0] = 0x7fc00001;
  words[70001] = 0xff800000;
  words[70002] = 0x7f800000;
  words[131072] = 0xffffffff;
  words.back() = 0x7f800001;  // signalling
  source->add("a", DType::f32, {6, 70000}, words);
  std::vector<uint16_t> halves(1000, 0x3c00);
  halves[3] = 0x7c00;
  halves[500] = 0xfe01;
  halves[999] = 0x7d55;
  source->add("b", DType::f16, {1000}, halves);
  std::vector<uint64_t> doubles(300, std::bit_cast<uint64_t>(0.5));
  doubles[7] = 0x7ff0000000000001;
  doubles[8] = std::bit_cast<uint64_t>(1e300);  // beyond f32
  source->add("c", DType::f64, {300}, doubles);
  return source;
}

TEST(NonFinite, IsRefusedByDefaultWithCountsAndTheFirstPlace) {
  const Error error = error_of([] { compressed(with_nonfinite(), options_for({TargetKind::ratio, 10})); });
  EXPECT_EQ(error.code(), Errc::non_finite);
  const std::string text = error.what();
  for (const char* part : {"dump", "a", "3 NaN", "1 +Inf", "1 -Inf", "[0,0]", "keep"})
    EXPECT_NE(text.find(part), std::string::npos) << text;
  std::vector<float> values = make_data(Kind::gauss, 24);
  values[13] = NAN;
  const Error second = error_of([&] {
    compressed(one_tensor(values, {2, 3, 4}), options_for({TargetKind::bytes, 1000}));
  });
  EXPECT_NE(std::string(second.what()).find("[1,0,1]"), std::string::npos) << second.what();
}

TEST(NonFinite, BecomesZeroOnRequest) {
  const auto source = with_nonfinite();
  CompressOptions options = options_for({TargetKind::ratio, 10});
  options.nonfinite = NonFinitePolicy::zero;
  const Compressed result = compressed(source, options);
  const FrameReader reader = FrameReader::from_bytes(result.bytes);
  std::vector<float> values(6 * 70000);
  reader.read(0, 0, values);
  for (size_t i : {size_t(0), size_t(70001), size_t(70002), size_t(131072), values.size() - 1})
    EXPECT_EQ(std::bit_cast<uint32_t>(values[i]), 0u) << i;
  for (float g : values) ASSERT_TRUE(std::isfinite(g));
  EXPECT_EQ(result.report.tensors[0].nonfinite, 5u);
  EXPECT_EQ(result.report.tensors[1].nonfinite, 3u);
  EXPECT_EQ(result.report.tensors[2].nonfinite, 2u);
  EXPECT_EQ(reader.tensors()[0].nonfinite_count, 5u);
}

TEST(NonFinite, IsKeptWithEveryBitOnRequest) {
  const auto source = with_nonfinite();
  CompressOptions options = options_for({TargetKind::ratio, 10});
  options.nonfinite = NonFinitePolicy::keep;
  for (Scope scope : {Scope::archive, Scope::tensor}) {
    options.scope = scope;
    const Compressed result = compressed(source, options);
    EXPECT_LE(double(result.bytes.size()), double(result.report.input_bytes) / 10);
    const FrameReader reader = FrameReader::from_bytes(result.bytes);
    for (size_t t = 0; t < 3; ++t) {
      const TensorInfo& info = source->tensors()[t];
      const uint64_t n = info.elements();
      const size_t size = dtype_bytes(info.dtype);
      std::vector<std::byte> stored(n * size);
      reader.read_stored(t, 0, n, stored);
      std::vector<float> original(n);
      decode_elements(info.dtype, false, source->stored(t).data(), original);
      uint64_t kept = 0;
      for (uint64_t i = 0; i < n; ++i) {
        if (std::isfinite(original[i])) continue;
        ++kept;
        ASSERT_EQ(std::memcmp(stored.data() + i * size, source->stored(t).data() + i * size, size), 0)
            << t << ' ' << i;
      }
      EXPECT_EQ(result.report.tensors[t].nonfinite, kept);
    }
    // A slice restores them too.
    float slice[4];
    reader.read(0, 70000, slice);
    EXPECT_EQ(slice[1], -HUGE_VALF);
    EXPECT_EQ(slice[2], HUGE_VALF);
    EXPECT_TRUE(reader.test(false).empty());
  }
}

TEST(NonFinite, MayBeAllOfATensor) {
  auto source = std::make_shared<StoredSource>();
  source->add("nan", DType::f32, {50}, std::vector<uint32_t>(50, 0x7fc12345));
  CompressOptions options = options_for({TargetKind::bytes, 2000});
  options.nonfinite = NonFinitePolicy::keep;
  const Compressed result = compressed(source, options);
  std::vector<std::byte> stored(200);
  FrameReader::from_bytes(result.bytes).read_stored(0, 0, 50, stored);
  EXPECT_EQ(stored, source->stored(0));
  options.nonfinite = NonFinitePolicy::zero;
  EXPECT_EQ(compressed(source, options).report.distortion.nmse(), 0.0);
}

TEST(Compress, RespectsTheBudgetForEveryCombinationOfOptions) {
  const std::vector<float> values = make_data(Kind::heavy, 12000), tied = make_data(Kind::ternary, 12000);
  for (const char* alloc : {"exact", "literal", "sampled"})
    for (const char* realloc : {"none", "paper", "hill"})
      for (const char* quant : {"cell", "mid", "offmag", "sym"})
        for (const char* map : {"auto", "raw", "bitmap", "rice", "entropy"})
          for (const char* coder : {"auto", "planes", "entropy"}) {
            const std::string method = std::string("jointsq:alloc=") + alloc + ",realloc=" + realloc +
                                       ",quant=" + quant + ",map=" + map + ",values=" + coder;
            const bool other = (alloc[0] + quant[0] + map[0] + coder[0]) % 2;
            const auto source = one_tensor(other ? values : tied);
            const Compressed result = compressed(source, options_for({TargetKind::ratio, 12}, method));
            ASSERT_LE(result.bytes.size(), 4u * 12000 / 12) << method;
            const double nmse = measured(*source, result.bytes).nmse();
            ASSERT_NEAR(result.report.distortion.nmse(), nmse, 1e-9 * nmse) << method;
          }
}

TEST(Compress, TakesOtherWidthSets) {
  const std::vector<float> values = make_data(Kind::heavy, 30000);
  const auto source = one_tensor(values);
  for (const char* widths : {"0248", "012345678", "013", "048", "08", "01", "248", "5", "0"}) {
    const Compressed result =
        compressed(source, options_for({TargetKind::bytes, 30000}, std::string("jointsq:widths=") + widths));
    EXPECT_LE(result.bytes.size(), 30000u) << widths;
    expect_true_report(*source, result);
  }
}

TEST(Compress, CodesManyTensorsOfManySizes) {
  auto source = std::make_shared<StoredSource>();
  Random random(3);
  for (int t = 0; t < 300; ++t) {
    const size_t n = t % 10 ? random.below(200) : random.below(3000);
    source->add("layer" + std::to_string(t) + ".weight", DType::f32, {n},
                make_data(Kind::heavy, n, uint64_t(t)));
  }
  for (Scope scope : {Scope::archive, Scope::tensor}) {
    CompressOptions options = options_for({TargetKind::ratio, 4});
    options.scope = scope;
    const Compressed result = compressed(source, options);
    EXPECT_LE(double(result.bytes.size()), double(result.report.input_bytes) / 4);
    expect_true_report(*source, result);
  }
}

TEST(Compress, UsesTheBudgetWhereMostOfManyShortTensorsKeepNothing) {
  auto source = std::make_shared<StoredSource>();
  Random random(29);
  for (size_t t = 0; t < 4000; ++t) {
    std::vector<float> values = make_data(Kind::heavy, 100, t);
    const auto scale = float(std::exp(4 * random.uniform()));
    for (float& value : values) value *= scale;
    source->add("t" + std::to_string(t), DType::f32, {values.size()}, values);
  }
  for (const char* method : {"jointsq", "topk"})
    for (const double ratio : {20.0, 60.0}) {
      const Compressed result = compressed(source, options_for({TargetKind::ratio, ratio}, method));
      const double budget = double(result.report.input_bytes) / ratio;
      EXPECT_LE(double(result.bytes.size()), budget) << method << ' ' << ratio;
      EXPECT_GE(double(result.bytes.size()), 0.98 * budget) << method << ' ' << ratio;
    }
}

/// What a sink is given, by tensor.
class StoringSink final : public GradientSink {
 public:
  void write(size_t tensor, std::span<const std::byte> stored) override {
    if (given.size() <= tensor) given.resize(tensor + 1);
    given[tensor].insert(given[tensor].end(), stored.begin(), stored.end());
  }
  void finish() override {}
  std::vector<std::vector<std::byte>> given;
};

/// Tensors around every border that blocks coded side by side have: runs, short tensors, blocks.
std::shared_ptr<StoredSource> short_and_long_tensors() {
  auto source = std::make_shared<StoredSource>();
  Random random(17);
  for (const size_t n : {1,    31,   0,    32,   33,   1000,  1001, 999,  64,   5,    1,    1,    2000,
                         8192, 8193, 300,  300,  300,  70000, 7,    96,   1023, 1000, 1000, 1000, 1000,
                         1000, 1000, 1000, 1000, 1000, 1000,  1000, 1000, 1000, 1000, 1000, 12}) {
    const size_t t = source->tensors().size();
    std::vector<float> values = make_data(Kind::heavy, n, t);
    if (n > 30 && t % 3 == 0) values[random.below(n)] = t % 2 ? HUGE_VALF : NAN;
    const DType dtype = t % 5 == 2 ? DType::bf16 : t % 5 == 4 ? DType::f16 : DType::f32;
    std::vector<std::byte> stored(n * dtype_bytes(dtype));
    encode_elements(dtype, values, stored.data());
    TensorInfo info;
    info.name = "layer" + std::to_string(t);
    info.dtype = dtype;
    info.shape = {n};
    source->add(std::move(info), std::move(stored));
  }
  return source;
}

TEST(Compress, ShortTensorsAreDecodedTogetherAsAlone) {
  const auto source = short_and_long_tensors();
  for (const char* method :
       {"jointsq", "jointsq:widths=024", "jointsq:quant=mid", "topk", "rdoq", "qsgd", "acpsgd"})
    for (const double ratio : {3.0, 8.0, 15.0}) {
      CompressOptions options = options_for({TargetKind::ratio, ratio}, method);
      options.nonfinite = NonFinitePolicy::keep;
      if (std::string(method) == "acpsgd" || std::string(method) == "qsgd")
        options.target = {TargetKind::native, 0};
      const Compressed result = compressed(source, options);
      const FrameReader reader = FrameReader::from_bytes(result.bytes);
      const size_t count = reader.tensors().size();
      std::vector<std::vector<float>> alone;
      std::vector<std::vector<std::byte>> stored_alone;
      for (size_t t = 0; t < count; ++t) {
        const TensorInfo& info = reader.tensors()[t].info;
        reader.read(t, 0, alone.emplace_back(info.elements()));
        reader.read_stored(t, 0, info.elements(), stored_alone.emplace_back(info.stored_bytes()));
      }
      for (const unsigned threads : {1u, 3u}) {
        for (const auto& [first, end] :
             {std::pair<size_t, size_t>{0, count}, {3, 17}, {5, 5}, {12, count - 1}}) {
          std::vector<float> expected;
          for (size_t t = first; t < end; ++t)
            expected.insert(expected.end(), alone[t].begin(), alone[t].end());
          std::vector<float> together(expected.size());
          reader.read_tensors(first, end - first, together, threads);
          ASSERT_TRUE(
              std::ranges::equal(std::as_bytes(std::span(together)), std::as_bytes(std::span(expected))))
              << method << ' ' << ratio << ' ' << first;
        }
        StoringSink sink;
        reader.write_dump(0, sink, threads);
        sink.given.resize(count);
        ASSERT_EQ(sink.given, stored_alone) << method << ' ' << ratio;
      }
    }
}

TEST(Compress, ADamagedShortTensorIsNamedWhereverItIsReadBesideOthers) {
  const auto source = short_and_long_tensors();
  CompressOptions options = options_for({TargetKind::ratio, 8});
  options.nonfinite = NonFinitePolicy::keep;
  std::string bytes = compressed(source, options).bytes;
  size_t damaged = 0;
  {
    const FrameReader reader = FrameReader::from_bytes(bytes);
    damaged = reader.find("layer25");
    bytes[size_t(reader.tensors()[damaged].first_byte) + 6] ^= 1;
  }
  const FrameReader reader = FrameReader::from_bytes(bytes);
  uint64_t elements = 0;
  for (const FrameTensor& tensor : reader.tensors()) elements += tensor.info.elements();
  std::vector<float> values(elements);
  StoringSink sink;
  const std::function<void()> readings[] = {[&] { reader.read_tensors(0, reader.tensors().size(), values); },
                                            [&] { reader.write_dump(0, sink); }};
  for (const auto& reading : readings) {
    const Error error = error_of(reading);
    EXPECT_EQ(error.code(), Errc::damaged);
    EXPECT_NE(std::string(error.what()).find("'layer25'"), std::string::npos) << error.what();
  }
  EXPECT_EQ(error_of([&] { reader.read_tensors(0, 3, values); }).code(), Errc::usage);
  EXPECT_EQ(error_of([&] { reader.read_tensors(reader.tensors().size(), 1, {}); }).code(), Errc::usage);
}

TEST(Compress, WritesOnlyTheTensorsAskedForAndKeepsMetadata) {
  const auto source = vit();
  CompressOptions options = options_for({TargetKind::ratio, 8});
  options.metadata = {{"step", "100"}, {"note", "a \"quoted\" one"}};
  MemorySink sink;
  compress({{"a/b.h5", source, {0, 2}, false}, {"c.h5", source, {1}, false}}, options, sink);
  const FrameReader reader = FrameReader::from_bytes(sink.bytes);
  ASSERT_EQ(reader.tensors().size(), 3u);
  EXPECT_EQ(reader.tensors()[0].info.name, source->tensors()[0].name);
  EXPECT_EQ(reader.tensors()[1].info.name, source->tensors()[2].name);
  EXPECT_EQ(reader.tensors()[2].info.name, source->tensors()[1].name);
  EXPECT_EQ(reader.dumps()[0].path, "a/b.h5");
  EXPECT_EQ(reader.dumps()[1].first_tensor, 2u);
  EXPECT_EQ(reader.metadata(), options.metadata);
}

TEST(Compress, ReportsProgressThatEndsWithTheWhole) {
  const auto source = resnet();
  CompressOptions options = options_for({TargetKind::nmse, 0.1});
  uint64_t last = 0, whole = 0;
  options.progress = [&](uint64_t done, uint64_t total) {
    EXPECT_LE(done, total);
    last = done;
    whole = total;
  };
  compressed(source, options);
  EXPECT_EQ(last, whole);
  EXPECT_GT(whole, 0u);
  options.progress = [](uint64_t, uint64_t) { throw Error(Errc::usage, "stop"); };
  EXPECT_EQ(error_of([&] { compressed(source, options); }).code(), Errc::usage);
}

// Random shapes, data, element types, targets, methods and scopes; the seed of a case is in its failure.
TEST(Compress, RoundTripsTenThousandRandomSmallDumps) {
  size_t coded = 0;
  for (uint64_t seed = 1; seed <= 10000 && !HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Random random(seed);
    auto source = std::make_shared<StoredSource>();
    const size_t tensors = 1 + random.below(3);
    for (size_t t = 0; t < tensors; ++t) {
      TensorInfo info;
      info.name = std::string(random.below(20), char('a' + t));
      info.dtype = DType(1 + random.below(4));
      for (size_t rank = random.below(4), k = 0; k < rank; ++k)
        info.shape.push_back(random.below(12) ? 1 + random.below(9) : 0);
      const std::vector<float> values =
          make_data(test::all_kinds[random.below(std::size(test::all_kinds))], info.elements(), seed);
      std::vector<std::byte> bytes(info.stored_bytes());
      if (!bytes.empty()) encode_elements(info.dtype, values, bytes.data());
      source->add(info, bytes);
    }
    const char* methods[] = {"jointsq",
                             "jointsq:quant=mid",
                             "jointsq:quant=offmag,map=rice",
                             "jointsq:quant=sym,values=planes",
                             "jointsq:alloc=sampled,widths=012345678",
                             "jointsq:alloc=literal,realloc=hill,map=bitmap"};
    CompressOptions options =
        options_for({TargetKind::bytes, double(150 * tensors + random.below(300))}, methods[random.below(6)]);
    options.scope = random.below(2) ? Scope::archive : Scope::tensor;
    options.seed = seed;
    options.threads = 1;
    MemorySink sink;
    CompressReport report;
    try {
      report = compress({{"dump", source, {}, true}}, options, sink);
    } catch (const Error& error) {
      ASSERT_EQ(error.code(), Errc::unreachable_target) << error.what();
      continue;
    }
    ++coded;
    ASSERT_LE(double(sink.bytes.size()), options.target.value);
    const FrameReader reader = FrameReader::from_bytes(sink.bytes);
    ASSERT_TRUE(reader.test(false, 1).empty());
    const Measured truth = measured(*source, sink.bytes);
    ASSERT_NEAR(report.distortion.nmse(), truth.nmse(), 1e-9 * truth.nmse());
    // Cells never lose more than coding nothing does.
    ASSERT_TRUE(options.method.option("quant") != "cell" || truth.nmse() <= 1.0 + 1e-9);
  }
  EXPECT_GT(coded, 8000u);
}

TEST(Compress, RefusesLayersThatAreNotTheTensor) {
  const std::vector<float> values = make_data(Kind::heavy, 60, 1);
  const auto refuses = [&](std::vector<std::vector<uint64_t>> layers) {
    MemorySink sink;
    InputDump input{"dump", one_tensor(values), {}, true};
    input.layers[0] = std::move(layers);
    try {
      compress({input}, options_for({TargetKind::nmse, 0.1}, "rdoq"), sink);
      return false;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::usage) << error.what();
      return true;
    }
  };
  const uint64_t large = uint64_t(1) << 32;
  EXPECT_FALSE(refuses({{5, 10}, {10}}));
  EXPECT_TRUE(refuses({}));
  EXPECT_TRUE(refuses({{5, 10}}));
  EXPECT_TRUE(refuses({{5, 10}, {11}}));
  EXPECT_TRUE(refuses({{60}, {0}}));
  EXPECT_TRUE(refuses({{large, large, 60}}));
  EXPECT_TRUE(refuses({std::vector<uint64_t>(33, 1), {59}}));
}

TEST(SourceOf, RefusesAShapeThatIsNotTheValues) {
  const std::vector<float> values(10);
  EXPECT_EQ(error_of([&] { one_tensor(values, {3, 4}); }).code(), Errc::usage);
}

}  // namespace
}  // namespace jsq

// What rdoq makes of budgets: used to 99.8 % and never exceeded, by pools of every size, those too where
// training sees a sample; by the same bytes on any number of threads and at every SIMD level, under every
// preset.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <numbers>

#include "tests/kernels/simd_levels.hpp"
#include "tests/lib/methods/registry_suite.hpp"

namespace jsq {
namespace {

using test::coded;
using test::Coded;
using test::Kind;
using test::make_data;
using test::StoredSource;

struct Variant {
  const char* method;
  Rounding rounding = Rounding::automatic;
  std::array<double, 3> ratios = {32};  ///< of a large pool
};

constexpr Variant variants[] = {
    {"rdoq:preset=fast"},
    {"rdoq"},
    {"rdoq:preset=best"},
    {"rdoq:levels=dependent,preset=fast"},
    {"rdoq", Rounding::stochastic, {8, 300}},
};

CompressOptions options_of(const Variant& variant, const Target& target, unsigned threads = 0) {
  CompressOptions options;
  options.method = parse_method(variant.method);
  options.rounding = variant.rounding;
  options.target = target;
  options.threads = threads;
  options.seed = 3;
  return options;
}

/// Rows and columns of many scales, a vector whose scale drifts, small tensors, and zeros at the end: what a
/// sample tells of the whole, and the beginning of the end, is never quite right.
std::shared_ptr<StoredSource> large_pool() {
  auto source = std::make_shared<StoredSource>();
  std::vector<float> matrix = make_data(Kind::heavy, 1200 * 700, 1),
                     vector = make_data(Kind::gauss, 600000, 2);
  for (size_t i = 0; i < matrix.size(); ++i)
    matrix[i] *= std::exp2(float(i / 700 * 7 % 13) / 2 + float(i % 700 * 5 % 9) / 3);
  for (size_t i = 0; i < vector.size(); ++i) vector[i] *= 0.1f * std::exp2(float(i) / 60000);
  source->add("bias", DType::f32, {64}, make_data(Kind::gauss, 64, 3));
  source->add("matrix", DType::f32, {1200, 700}, matrix);
  source->add("scale", DType::f32, {64}, make_data(Kind::gauss, 64, 4));
  source->add("vector", DType::f32, {vector.size()}, vector);
  source->add("zeros", DType::f32, {100000}, std::vector<float>(100000));
  return source;
}

/// A small net whose scales of rows and columns would take more than a thousandth of it.
std::shared_ptr<StoredSource> small_net() {
  auto source = std::make_shared<StoredSource>();
  test::Random random(9);
  const auto add = [&](const char* name, std::vector<uint64_t> shape) {
    uint64_t n = 1;
    for (uint64_t extent : shape) n *= extent;
    std::vector<float> values(n);
    for (float& value : values) {  // Student's t of three degrees of freedom
      double squares = 0;
      for (int i = 0; i < 3; ++i) squares += std::pow(random.normal(), 2);
      value = float(1e-3 * random.normal() / std::sqrt(squares / 3));
    }
    source->add(name, DType::f32, std::move(shape), values);
  };
  add("0.weight", {32, 1, 3, 3});
  add("0.bias", {32});
  add("2.weight", {32, 32, 3, 3});
  add("5.weight", {64, 32, 3, 3});
  add("8.weight", {64, 1024});
  add("8.bias", {64});
  add("10.weight", {10, 64});
  return source;
}

TEST(RdoqBudget, OfAFewHundredBytesIsSpentOnValuesAndNotLeftBecauseScalesTakeMore) {
  const auto source = small_net();
  for (const char* method : {"rdoq:preset=fast", "rdoq:transform=none", "rdoq"})
    for (const double ratio : {600.0, 1000.0, 1500.0}) {
      const Coded result = coded(source, options_of({method}, {TargetKind::ratio, ratio}));
      const double budget = std::floor(double(result.report.input_bytes) / ratio);
      EXPECT_LE(double(result.bytes.size()), budget) << method << ' ' << ratio;
      EXPECT_GE(double(result.bytes.size()), 0.97 * budget) << method << ' ' << ratio;
      EXPECT_LT(result.report.distortion.nmse(), 0.95) << method << ' ' << ratio;
    }
}

TEST(RdoqBudget, TooSmallForThreeValuesIsSpentOnAsManyElementsAsFit) {
  for (const uint64_t rows : {200, 4000}) {  // the latter is looked at by samples
    const size_t n = rows * 300;
    std::vector<float> values(n);
    test::Random random(4);
    for (float& value : values) value = 0.01f * float(int(random.below(3)) - 1);
    auto source = std::make_shared<StoredSource>();
    source->add("a", DType::f32, {rows, 300}, values);
    for (const char* method : {"rdoq:preset=fast", "rdoq:transform=none", "rdoq"})
      for (const double bits : {1.0, 0.5, 0.1}) {
        const Coded result = coded(source, options_of({method}, {TargetKind::ratio, 32 / bits}));
        EXPECT_LE(double(result.bytes.size()), bits * double(n) / 8) << method << ' ' << bits;
        const double share = bits / std::log2(3.0);  // of the elements, at their entropy
        EXPECT_LT(result.report.distortion.nmse(), 1 - (bits > 0.1 ? 0.85 : 0.6) * share)
            << method << ' ' << bits << ' ' << rows;
      }
  }
}

TEST(RdoqBudget, AtHighRatesComesWithinAFifthOfUniformQuantizersInTheory) {
  // Stretches of five scales, the last below the error: 10 bits a number for the four others, of which a
  // uniform quantizer with an entropy coder leaves pi e / 6 2^-20 of their geometric mean.
  constexpr size_t n = 50000;
  constexpr float scales[] = {1, 0.1f, 0.01f, 0.001f, 0.00001f};
  std::vector<float> values;
  double energy = 0;
  for (size_t k = 0; k < 5; ++k)
    for (float value : make_data(Kind::gauss, n, k)) {
      values.push_back(value * scales[k]);
      energy += double(values.back()) * double(values.back());
    }
  auto source = std::make_shared<StoredSource>();
  source->add("a", DType::f32, {values.size()}, values);
  const double expected = 4 * n * std::numbers::pi * std::numbers::e / 6 * 0x1p-20 * 1e-3 / energy;
  for (const char* method : {"rdoq:preset=fast", "rdoq"}) {
    const Coded result = coded(source, options_of({method}, {TargetKind::ratio, 4}));
    EXPECT_LT(result.report.distortion.nmse(), 1.2 * expected) << method;
  }
}

TEST(RdoqBudget, IsNoWorseSpentOnManyShortRowsThanOnTheSameValuesWithoutAShape) {
  constexpr size_t rows = 30000;
  std::vector<float> values = make_data(Kind::gauss, 3 * rows, 6);
  const std::vector<float> octaves = make_data(Kind::gauss, rows, 7);
  for (size_t i = 0; i < values.size(); ++i) values[i] *= std::exp2(octaves[i / 3]);
  auto tall = std::make_shared<StoredSource>(), flat = std::make_shared<StoredSource>();
  tall->add("a", DType::f32, {rows, 3}, values);
  flat->add("a", DType::f32, {3 * rows}, values);
  for (const char* method : {"rdoq:preset=fast", "rdoq"})
    for (const double ratio : {8.0, 64.0}) {
      const CompressOptions options = options_of({method}, {TargetKind::ratio, ratio});
      EXPECT_LT(coded(tall, options).report.distortion.nmse(),
                1.02 * coded(flat, options).report.distortion.nmse())
          << method << ' ' << ratio;
    }
}

TEST(RdoqBudget, IsUsedByLargePoolsTo998InAThousandAndNeverExceeded) {
  const auto source = large_pool();
  uint64_t elements = 0;
  for (const TensorInfo& info : source->tensors()) elements += info.elements();
  ASSERT_GT(elements, uint64_t(1) << 20);
  for (const Variant& variant : variants)
    for (const double ratio : variant.ratios) {
      if (ratio == 0) continue;
      // Random levels have no weight of a bit that could be moved: their steps alone come near.
      const double used = variant.rounding == Rounding::stochastic ? 0.99 : 0.998;
      const uint64_t budget = uint64_t(double(4 * elements) / ratio);
      const Coded result = coded(source, options_of(variant, {TargetKind::ratio, ratio}));
      EXPECT_LE(result.bytes.size(), budget) << variant.method << ' ' << ratio;
      EXPECT_GE(double(result.bytes.size()), used * double(budget)) << variant.method << ' ' << ratio;
      // Blocks that were coded again are what is stored, and what the report tells of.
      test::expect_true(result.report, test::truth_of(*source, result.bytes));
    }
}

TEST(RdoqBudget, OfALargePoolGoesToTheStretchesThatAreStrong) {
  // One stretch of 4,096 in 32 is 64 times as strong: five bits for each of its elements leave 0.001 of the
  // energy, and the weak ones 31 / 4096. A stretch alone, as training sees it, does not tell that one scale
  // for a block will not do.
  std::vector<float> values = make_data(Kind::gauss, size_t(2) << 20, 5);
  for (size_t i = 0; i < values.size(); ++i) values[i] *= i / 4096 % 32 == 7 ? 1.0f : 1.0f / 64;
  auto source = std::make_shared<StoredSource>();
  source->add("runs", DType::f32, {values.size()}, values);
  for (const char* method : {"rdoq:preset=fast", "rdoq"})
    EXPECT_LT(coded(source, options_of({method}, {TargetKind::ratio, 200})).report.distortion.nmse(), 0.012)
        << method;
}

TEST(RdoqBudget, IsMetWithNonFiniteElementsBetweenTheBlocks) {
  auto source = std::make_shared<StoredSource>();
  for (uint32_t t = 0; t < 3; ++t) {
    std::vector<float> values = make_data(Kind::heavy, 500000, t + 1);
    for (size_t i = t; i < values.size(); i += 50021) values[i] = i % 2 ? HUGE_VALF : std::nanf("");
    source->add("t" + std::to_string(t), DType::f32, {values.size()}, values);
  }
  CompressOptions options = options_of({"rdoq"}, {TargetKind::ratio, 20});
  options.nonfinite = NonFinitePolicy::keep;
  const Coded result = coded(source, options);
  EXPECT_LE(result.bytes.size(), 300000u);
  EXPECT_GE(double(result.bytes.size()), 0.998 * 300000);
  const FrameReader reader = FrameReader::from_bytes(result.bytes);
  EXPECT_TRUE(reader.test(false).empty());
  for (uint32_t t = 0; t < 3; ++t) {
    const std::vector<float> back = test::values_of(reader, t);
    std::vector<float> scratch;
    const std::span<const float> values = source->read(t, 0, back.size(), scratch);
    for (size_t i = t; i < back.size(); i += 50021)
      EXPECT_EQ(std::isnan(back[i]) ? 0 : back[i], std::isnan(values[i]) ? 0 : values[i]) << t << ' ' << i;
  }
}

TEST(RdoqBudget, GivesTheSameBytesOnAnyNumberOfThreads) {
  for (const auto& source : {large_pool(), [] {
                               auto small = std::make_shared<StoredSource>();
                               small->add("a", DType::f32, {200, 300}, make_data(Kind::heavy, 60000, 1));
                               small->add("b", DType::f32, {900}, make_data(Kind::gauss, 900, 2));
                               return small;
                             }()})
    for (const Variant& variant : variants) {
      const Target target{TargetKind::ratio, 30};
      const std::string alone = coded(source, options_of(variant, target, 1)).bytes;
      EXPECT_EQ(coded(source, options_of(variant, target, 3)).bytes == alone, true) << variant.method;
    }
}

TEST(RdoqBudget, GivesTheSameBytesAtEverySimdLevel) {
  auto source = std::make_shared<StoredSource>();
  source->add("a", DType::f32, {200, 30, 3, 3}, make_data(Kind::heavy, 54000, 1));
  source->add("b", DType::f32, {900}, make_data(Kind::gauss, 900, 2));
  for (const Variant& variant : variants) {
    std::string first;
    std::vector<float> values;
    test::for_each_simd_level([&] {
      const std::string bytes = coded(source, options_of(variant, {TargetKind::ratio, 30})).bytes;
      const std::vector<float> decoded = test::values_of(FrameReader::from_bytes(bytes));
      if (first.empty()) {
        first = bytes;
        values = decoded;
      }
      EXPECT_EQ(bytes == first, true) << variant.method;
      EXPECT_TRUE(test::same_bits(decoded, values)) << variant.method;
    });
  }
}

}  // namespace
}  // namespace jsq

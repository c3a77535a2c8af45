// Transforms under rdoq: smooth kernels and low-rank matrices take fewer bytes, what the report says is what
// a frame decodes to, other parts lose nothing, and impossible transforms are refused.
#include <gtest/gtest.h>

#include <cmath>

#include "lib/methods/rdoq_parameters.hpp"
#include "lib/methods/rdoq_stage.hpp"
#include "tests/lib/methods/registry_suite.hpp"

namespace jsq {
namespace {

using test::StoredSource;
using test::truth_of;

/// Kernels that are a smooth bump times noise for each, with a little white noise.
std::vector<float> smooth_kernels(size_t kernels, size_t side, uint64_t seed) {
  const std::vector<float> noise = test::make_data(test::Kind::gauss, kernels * (side * side + 1), seed);
  std::vector<float> values;
  for (size_t k = 0; k < kernels; ++k)
    for (size_t i = 0; i < side * side; ++i) {
      const float x = float(i % side) - 1, y = float(i / side) - 1;
      values.push_back(noise[k] / (1 + 0.1f * (x * x + y * y)) + 0.1f * noise[kernels + k * side * side + i]);
    }
  return values;
}

test::Coded coded(const std::shared_ptr<const GradientSource>& source, const std::string& method,
                  const Target& target, unsigned threads = 0) {
  CompressOptions options;
  options.method = parse_method(method);
  options.target = target;
  options.threads = threads;
  return test::coded(source, options);
}

std::shared_ptr<StoredSource> smooth_dump(DType dtype = DType::f32) {
  auto source = std::make_shared<StoredSource>();
  source->add("conv1", dtype, {24, 16, 3, 3}, smooth_kernels(24 * 16, 3, 1));
  source->add("conv2", dtype, {20, 24, 5, 5}, smooth_kernels(20 * 24, 5, 2));
  source->add("matrix", dtype, {40, 50}, test::make_data(test::Kind::gauss, 2000, 3));
  source->add("vector", dtype, {77}, test::make_data(test::Kind::gauss, 77, 4));
  return source;
}

TEST(RdoqTransforms, SmoothKernelsTakeAThirdFewerBytesAtTheSameError) {
  const auto source = smooth_dump();
  const Target target{TargetKind::nmse, 0.05};
  const test::Coded with = coded(source, "rdoq:transform=auto", target),
                    without = coded(source, "rdoq:transform=none", target);
  EXPECT_LE(truth_of(*source, with.bytes).nmse(), 0.05);
  EXPECT_LT(double(with.bytes.size()), 0.67 * double(without.bytes.size()));
}

TEST(RdoqTransforms, AMatrixOfLowRankIsFoundInPanelsToo) {
  for (const size_t side : {300, 2100}) {  // in memory at once, and in panels
    const std::vector<float> left = test::make_data(test::Kind::gauss, side, 1),
                             right = test::make_data(test::Kind::gauss, side, 2);
    std::vector<float> values;
    values.reserve(side * side);
    for (const float a : left)
      for (const float b : right) values.push_back(a * b);
    auto source = std::make_shared<StoredSource>();
    source->add("matrix", DType::f32, {side, side}, std::move(values));
    const Target target{TargetKind::ratio, double(side) / 3};
    EXPECT_LT(coded(source, "rdoq", target).report.distortion.nmse(), 0.01) << side;
    EXPECT_GT(coded(source, "rdoq:transform=none", target).report.distortion.nmse(), 0.1) << side;
  }
}

TEST(RdoqTransforms, ReportsAreTheMeasuredTruthInEveryElementType) {
  for (DType dtype : {DType::f32, DType::f16, DType::bf16, DType::f64}) {
    const auto source = smooth_dump(dtype);
    for (double ratio : {8, 64}) {
      const test::Coded result = coded(source, "rdoq:transform=dct", {TargetKind::ratio, ratio});
      test::expect_true(result.report, truth_of(*source, result.bytes), 1e-9);
    }
  }
}

TEST(RdoqTransforms, ThreadsDoNotChangeTheBytes) {
  const auto source = smooth_dump();
  const std::string one = coded(source, "rdoq:transform=auto", {TargetKind::ratio, 20}, 1).bytes;
  EXPECT_EQ(coded(source, "rdoq:transform=auto", {TargetKind::ratio, 20}, 2).bytes, one);
  EXPECT_EQ(coded(source, "rdoq:transform=auto", {TargetKind::ratio, 20}, 5).bytes, one);
}

TEST(RdoqTransforms, NoiseIsNoDearerThanWithoutTransforms) {
  auto source = std::make_shared<StoredSource>();
  for (uint64_t k = 0; k < 6; ++k)
    source->add("conv" + std::to_string(k), DType::f32, {16, 16, 3, 3},
                test::make_data(test::Kind::heavy, 2304, k));
  for (double ratio : {10, 100}) {
    const Target target{TargetKind::ratio, ratio};
    const double with = truth_of(*source, coded(source, "rdoq:transform=auto", target).bytes).nmse();
    EXPECT_LE(with, 1.005 * truth_of(*source, coded(source, "rdoq:transform=none", target).bytes).nmse());
  }
}

TEST(RdoqTransforms, LargestErrorsAreMetWithoutThem) {
  const auto source = smooth_dump();
  const test::Coded result = coded(source, "rdoq:transform=auto", {TargetKind::maxabs, 0.05});
  EXPECT_LE(truth_of(*source, result.bytes).max_error, 0.05);
}

TEST(RdoqTransforms, KernelsThatABlockCutsStayAsTheyAre) {
  // Blocks of a large pool have 2^16 elements and more; no multiple of 27 is a power of two.
  auto source = std::make_shared<StoredSource>();
  source->add("conv", DType::f32, {220, 200, 3, 3, 3}, [] {
    std::vector<float> values = smooth_kernels(220 * 200 * 3, 3, 7);
    for (size_t i = 0; i < 3 * 9; ++i) values[65536 / 27 * 27 + i] += 50.0f * float(i % 2);
    return values;
  }());
  const test::Coded result = coded(source, "rdoq:transform=dct", {TargetKind::ratio, 16});
  const test::Truth truth = truth_of(*source, result.bytes);
  test::expect_true(result.report, truth, 1e-9);
  EXPECT_LT(truth.nmse(),
            truth_of(*source, coded(source, "rdoq:transform=none", {TargetKind::ratio, 16}).bytes).nmse());
  // A slice decodes to what the whole does.
  const FrameReader reader = FrameReader::from_bytes(result.bytes);
  const std::vector<float> all = test::values_of(reader);
  std::vector<float> slice(1000);
  reader.read(0, 65000, slice);
  EXPECT_TRUE(test::same_bits(slice, std::span(all).subspan(65000, 1000)));
}

TEST(RdoqTransforms, WholeKernelsOfAPiece) {
  const ScaleView view{10, 10, 9};
  EXPECT_EQ(whole_kernels({view, 0, 900}), (std::pair<size_t, size_t>(0, 900)));
  EXPECT_EQ(whole_kernels({view, 4, 20}), (std::pair<size_t, size_t>(5, 14)));
  EXPECT_EQ(whole_kernels({view, 4, 3}), (std::pair<size_t, size_t>(3, 3)));
  EXPECT_EQ(whole_kernels({view, 4, 7}).first, whole_kernels({view, 4, 7}).second);
}

TEST(RdoqTransforms, SitesAreMatricesAndSomeTakeTheCosineTransform) {
  const auto takes = [](Shape shape) { return transform_site({0, 0}, shape, false)->takes_dct(); };
  EXPECT_TRUE(takes({16, 3, 3, 3}));
  EXPECT_TRUE(takes({1, 16, 3, 7}));  // 16 x 3 lines of 7
  EXPECT_FALSE(takes({16, 3, 11, 11}));
  EXPECT_FALSE(takes({16, 3}));
  EXPECT_FALSE(transform_site({0, 0}, Shape{16, 3, 3, 3}, true)->takes_dct());
  EXPECT_FALSE(transform_site({0, 0}, Shape{1, 16}, false));
  EXPECT_FALSE(transform_site({0, 0}, Shape{7}, false));
  EXPECT_FALSE(transform_site({0, 0}, Shape{}, false));
  EXPECT_FALSE(transform_site({0, 0}, Shape{2, uint64_t(1) << 24}, false));
}

std::shared_ptr<const PartFactors> some_factors(const TransformSite& site, uint32_t rank, int32_t most,
                                                uint64_t seed) {
  test::Random random(seed);
  auto stored = std::make_shared<PartFactors>();
  stored->kappa = uint32_t(random.below(16));
  IntegerFactors& f = stored->factors;
  f.rank = rank;
  f.rows = size_t(site.view.columns);
  f.columns = size_t(site.view.rows * site.view.inner);
  const auto any = [&] { return int32_t(random.below(uint64_t(2 * most) + 1)) - most; };
  for (size_t i = 0; i < rank * f.rows; ++i) f.left.push_back(any());
  for (size_t i = 0; i < rank * f.columns; ++i) f.right.push_back(any());
  return stored;
}

TEST(RdoqTransforms, StoredTransformsAreReadBackAndEveryTruncationIsRefused) {
  std::vector<TransformSite> sites;
  for (uint32_t t = 0; t < 40; ++t)
    sites.push_back(*transform_site({t, t % 3}, t % 5 ? Shape{8, 8, 3, 3} : Shape{6, 11}, false));
  Transforms transforms;
  transforms.unit_mantissa = 54321;
  transforms.unit_exponent = -25;
  for (uint32_t t = 0; t < 40; t += 1 + t % 2) {
    std::vector<int16_t> frequencies = {6, 3, 0, 3, -1, -2, 0, -2, int16_t(t / 8)};
    const int32_t most = int32_t(1) << (t % 16);
    transforms.parts.emplace(
        sites[t].place,
        PartTransform(
            sites[t],
            sites[t].takes_dct() ? std::make_shared<const std::vector<int16_t>>(frequencies) : nullptr,
            t % 3 ? some_factors(sites[t], 1 + t % 7, most - most / 32768, t) : nullptr));
  }
  ContextCoder coder;
  coder.prepare_decoding();
  const std::string stream = write_transforms(coder, sites, transforms);
  const Transforms back = read_transforms(coder, sites, stream, "set");
  EXPECT_EQ(back.unit_mantissa, transforms.unit_mantissa);
  EXPECT_EQ(back.unit_exponent, transforms.unit_exponent);
  size_t written = 0;
  for (const auto& [place, transform] : transforms.parts) {
    if (!transform.any()) continue;
    ++written;
    const PartTransform* read = back.find(place.first, place.second);
    ASSERT_NE(read, nullptr);
    EXPECT_TRUE(std::equal(read->frequencies().begin(), read->frequencies().end(),
                           transform.frequencies().begin(), transform.frequencies().end()));
    ASSERT_EQ(read->factors() == nullptr, transform.factors() == nullptr);
    if (!read->factors()) continue;
    EXPECT_EQ(read->factors()->kappa, transform.factors()->kappa);
    EXPECT_EQ(read->factors()->factors.left, transform.factors()->factors.left);
    EXPECT_EQ(read->factors()->factors.right, transform.factors()->factors.right);
  }
  EXPECT_EQ(back.parts.size(), written);
  for (size_t size = 0; size < stream.size(); ++size)
    EXPECT_THROW(read_transforms(coder, sites, stream.substr(0, size), "set"), Error) << size;
}

TEST(RdoqTransforms, FactorsOfAMatrixThatTheStreamCannotHoldAreRefusedBeforeTheyAreAllocated) {
  const TransformSite small = *transform_site({0, 0}, Shape{6, 11}, false);
  Transforms transforms;
  transforms.parts.emplace(small.place, PartTransform(small, nullptr, some_factors(small, 2, 50, 1)));
  ContextCoder coder;
  coder.prepare_decoding();
  const std::string stream = write_transforms(coder, std::span(&small, 1), transforms);
  const TransformSite huge = *transform_site({0, 0}, Shape{16000000, 16000000}, false);
  const Error error = test::error_of([&] { read_transforms(coder, std::span(&huge, 1), stream, "set"); });
  EXPECT_EQ(error.code(), Errc::damaged);
}

TEST(RdoqTransforms, ARankOrAFactorBeyondItsLimitIsRefused) {
  const TransformSite site = *transform_site({0, 0}, Shape{6, 11}, false);
  ContextCoder coder;
  coder.prepare_decoding();
  const auto read_back = [&](uint32_t rank, int32_t factor) {
    auto stored = std::make_shared<PartFactors>(*some_factors(site, rank, 5, 1));
    stored->factors.right.back() = factor;
    Transforms transforms;
    transforms.parts.emplace(site.place, PartTransform(site, nullptr, stored));
    const std::string stream = write_transforms(coder, std::span(&site, 1), transforms);
    return read_transforms(coder, std::span(&site, 1), stream, "set").parts.size();
  };
  EXPECT_EQ(read_back(64, 32767), 1u);
  EXPECT_EQ(read_back(1, -32767), 1u);
  for (const auto& [rank, factor] : {std::pair(65u, 5), {128u, 5}, {3u, 32768}, {3u, -33000}})
    EXPECT_EQ(test::error_of([&, rank = rank, factor = factor] { read_back(rank, factor); }).code(),
              Errc::damaged)
        << rank << factor;
}

TEST(RdoqTransforms, AUnitFarFromTheStepIsRefused) {
  const TransformSite site = *transform_site({0, 0}, Shape{6, 11}, false);
  Reconstruction unit, step;
  auto stored = std::make_shared<PartFactors>(*some_factors(site, 1, 5, 1));
  for (const auto& [kappa, exponent, possible] :
       {std::tuple(15u, 0, true), std::tuple(15u, -1, false), std::tuple(0u, -4, true),
        std::tuple(0u, -5, false), std::tuple(0u, 16, true), std::tuple(0u, 20, false),
        std::tuple(0u, -40, false)}) {
    stored->kappa = kappa;
    PartTransform transform(site, nullptr, stored);
    step.exponent = int16_t(exponent);
    EXPECT_EQ(transform.prepare(unit, step), possible) << kappa << ' ' << exponent;
  }
}

/// The transform undone, as SPEC.md says it, in wide integers: element by element.
TEST(RdoqTransforms, InvertedKernelsAreThoseOfTheDefinition) {
  const TransformSite site = *transform_site({0, 0}, Shape{5, 4, 3, 3}, false);
  const auto stored = some_factors(site, 3, 900, 8);
  Reconstruction unit;
  PartTransform transform(site, std::make_shared<const std::vector<int16_t>>(9), stored);
  ASSERT_TRUE(transform.prepare(unit, unit));
  IntegerFactors factors = stored->factors;
  factors.kappa20 = kappas16[stored->kappa] << 16;
  const FactorPrediction prediction(factors);
  std::vector<int64_t> whole(180), expected(180);
  for (size_t i = 0; i < 180; ++i) whole[i] = int64_t(i * i * 7919 % 20011) - 10000;
  for (size_t r = 0; r < 5; ++r)
    for (size_t k = 0; k < 9; ++k) {
      std::vector<double> predicted(cpu::padded_plane(4));
      prediction.add(0, 4, r * 9 + k, 1, predicted.data());
      for (size_t c = 0; c < 4; ++c)
        expected[(r * 4 + c) * 9 + k] = whole[(r * 4 + c) * 9 + k] + int64_t(predicted[c]);
    }
  KernelDct(site.kernel).inverse(expected);
  unit.exponent = -7;  // 256 of a step are 2^8
  std::vector<float> undone(whole.begin(), whole.end());
  transform.invert({site.view, 0, 180}, unit, undone);
  EXPECT_EQ(undone, std::vector<float>(expected.begin(), expected.end()));
  // Of a piece, kernels that it cuts stay as they are.
  std::vector<float> piece(whole.begin() + 50, whole.begin() + 130);
  transform.invert({site.view, 50, 80}, unit, piece);
  for (size_t i = 0; i < 80; ++i)
    EXPECT_EQ(piece[i], i + 50 < 54 || i + 50 >= 126 ? whole[i + 50] : expected[i + 50]) << i;
}

/// A sum of outer products and a little noise.
std::vector<float> low_rank_matrix(size_t rows, size_t columns, size_t rank, float noise, uint64_t seed) {
  const std::vector<float> u = test::make_data(test::Kind::gauss, rows * rank, seed),
                           v = test::make_data(test::Kind::gauss, columns * rank, seed + 1);
  std::vector<float> values = test::make_data(test::Kind::gauss, rows * columns, seed + 2);
  for (size_t r = 0; r < rows; ++r)
    for (size_t c = 0; c < columns; ++c) {
      values[r * columns + c] *= noise;
      for (size_t j = 0; j < rank; ++j)
        values[r * columns + c] += u[j * rows + r] * v[j * columns + c] / float(1 + j);
    }
  return values;
}

TEST(RdoqTransforms, LowRankMatricesTakeHalfTheBytesAndLess) {
  auto source = std::make_shared<StoredSource>();
  source->add("a", DType::f32, {120, 90}, low_rank_matrix(120, 90, 3, 0.05f, 1));
  source->add("b", DType::f16, {80, 200}, low_rank_matrix(80, 200, 5, 0.05f, 11));
  source->add("f", DType::f32, {64, 100}, low_rank_matrix(64, 100, 2, 0.05f, 21), true);
  // Kernels without a cosine transform: input channels against all the rest.
  const std::vector<float> folded = low_rank_matrix(20, 32 * 121, 2, 0.05f, 31);
  std::vector<float> kernels;
  for (size_t o = 0; o < 32; ++o)
    for (size_t i = 0; i < 20; ++i)
      for (size_t k = 0; k < 121; ++k) kernels.push_back(folded[i * 32 * 121 + o * 121 + k]);
  source->add("conv", DType::f32, {32, 20, 11, 11}, kernels);
  for (double nmse : {0.1, 0.001}) {
    const Target target{TargetKind::nmse, nmse};
    const test::Coded with = coded(source, "rdoq:transform=auto", target),
                      without = coded(source, "rdoq:transform=none", target);
    const test::Truth truth = truth_of(*source, with.bytes);
    EXPECT_LE(truth.nmse(), nmse);
    test::expect_true(with.report, truth, 1e-9);
    EXPECT_LT(double(with.bytes.size()), 0.5 * double(without.bytes.size())) << nmse;
  }
}

TEST(RdoqTransforms, RowsFarAboveTheOthersDoNotSpoilFactors) {
  // Numbers of their factors are beyond the largest that a frame holds, at the units that suit all other
  // rows.
  constexpr size_t rows = 256, columns = 384;
  const std::vector<float> exact = low_rank_matrix(rows, columns, 6, 0, 1);
  const std::vector<float> noise = test::make_data(test::Kind::gauss, rows * columns, 2);
  std::vector<float> values(exact.size());
  double energy = 0, of_noise = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const size_t row = i / columns;
    values[i] = (row == 7 ? 300.0f : row == 200 ? 150.0f : 1.0f) * exact[i] + 0.002f * noise[i];
    energy += double(values[i]) * double(values[i]);
    of_noise += 4e-6 * double(noise[i]) * double(noise[i]);
  }
  auto source = std::make_shared<StoredSource>();
  source->add("a", DType::f32, {rows, columns}, values);
  double before = HUGE_VAL;
  for (double ratio : {48, 32, 24, 16, 12, 8}) {
    const double error = truth_of(*source, coded(source, "rdoq", {TargetKind::ratio, ratio}).bytes).nmse();
    EXPECT_LT(error, before) << ratio;  // more bytes, less error
    // The factors alone would leave the noise.
    EXPECT_LT(error, (ratio <= 24 ? 1.0 : 10.0) * of_noise / energy) << ratio;
    before = error;
  }
}

TEST(RdoqTransforms, BlocksWithoutBytesHaveTheirPrediction) {
  // One tensor is never packed: its only block holds nothing but what the factors do not say.
  auto source = std::make_shared<StoredSource>();
  source->add("a", DType::f32, {100, 100}, low_rank_matrix(100, 100, 1, 1e-4f, 5));
  bool met = false;
  for (double nmse : {0.3, 0.2, 0.1, 0.05, 0.02, 0.01}) {
    const test::Coded result = coded(source, "rdoq:transform=lowrank", {TargetKind::nmse, nmse});
    const FrameReader reader = FrameReader::from_bytes(result.bytes);
    EXPECT_LE(truth_of(*source, reader).nmse(), nmse);
    met = met || reader.tensors()[0].block_bytes == std::vector<uint64_t>{0};
    std::vector<float> slice(50);
    reader.read(0, 4321, slice);
    EXPECT_TRUE(test::same_bits(slice, std::span<const float>(test::values_of(reader)).subspan(4321, 50)));
  }
  EXPECT_TRUE(met);
}

TEST(RdoqTransforms, OddMatricesAreCoded) {
  auto source = std::make_shared<StoredSource>();
  source->add("rank 0", DType::f32, {30, 40}, std::vector<float>(1200));
  source->add("rank 1", DType::f32, {30, 40}, low_rank_matrix(30, 40, 1, 0, 3));
  source->add("tall", DType::f32, {500, 1}, test::make_data(test::Kind::gauss, 500, 4));
  source->add("wide", DType::f32, {1, 500}, test::make_data(test::Kind::gauss, 500, 5));
  source->add("two", DType::f32, {2, 2}, {1, 2, 3, 4});
  source->add("five dimensions", DType::f32, {3, 4, 2, 3, 2}, test::make_data(test::Kind::gauss, 144, 6));
  source->add("six dimensions", DType::f32, {3, 4, 2, 2, 2, 2}, test::make_data(test::Kind::gauss, 192, 9));
  source->add("kernels of one element", DType::f32, {20, 16, 1, 1}, low_rank_matrix(20, 16, 2, 0.1f, 10));
  source->add("kernels of 121", DType::f32, {4, 3, 11, 11}, test::make_data(test::Kind::gauss, 1452, 13));
  source->add("empty", DType::f32, {0, 7}, {});
  std::vector<float> outlier = test::make_data(test::Kind::gauss, 600, 7);
  outlier[77] = 3e38f;
  source->add("outlier", DType::f32, {20, 30}, outlier);
  std::vector<float> holes = test::make_data(test::Kind::gauss, 600, 8);
  for (size_t i = 0; i < 600; ++i)
    if (i / 30 == 4 || i % 30 == 7) holes[i] = 0;
  source->add("holes", DType::f32, {20, 30}, holes);
  for (double ratio : {4, 30})
    for (const char* method : {"rdoq:transform=auto", "rdoq:transform=lowrank", "rdoq:transform=dct"}) {
      const test::Coded result = coded(source, method, {TargetKind::ratio, ratio});
      test::expect_true(result.report, truth_of(*source, result.bytes), 1e-9);
    }
}

TEST(RdoqTransforms, NumbersThatAreNoneAreKeptBesideFactors) {
  std::vector<float> values = low_rank_matrix(60, 50, 2, 0.02f, 3);
  values[17] = std::numeric_limits<float>::quiet_NaN();
  values[1234] = -std::numeric_limits<float>::infinity();
  auto source = std::make_shared<StoredSource>();
  source->add("a", DType::f32, {60, 50}, values);
  CompressOptions options;
  options.method = parse_method("rdoq:transform=lowrank");
  options.target = {TargetKind::ratio, 12};
  options.nonfinite = NonFinitePolicy::keep;
  const test::Coded result = test::coded(source, options);
  const FrameReader reader = FrameReader::from_bytes(result.bytes);
  const std::vector<float> decoded = test::values_of(reader);
  EXPECT_TRUE(std::isnan(decoded[17]));
  EXPECT_EQ(decoded[1234], values[1234]);
  double error = 0, energy = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) continue;
    error += (double(decoded[i]) - double(values[i])) * (double(decoded[i]) - double(values[i]));
    energy += double(values[i]) * double(values[i]);
  }
  // Two outer products are most of it: noise of 0.02 and what 2.7 bits a number leave of the factors.
  EXPECT_LT(error, 0.01 * energy);
}

TEST(RdoqTransforms, ValuesOfUnitsAreExactProducts) {
  Reconstruction step;
  step.mantissa = 49152;
  step.exponent = -20;
  std::vector<float> values = {256, -3, 1e30f};
  finish_units(step, values);
  EXPECT_EQ(values, (std::vector<float>{0.046875f, -3 * 0.046875f / 256, 0x1p37f * (0.046875f / 256)}));
  step.exponent = 128;
  values = {-1e30f};
  finish_units(step, values);
  EXPECT_EQ(values[0], -std::numeric_limits<float>::max());
}

}  // namespace
}  // namespace jsq

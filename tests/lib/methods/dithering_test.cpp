// Dithering: the grids on the worked vectors of their papers' formulas, what is stored of them, and the edge
// cases that all methods on grids share.
#include "lib/methods/dithering.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "kernels/cpu/dither.hpp"
#include "tests/kernels/data.hpp"
#include "tests/lib/methods/one_tensor.hpp"

namespace jsq {
namespace {

using test::is_refused_as_damaged;
using test::Kind;
using test::make_data;
using test::OneTensor;
using test::u8;
using test::v8;

struct Rounded {
  std::vector<int32_t> levels;
  std::vector<float> values;
  double expected_error = 0;
};

Rounded round(const Grid& grid, std::span<const float> values, float scale, std::span<const float> uniforms) {
  Rounded rounded{std::vector<int32_t>(values.size()), std::vector<float>(values.size())};
  rounded.expected_error = grid.quantize(values, scale, uniforms, rounded.levels);
  grid.dequantize(rounded.levels, scale, rounded.values);
  return rounded;
}

void expect_near(std::span<const float> found, const std::vector<double>& expected, double tolerance) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(double(found[i]), expected[i], tolerance) << i;
}

TEST(ExponentialGrid, RoundsTheWorkedVectorOfNuqsgd) {
  const Grid grid{.kind = GridKind::exponential, .steps = 3};
  const Rounded found = round(grid, v8, scale_of(ScaleNorm::l2, v8), u8);
  EXPECT_EQ(found.levels, (std::vector<int32_t>{1, -2, 0, 3, 0, 0, 3, -4}));
  expect_near(found.values, {.688387, -1.376774, 0, 2.753549, 0, 0, 2.753549, -5.507098}, 5e-7);
}

TEST(GridOfPairs, SendsWhatIsBelowTheSmallestPairToOneOfItWithoutBias) {
  // Pairs 2 and 4. P(own sign) = (1 + |g| / 2) / 2: .625, .75, .5625, -, .53125, .5; 3 stays at 2 since u >
  // .5.
  const Grid grid{.kind = GridKind::exponential_pairs, .steps = 1};
  const Rounded found = round(grid, v8, 4, u8);
  EXPECT_EQ(found.levels, (std::vector<int32_t>{0, -1, -1, 0, 0, 0, 0, -2}));
  EXPECT_EQ(found.values, (std::vector<float>{2, -2, -2, 2, 2, 2, 2, -4}));
  EXPECT_EQ(found.expected_error, 3.75 + 3 + 3.9375 + 0 + 3.984375 + 4 + 1 + 0);  // 4 - g^2, (g - 2)(4 - g)
  const Rounded nearest = round(grid, v8, 4, {});
  EXPECT_EQ(nearest.values, (std::vector<float>{2, -2, 2, 2, -2, 2, 4, -4}));
}

TEST(GridOfPairs, DecodesToZerosOnlyWhereTheScaleIsZero) {
  const Grid grid{.kind = GridKind::exponential_pairs, .steps = 5};
  const std::vector<float> zeros(8);
  EXPECT_EQ(round(grid, zeros, 0, u8).values, zeros);
  for (float value : round(grid, zeros, 1, u8).values) EXPECT_EQ(std::abs(value), 1.0f / 32);
}

const std::vector<float> worker_a = {0.5f, -1, 0.25f, 2}, worker_b = {-0.5f, 0.75f, 4, 1};
const std::vector<float> uniforms_a(u8.begin(), u8.begin() + 4), uniforms_b(u8.begin() + 4, u8.end());

TEST(UniformGrid, LeavesRoomForTheSumOfTwoWorkers) {
  const Grid grid{.kind = GridKind::uniform, .steps = 63, .workers = 2};
  EXPECT_EQ(grid.range().high, 126);
  const Rounded a = round(grid, worker_a, 4, uniforms_a), b = round(grid, worker_b, 4, uniforms_b);
  EXPECT_EQ(a.levels, (std::vector<int32_t>{8, -16, 4, 32}));
  EXPECT_EQ(b.levels, (std::vector<int32_t>{-8, 12, 63, 16}));
  std::vector<int32_t> sum(4);
  for (size_t i = 0; i < 4; ++i) sum[i] = a.levels[i] + b.levels[i];
  std::vector<float> total(4);
  grid.dequantize(sum, 4, total);
  expect_near(total, {0, 2 * -.12698413, 2 * 2.12698413, 2 * 1.52380952}, 2e-7);
}

TEST(UndividedGrid, IsThePublishedOneOfHalfSteps) {
  const Grid grid{.kind = GridKind::uniform_undivided, .steps = 127, .workers = 2};
  EXPECT_EQ(grid.range().high, 127);
  const Rounded a = round(grid, worker_a, 4, uniforms_a), b = round(grid, worker_b, 4, uniforms_b);
  EXPECT_EQ(a.levels, (std::vector<int32_t>{8, -16, 4, 32}));
  EXPECT_EQ(b.levels, (std::vector<int32_t>{-8, 12, 63, 16}));
  std::vector<float> mean(4);
  for (size_t i = 0; i < 4; ++i) mean[i] = (a.values[i] + b.values[i]) / 2;
  expect_near(mean, {0, -.12598425, 2.11023622, 1.51181102}, 5e-7);
}

TEST(SharedExponentialGrid, HasThePublishedCodesAndTheyAddUpWithoutBeingDecoded) {
  const Grid grid{.kind = GridKind::shared_exponential, .steps = 127, .workers = 2};
  const Rounded a = round(grid, worker_a, 4, uniforms_a), b = round(grid, worker_b, 4, uniforms_b);
  EXPECT_EQ(a.levels, (std::vector<int32_t>{5, -4, 6, 3}));
  EXPECT_EQ(b.levels, (std::vector<int32_t>{-5, 4, 2, 4}));
  EXPECT_EQ(a.values, worker_a);  // powers of two stay; 2 n G = 16
  EXPECT_EQ(b.values, (std::vector<float>{-0.5f, 1, 4, 1}));
  std::vector<int32_t> sum = a.levels;
  const std::vector<float> uniforms = {0.5f, 0.25f, 0.75f, 0.125f};
  EXPECT_EQ(cpu::add_exponential_codes(sum, b.levels, uniforms), 0u);
  std::vector<float> total(4);
  grid.dequantize(sum, 4, total);
  EXPECT_EQ(total, (std::vector<float>{0, 0, 4, 4}));  // twice the mean
}

TEST(NaturalGrid, RoundsTheWorkedVectorAndStoresTheLargestPowerAsOne) {
  const std::vector<float> x = {0.75f, -1.5f, 0.3f, 5, -0.1f, 1, 0, -3};
  const Grid grid{.kind = GridKind::natural, .exponents = {-6, 3}};
  const Rounded found = round(grid, x, 1, u8);
  EXPECT_EQ(found.values, (std::vector<float>{0.5f, -2, 0.25f, 8, -0.0625f, 1, 0, -4}));
  EXPECT_EQ(found.levels, (std::vector<int32_t>{5, -3, 6, 1, -8, 4, 0, -2}));
  double energy = 0;
  for (float g : x) energy += double(g) * double(g);
  EXPECT_NEAR(found.expected_error / energy, .1140373, 5e-8);
}

TEST(EveryGrid, DecodesToFiniteNumbersWhateverALevelSays) {
  for (const Grid& grid : {Grid{.kind = GridKind::uniform, .steps = 1, .workers = 1000},
                           Grid{.kind = GridKind::uniform_undivided, .steps = 7, .workers = 1 << 20},
                           Grid{.kind = GridKind::shared_exponential, .steps = 3, .workers = 1 << 20},
                           Grid{.kind = GridKind::exponential, .steps = 126},
                           Grid{.kind = GridKind::exponential_pairs, .steps = 126},
                           Grid{.kind = GridKind::natural, .exponents = {-149, 127}}}) {
    const LevelRange range = grid.range();
    const std::vector<int32_t> levels = {range.low, range.low + 1, 0, range.high};
    for (float scale : {0.0f, 1e-45f, 1.0f, FLT_MAX}) {
      std::vector<float> values(4);
      grid.dequantize(levels, scale, values);
      for (float value : values) EXPECT_TRUE(std::isfinite(value)) << int(grid.kind) << ' ' << scale;
    }
  }
}

constexpr const char* dithering_methods[] = {"nuqsgd",
                                             "nuqsgd:levels=1,bucket=1",
                                             "nuqsgd:zero=off",
                                             "nuqsgd:zero=off,levels=127,bucket=0,norm=linf,coder=entropy",
                                             "nuqsgd:levels=127,coder=elias-dense,bucket=0",
                                             "natural",
                                             "natural:bits=8,coder=auto",
                                             "natural:bits=1",
                                             "terngrad",
                                             "terngrad:clip=0,coder=base243",
                                             "gqsgd-std",
                                             "gqsgd-std:workers=100,bucket=100,coder=auto",
                                             "gqsgd-std:workers=300,bits=4,variant=code",
                                             "gqsgd-exp",
                                             "gqsgd-exp:bits=1,workers=3,bucket=7",
                                             "gqsgd-exp:bits=3,workers=64,coder=entropy"};

TEST(EveryDitheringMethod, DecodesToExactlyWhatItsEncoderSaysAndToFiniteNumbers) {
  for (const char* method : dithering_methods)
    for (Kind kind : test::all_kinds)
      for (size_t n : {0, 1, 2, 3, 9, 1000, 65537})
        for (Rounding rounding : {Rounding::automatic, Rounding::nearest}) {
          const OneTensor coded(make_data(kind, n), method, rounding);
          const std::vector<float> read = coded.read_back();
          ASSERT_EQ(read.size(), n);
          size_t differences = 0, infinite = 0;
          for (size_t i = 0; i < n; ++i) {
            differences += std::bit_cast<uint32_t>(read[i]) != std::bit_cast<uint32_t>(coded.decoded[i]);
            infinite += !std::isfinite(read[i]);
          }
          EXPECT_EQ(differences, 0u) << method << ' ' << test::kind_name(kind) << ' ' << n;
          EXPECT_EQ(infinite, 0u) << method << ' ' << test::kind_name(kind) << ' ' << n;
          EXPECT_TRUE(std::isfinite(coded.sums.expected_error)) << method << ' ' << test::kind_name(kind);
        }
}

TEST(EveryDitheringMethod, StoresNothingOfABlockOfZeros) {
  for (const char* method : dithering_methods)
    for (Kind kind : {Kind::zeros, Kind::negative_zeros}) {
      const OneTensor coded(make_data(kind, 1000), method);
      EXPECT_EQ(coded.blocks, std::vector<std::string>{""}) << method;
      EXPECT_EQ(coded.decoded, std::vector<float>(1000)) << method;
      EXPECT_EQ(coded.sums.expected_error, 0) << method;
    }
}

TEST(EveryDitheringMethod, MeasuresOnAverageTheErrorThatItExpects) {
  const std::vector<float> values = make_data(Kind::gauss, 2000);
  for (const char* method : dithering_methods) {
    double measured = 0, expected = 0;
    constexpr int seeds = 100;
    for (int seed = 0; seed < seeds; ++seed) {
      const OneTensor coded(values, method, Rounding::automatic, uint64_t(seed));
      for (size_t i = 0; i < values.size(); ++i) {
        const double error = double(coded.decoded[i]) - double(values[i]);
        measured += error * error / seeds;
      }
      expected = coded.sums.expected_error;
    }
    // 200,000 draws of a variable whose spread is about its mean, or for few levels several times it.
    EXPECT_NEAR(measured, expected, 0.05 * expected) << method;
  }
}

TEST(DitherParameters, AreRefusedWhereNoWriterMakesThem) {
  const std::string scale("\0\0\x80\x3f", 4);  // 1.0f
  const auto refused = [](const std::string& parameters) {
    return is_refused_as_damaged([&] { make_dither_decoder("qsgd", parameters, "parameters"); });
  };
  const auto bytes = [](std::initializer_list<int> list) { return std::string(list.begin(), list.end()); };
  EXPECT_FALSE(refused(bytes({0, 7, 1, 0}) + scale));
  EXPECT_FALSE(refused(bytes({1, 126, 5})));
  EXPECT_FALSE(refused(bytes({2, 0, 5})));
  EXPECT_FALSE(refused(bytes({3, 0, 5})));
  EXPECT_FALSE(refused(bytes({4, 7, 8, 5})));
  EXPECT_FALSE(refused(bytes({5, 127, 8, 5})));
  EXPECT_TRUE(refused(bytes({6, 7, 1, 5})));  // unknown grid
  EXPECT_TRUE(refused(bytes({0, 0, 1, 5})));  // no steps
  EXPECT_TRUE(refused(bytes({0, 7, 0, 5})));  // no workers
  EXPECT_TRUE(refused(bytes({1, 127, 5})));   // 2^-127 is no float
  EXPECT_TRUE(refused(bytes({3, 127, 5})));
  EXPECT_TRUE(refused(bytes({2, 6, 5})));        // lowest above highest
  EXPECT_TRUE(refused(bytes({2, 0, -107, 2})));  // 277 exponents above the lowest: beyond 2^127
  EXPECT_TRUE(refused(bytes({5, 0, 1, 5})));
  EXPECT_TRUE(refused(bytes({0, 7, 1, 0})));                                   // the scale is missing
  EXPECT_TRUE(refused(bytes({0, 7, 1, 5}) + scale));                           // bytes follow
  EXPECT_TRUE(refused(bytes({0, 7, 1, 0}) + std::string("\0\0\x80\xbf", 4)));  // -1
  EXPECT_TRUE(refused(bytes({0, 7, 1, 0}) + std::string("\0\0\x80\x7f", 4)));  // infinite
  EXPECT_FALSE(refused(bytes({0, -128, -128, 64, 1, 5})));                     // 2^20 steps for one worker
  EXPECT_TRUE(refused(bytes({0, -128, -128, 64, 2, 5})));                      // and for two
  EXPECT_TRUE(refused(""));
}

}  // namespace
}  // namespace jsq

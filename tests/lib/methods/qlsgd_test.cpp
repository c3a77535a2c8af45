// Qsparse-local-SGD: the worked vector under the uniforms that it names, scaling by beta, levels of each
// tensor's own norm.
#include <cmath>

#include "kernels/element/philox.hpp"
#include "tests/kernels/data.hpp"
#include "tests/lib/methods/coded_pool.hpp"

namespace jsq {
namespace {

using test::CodedPool;
using test::Kind;
using test::make_data;
using test::v8;

/// A seed under which elements 1, 3, 6 and 7 round as with the uniforms .25, .125, .9375 and .0625: y = |g| s
/// / N has the fractions .548, .095, .643 and .191.
uint64_t seed_of_the_worked_vector() {
  for (uint64_t seed = 0;; ++seed) {
    const auto u = [&](uint64_t i) {
      return element::uniform_of_word(
          element::random_word(seed + 1000, i, 0, element::RandomPurpose::rounding));
    };
    if (u(1) < 0.54f && u(3) > 0.1f && u(6) > 0.65f && u(7) < 0.19f) return seed;
  }
}

void expect_near(const std::vector<float>& values, const std::vector<double>& expected) {
  ASSERT_EQ(values.size(), expected.size());
  for (size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(double(values[i]), expected[i], 1e-6) << i;
}

TEST(Qlsgd, GivesTheWorkedVector) {
  const uint64_t seed = seed_of_the_worked_vector();
  for (const char* beta : {"off", "auto"}) {  // beta = 4/9 is below 1
    const CodedPool coded({v8}, std::string("qlsgd:k=4,bits=3,scale-beta=") + beta, seed);
    const CodedPool::Result result = coded.code();
    expect_near(result.values[0], {0, -1.825742, 0, 1.825742, 0, 0, 1.825742, -5.477226});
    EXPECT_EQ(result.sums.nominal_bits, 4u * 3 + 32);
  }
  expect_near(CodedPool({v8}, "qlsgd:k=4,bits=3,scale-beta=on", seed).decoded(),
              {0, -1.263975, 0, 1.263975, 0, 0, 1.263975, -3.791925});
}

TEST(Qlsgd, ScalesByBetaOnItsOwnWhereBetaIsOneOrMore) {
  // k = 16, s = 1: beta = min(16, 4).
  const std::vector<float> ones(16, 1.0f);
  const CodedPool scaled({ones}, "qlsgd:k=16,bits=2"), plain({ones}, "qlsgd:k=16,bits=2,scale-beta=off");
  for (float value : scaled.decoded())
    if (value != 0) {
      EXPECT_FLOAT_EQ(value, 4.0f / 5);
    }
  for (float value : plain.decoded())
    if (value != 0) {
      EXPECT_FLOAT_EQ(value, 4.0f);
    }
}

TEST(Qlsgd, RoundsOnTheNormOfEachTensorsKeptElements) {
  const std::vector<std::vector<float>> tensors = {{3, 4, 0.001f}, {300, -400, 0.001f}};
  const CodedPool coded(tensors, "qlsgd:k=4,bits=5,scale-beta=off", 1, Rounding::nearest);
  expect_near(coded.decoded(), {3, 4, 0});  // N = 5, s = 15
  const std::vector<float> second = coded.code().values[1];
  EXPECT_NEAR(second[0], 300, 1e-4);
  EXPECT_NEAR(second[1], -400, 1e-4);
}

TEST(Qlsgd, ExpectsTheErrorThatItHasOnAverage) {
  for (const char* options : {"select=topk,scale-beta=off", "select=topk,scale-beta=on",
                              "select=randk,scale-beta=off", "select=randk,scale-beta=on"}) {
    const std::vector<float> values = make_data(Kind::gauss, 300);
    double measured = 0, expected = 0;
    constexpr int seeds = 1500;
    for (uint64_t seed = 0; seed < seeds; ++seed) {
      const CodedPool coded({values}, std::string("qlsgd:k=80,bits=4,") + options, seed);
      const CodedPool::Result result = coded.code();
      measured += coded.squared_error(result) / seeds;
      expected += result.sums.expected_error / seeds;
    }
    EXPECT_NEAR(measured, expected, 0.02 * expected) << options;
  }
}

TEST(Qlsgd, SurvivesExtremesOfEveryKind) {
  for (Kind kind : test::all_kinds)
    for (const char* options : {"select=topk", "select=randk", "bits=16", "bits=2,scale-beta=on"})
      for (size_t n : {1, 2, 1000}) {
        const CodedPool coded({make_data(kind, n)}, std::string("qlsgd:density=0.5,") + options);
        for (float value : coded.decoded())
          ASSERT_TRUE(std::isfinite(value)) << test::kind_name(kind) << options;
      }
}

}  // namespace
}  // namespace jsq

// MCGQ: the worked vector, counts that add up and round up or down, no bias over the offset, tensors as one
// population.
#include <cmath>

#include "tests/kernels/data.hpp"
#include "tests/lib/methods/coded_pool.hpp"

namespace jsq {
namespace {

using test::CodedPool;
using test::Kind;
using test::make_data;
using test::v8;

TEST(Mcgq, GivesTheWorkedVector) {
  const CodedPool coded({v8}, "mcgq:samples=1", 1, Rounding::nearest);  // N = 8, r = 0.5
  EXPECT_EQ(coded.decoded(), (std::vector<float>{0, -1.359375f, 0, 2.71875f, 0, 0, 2.71875f, -4.078125f}));
}

TEST(Mcgq, TakesEachElementsShareRoundedUpOrDownAndAllSamplesTogether) {
  for (Kind kind : {Kind::heavy, Kind::gauss, Kind::ternary, Kind::one_outlier, Kind::sparse})
    for (double share : {0.01, 0.5, 7.0}) {
      const std::vector<std::vector<float>> tensors = {make_data(kind, 70000, 1), make_data(kind, 3, 2),
                                                       make_data(kind, 140000, 3)};
      const CodedPool coded(tensors, "mcgq:samples=" + std::to_string(share), 4);
      const CodedPool::Result result = coded.code();
      double norm = 0;
      for (const auto& values : tensors)
        for (float g : values) norm += std::fabs(double(g));
      const double samples = std::floor(share * 210003);
      double total = 0;
      for (size_t t = 0; t < tensors.size(); ++t)
        for (size_t i = 0; i < tensors[t].size(); ++i) {
          const double count = double(result.values[t][i]) * samples / norm,
                       wanted = double(tensors[t][i]) * samples / norm;
          ASSERT_NEAR(count, std::round(count), 1e-6 * std::fabs(count) + 1e-6);  // the norm is stored as f32
          ASSERT_LT(std::fabs(std::round(count) - wanted), 1 + 1e-6) << test::kind_name(kind) << ' ' << i;
          ASSERT_GE(count * wanted, 0);
          total += std::round(std::fabs(count));
        }
      EXPECT_EQ(total, samples) << test::kind_name(kind) << ' ' << share;
    }
}

TEST(Mcgq, HasNoBiasAndTheErrorItExpects) {
  constexpr int seeds = 4000;
  std::vector<double> mean(8);
  double measured = 0, expected = 0;
  for (uint64_t seed = 0; seed < seeds; ++seed) {
    const CodedPool coded({v8}, "mcgq:samples=0.5", seed);
    const CodedPool::Result result = coded.code();
    measured += coded.squared_error(result) / seeds;
    expected = result.sums.expected_error;
    for (size_t i = 0; i < 8; ++i) mean[i] += double(result.values[0][i]) / seeds;
  }
  EXPECT_NEAR(measured, expected, 0.03 * expected);
  for (size_t i = 0; i < 8; ++i)  // a step is 10.875 / 4; five standard deviations of at most half a step
    EXPECT_NEAR(mean[i], double(v8[i]), 5 * 1.36 / std::sqrt(double(seeds))) << i;
}

TEST(Mcgq, SurvivesExtremesOfEveryKindAndSize) {
  for (Kind kind : test::all_kinds)
    for (size_t n : {0, 1, 2, 1000}) {
      CodedPool coded({make_data(kind, n)}, "mcgq");
      for (uint64_t size :
           {uint64_t(0), uint64_t(1), coded.scheme->sizes().native, coded.scheme->sizes().most}) {
        coded.set_size(size);
        for (float value : coded.decoded()) ASSERT_TRUE(std::isfinite(value)) << test::kind_name(kind);
      }
    }
}

}  // namespace
}  // namespace jsq

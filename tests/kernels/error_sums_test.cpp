// Error sums against plain lanes of the test and against distortion(), bit by bit, on every SIMD level.
#include "kernels/cpu/error_sums.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <vector>

#include "jsq/compress.hpp"
#include "tests/kernels/data.hpp"
#include "tests/kernels/simd_levels.hpp"

namespace jsq::cpu {
namespace {

/// What a quantizer might have made of `values`: finite ones.
std::vector<float> perturbed(const std::vector<float>& values, uint64_t seed) {
  test::Random random(seed);
  std::vector<float> decoded(values);
  for (float& g : decoded) {
    const double point = random.below(4) == 0 ? 0.0 : double(g) * (0.9 + 0.2 * random.uniform());
    g = float(std::min(std::max(point, -double(FLT_MAX)), double(FLT_MAX)));
  }
  return decoded;
}

template <class Term>
double lane_sum(const std::vector<float>& values, const std::vector<float>& decoded, Term term) {
  double lane[16] = {};
  for (size_t i = 0; i < values.size(); ++i) lane[i % 16] += term(double(values[i]), double(decoded[i]));
  for (size_t half = 8; half > 0; half /= 2)
    for (size_t l = 0; l < half; ++l) lane[l] += lane[l + half];
  return lane[0];
}

TEST(ErrorSums, OfAHandMadePair) {
  const std::vector<float> values = {1, -2, 3, 0}, decoded = {1.5, -2, 2, -1};
  const ErrorSums sums = error_sums(values, decoded);
  EXPECT_EQ(sums.squared_error, 2.25);
  EXPECT_EQ(sums.dot, 11.5);
  EXPECT_EQ(sums.decoded_energy, 11.25);
  EXPECT_EQ(sums.error_sum, -1.5);
  EXPECT_EQ(sums.max_error, 1.0);
}

TEST(ErrorSums, OfNothingAreZero) {
  const ErrorSums sums = error_sums({}, {});
  EXPECT_EQ(sums.squared_error, 0.0);
  EXPECT_EQ(sums.max_error, 0.0);
}

TEST(ErrorSums, AddInTheDefinedOrderWithinOneStretch) {
  test::for_each_simd_level([] {
    for (test::Kind kind : test::all_kinds)
      for (size_t n : {1, 2, 15, 16, 17, 31, 33, 1000, 65535, 65536}) {
        SCOPED_TRACE(std::string(test::kind_name(kind)) + " " + std::to_string(n));
        const std::vector<float> values = test::make_data(kind, n), decoded = perturbed(values, n);
        const ErrorSums sums = error_sums(values, decoded);
        double largest = 0;
        for (size_t i = 0; i < n; ++i)
          largest = std::max(largest, std::fabs(double(decoded[i]) - double(values[i])));
        EXPECT_EQ(sums.squared_error,
                  lane_sum(values, decoded, [](double g, double h) { return (h - g) * (h - g); }));
        EXPECT_EQ(sums.dot, lane_sum(values, decoded, [](double g, double h) { return g * h; }));
        EXPECT_EQ(sums.decoded_energy, lane_sum(values, decoded, [](double, double h) { return h * h; }));
        EXPECT_EQ(sums.error_sum, lane_sum(values, decoded, [](double g, double h) { return h - g; }));
        EXPECT_EQ(sums.max_error, largest);
      }
  });
}

TEST(ErrorSums, EqualDistortionAtAnySize) {
  test::for_each_simd_level([] {
    for (size_t n : {100, 65536, 65537, 200000}) {
      const std::vector<float> values = test::make_data(test::Kind::heavy, n), decoded = perturbed(values, 9);
      const ErrorSums sums = error_sums(values, decoded);
      const Distortion expected = distortion(values, decoded);
      EXPECT_EQ(sums.squared_error, expected.squared_error);
      EXPECT_EQ(sums.dot, expected.dot);
      EXPECT_EQ(sums.decoded_energy, expected.decoded_energy);
      EXPECT_EQ(sums.error_sum, expected.error_sum);
      EXPECT_EQ(sums.max_error, expected.max_error);
    }
  });
}

}  // namespace
}  // namespace jsq::cpu

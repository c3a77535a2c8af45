// The Walsh-Hadamard transform against its matrix, against plain butterflies bit by bit, and against the
// worked vector of check_vectors.py 5.
#include "kernels/cpu/hadamard.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <vector>

#include "kernels/element/hadamard.hpp"
#include "kernels/element/philox.hpp"
#include "tests/kernels/data.hpp"
#include "tests/kernels/simd_levels.hpp"

namespace jsq::cpu {
namespace {

std::vector<float> transformed(std::vector<float> values) {
  walsh_hadamard(values);
  return values;
}

/// Stage by stage, as the interface orders them.
std::vector<float> plain_butterflies(std::vector<float> values) {
  for (size_t distance = 1; distance < values.size(); distance *= 2)
    for (size_t i = 0; i < values.size(); ++i)
      if (!(i & distance)) {
        const float a = values[i], b = values[i + distance];
        values[i] = a + b;
        values[i + distance] = a - b;
      }
  return values;
}

TEST(WalshHadamard, GivesVectorsComputedByHand) {
  test::for_each_simd_level([] {
    EXPECT_EQ(transformed({3}), (std::vector<float>{3}));
    EXPECT_EQ(transformed({1, 2}), (std::vector<float>{3, -1}));
    EXPECT_EQ(transformed({1, 2, 3, 4}), (std::vector<float>{10, -2, -4, 0}));
    EXPECT_EQ(transformed({1, 0, 1, 0, 0, 1, 1, 0}), (std::vector<float>{4, 2, 0, -2, 0, 2, 0, 2}));
  });
}

TEST(WalshHadamard, GivesTheWorkedRotationOfV8) {
  const float v8[] = {0.5f, -1.0f, 0.25f, 2.0f, -0.125f, 0.0f, 3.0f, -4.0f};
  const float signs[] = {1, -1, 1, 1, -1, 1, -1, -1};
  const double expected[] = {1.723573, -3.226175, -.574524, 2.96101, .928078, 1.635184, .044194, -2.077126};
  std::vector<float> y(8);
  for (size_t i = 0; i < 8; ++i) y[i] = v8[i] * signs[i];
  walsh_hadamard(y);
  for (size_t i = 0; i < 8; ++i) EXPECT_NEAR(double(y[i]) / std::sqrt(8.0), expected[i], 6e-7) << i;
}

TEST(WalshHadamard, IsTheSylvesterMatrix) {
  // Row i, column j: (-1)^(number of ones of i & j). Small integers, so that every sum is exact.
  test::for_each_simd_level([] {
    test::Random random(5);
    for (size_t n = 1; n <= 512; n *= 2) {
      std::vector<float> values(n);
      for (float& value : values) value = float(int(random.below(201)) - 100);
      const std::vector<float> result = transformed(values);
      for (size_t i = 0; i < n; ++i) {
        int64_t sum = 0;
        for (size_t j = 0; j < n; ++j) sum += (std::popcount(i & j) % 2 ? -1 : 1) * int64_t(values[j]);
        ASSERT_EQ(result[i], float(sum)) << n << ' ' << i;
      }
    }
  });
}

TEST(WalshHadamard, AddsInTheOrderOfItsStagesAtEverySize) {
  test::for_each_simd_level([] {
    for (size_t n = 1; n <= 65536; n *= 2)
      for (test::Kind kind :
           {test::Kind::heavy, test::Kind::subnormal, test::Kind::signed_zeros, test::Kind::one_outlier}) {
        const std::vector<float> values = test::make_data(kind, n), expected = plain_butterflies(values),
                                 result = transformed(values);
        for (size_t i = 0; i < n; ++i)
          ASSERT_EQ(std::bit_cast<uint32_t>(result[i]), std::bit_cast<uint32_t>(expected[i]))
              << test::kind_name(kind) << ' ' << n << ' ' << i;
      }
  });
}

TEST(WalshHadamard, AppliedTwiceMultipliesByTheSize) {
  test::for_each_simd_level([] {
    test::Random random(6);
    for (size_t n = 1; n <= 65536; n *= 4) {
      std::vector<float> values(n);
      for (float& value : values) value = float(int(random.below(15)) - 7);
      const std::vector<float> twice = transformed(transformed(values));
      for (size_t i = 0; i < n; ++i) ASSERT_EQ(twice[i], float(n) * values[i]) << n << ' ' << i;
    }
  });
}

TEST(RandomSigns, NegateExactlyTheElementsWhoseBitOfTheirWordIsSet) {
  test::for_each_simd_level([] {
    for (uint64_t first : {0ull, 5ull, 4095ull, 32ull << 32})
      for (size_t n : {0, 1, 26, 27, 28, 31, 32, 33, 100, 1024, 1025, 5000}) {
        const std::vector<float> values = test::make_data(test::Kind::signed_zeros, n, 3);
        std::vector<float> result = values;
        std::vector<uint32_t> signs(n);
        fill_random_signs(17, first, 2, signs);
        apply_random_signs(result, signs);
        for (size_t i = 0; i < n; ++i) {
          const uint64_t at = first + i;
          const bool negated =
              element::random_word(17, at / 32, 2, element::RandomPurpose::signs) >> (at % 32) & 1;
          ASSERT_EQ(std::signbit(result[i]), std::signbit(values[i]) != negated) << i;
          ASSERT_EQ(std::fabs(result[i]), std::fabs(values[i])) << i;
        }
        apply_random_signs(result, signs);
        for (size_t i = 0; i < n; ++i)
          ASSERT_EQ(std::bit_cast<uint32_t>(result[i]), std::bit_cast<uint32_t>(values[i]))
              << "applied twice, " << i;
      }
  });
}

TEST(RandomSigns, AreAsOftenMinusAsPlus) {
  constexpr size_t n = 1 << 16;
  std::vector<float> ones(n, 1.0f);
  std::vector<uint32_t> signs(n);
  fill_random_signs(1, 0, 0, signs);
  apply_random_signs(ones, signs);
  double sum = 0;
  for (float one : ones) sum += double(one);
  EXPECT_LT(std::fabs(sum), 4 * std::sqrt(double(n)));
}

TEST(WithRandomSign, NegatesByTheTopBitAlone) {
  EXPECT_EQ(element::with_random_sign(2.5f, 0x7fffffffu), 2.5f);
  EXPECT_EQ(element::with_random_sign(2.5f, 0x80000000u), -2.5f);
  EXPECT_TRUE(std::signbit(element::with_random_sign(0.0f, 0x80000001u)));
}

}  // namespace
}  // namespace jsq::cpu

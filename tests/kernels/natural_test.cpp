// Natural compression: the worked vectors of check_vectors.py 18 and 4, every exponent, unbiasedness by
// counting uniforms, and arrays against elements on every SIMD level.
#include "kernels/element/natural.hpp"

#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/cpu/dither.hpp"
#include "kernels/element/philox.hpp"
#include "tests/kernels/data.hpp"
#include "tests/kernels/simd_levels.hpp"

namespace jsq::element {
namespace {

using Levels = std::vector<int32_t>;
constexpr ExponentRange all_exponents = {-149, 127};
constexpr float last_uniform = 1 - 0x1p-24f;

/// The number of uniforms k x 2^-24 below which `moves` holds; it holds for no other.
template <class Moves>
uint32_t uniforms_that_move(Moves moves) {
  const auto at = [&](uint32_t k) { return moves(float(k) * 0x1p-24f); };
  uint32_t low = 0, high = 1u << 24;
  while (low < high) {
    const uint32_t middle = (low + high) / 2;
    if (at(middle))
      low = middle + 1;
    else
      high = middle;
  }
  for (uint32_t back = 1; back <= low; back *= 2) EXPECT_TRUE(at(low - back));
  for (uint32_t on = 1; low + on <= 1u << 24; on *= 2) EXPECT_FALSE(at(low + on - 1));
  return low;
}

TEST(Natural, GivesTheValuesAndTheErrorOfTheWorkedVector) {
  const float x[] = {.75f, -1.5f, .3f, 5, -.1f, 1, 0, -3};
  const float u[] = {0.5f, 0.25f, 0.75f, 0.125f, 0.625f, 0.375f, 0.9375f, 0.0625f};
  const float expected[] = {.5f, -2, .25f, 8, -.0625f, 1, 0, -4};
  double error = 0, energy = 0;
  for (int i = 0; i < 8; ++i) {
    EXPECT_EQ(natural_value(natural_level(x[i], all_exponents, u[i]), all_exponents), expected[i]) << i;
    error += natural_error(x[i], all_exponents);
    energy += double(x[i]) * double(x[i]);
  }
  EXPECT_NEAR(error / energy, .1140373, 5e-8);
}

TEST(Natural, HasTheUpProbabilitiesOfTheWorkedVector) {
  const float x[] = {.75f, -1.5f, .3f, 5, -.1f, 1, 0, -3};
  const double expected[] = {.5, .5, .2, .25, .6, 0, 0, .5};
  for (int i = 0; i < 8; ++i) {
    const int32_t low = natural_level(x[i], all_exponents, last_uniform);
    const uint32_t ups =
        uniforms_that_move([&](float u) { return natural_level(x[i], all_exponents, u) != low; });
    EXPECT_NEAR(ups * 0x1p-24, expected[i], 3e-7) << i;
  }
}

TEST(Natural, ValuesAreExactPowersOfTwoAtEveryExponent) {
  const ExponentRange ranges[] = {all_exponents, {-149, -149}, {127, 127},
                                  {-126, 0},     {-109, 18},   {-130, -120}};
  for (const ExponentRange range : ranges)
    for (int32_t e = range.lowest; e <= range.highest; ++e)
      for (float sign : {1.0f, -1.0f}) {
        const int32_t level = int32_t(sign) * (e - range.lowest + 1);
        const float power = sign * float(std::ldexp(1.0, e));
        ASSERT_EQ(natural_value(level, range), power) << e;
        for (float u : {0.0f, 0.5f, last_uniform}) {
          ASSERT_EQ(natural_level(power, range, u), level) << e;
        }
        ASSERT_EQ(natural_level_nearest(power, range), level) << e;
        ASSERT_EQ(natural_error(power, range), 0.0) << e;
      }
}

TEST(Natural, TakesTheNeighbouringPowersWithTheMantissasProbabilityAtEveryExponent) {
  test::Random random(1);
  for (int e = -149; e < 127; ++e)
    for (int k = 0; k < 4; ++k) {
      const int bits = std::min(23, e + 149);  // of the mantissa, which a subnormal has fewer of
      const double x = std::ldexp(1.0 + double(random.below(1ull << bits)) / double(1ull << bits), e);
      const float g = float(k % 2 ? -x : x);
      ASSERT_EQ(std::fabs(double(g)), x);
      const int32_t low = e + 150;
      ASSERT_EQ(std::abs(natural_level(g, all_exponents, last_uniform)), low) << g;
      const uint32_t ups = uniforms_that_move([&](float u) {
        const int32_t level = natural_level(g, all_exponents, u);
        EXPECT_TRUE(std::abs(level) == low || std::abs(level) == low + 1);
        EXPECT_EQ(level < 0, g < 0);
        return std::abs(level) == low + 1;
      });
      const double p = ups * 0x1p-24, below = std::ldexp(1.0, e);
      ASSERT_EQ((1 - p) * below + p * 2 * below, x) << "unbiased, exactly";
      ASSERT_EQ(natural_error(g, all_exponents),
                (1 - p) * (x - below) * (x - below) + p * (2 * below - x) * (2 * below - x));
      ASSERT_LE(natural_error(g, all_exponents), x * x / 8);
      ASSERT_EQ(std::abs(natural_level_nearest(g, all_exponents)), x - below >= 2 * below - x ? low + 1 : low)
          << g;
    }
}

TEST(Natural, FlushesWithoutBiasBelowTheLowestExponent) {
  test::Random random(2);
  for (const int32_t lowest : {-100, -20, -3, 0, 60, 127}) {
    const ExponentRange range = {lowest, 127};
    const double first = std::ldexp(1.0, lowest);
    for (int k = 0; k < 60; ++k) {
      const float x = float(first * random.uniform() * std::ldexp(1.0, -int(random.below(k % 2 ? 40 : 4))));
      const uint32_t ups = uniforms_that_move([&](float u) {
        const int32_t level = natural_level(-x, range, u);
        EXPECT_TRUE(level == 0 || level == -1);
        return level == -1;
      });
      ASSERT_EQ(double(ups), std::ceil(double(x) / first * 0x1p24)) << x;
      ASSERT_DOUBLE_EQ(natural_error(x, range), double(x) * (first - double(x)));
      ASSERT_EQ(natural_level_nearest(x, range), double(x) >= first / 2 ? 1 : 0);
    }
    EXPECT_EQ(natural_level(FLT_TRUE_MIN, range, 0), 1);
    EXPECT_EQ(natural_level(FLT_TRUE_MIN, range, 0x1p-24f), 0) << "far below, only the uniform zero goes up";
  }
}

TEST(Natural, SaturatesAtTheHighestExponent) {
  for (float u : {0.0f, 0.5f, last_uniform}) {
    EXPECT_EQ(natural_level(FLT_MAX, all_exponents, u), 277);
    EXPECT_EQ(natural_level(-FLT_MAX, {-109, 18}, u), -128);
    EXPECT_EQ(natural_level(1.75f, {-5, 0}, u), 6);
    EXPECT_EQ(natural_level(-7.0f, {1, 1}, u), -1);
  }
  EXPECT_EQ(natural_level_nearest(1.75f, {-5, 0}), 6);
  EXPECT_EQ(natural_error(1.75f, {-5, 0}), 0.5625);
  EXPECT_EQ(natural_error(-7, {1, 1}), 25.0);
}

TEST(Natural, ZeroOfEitherSignIsLevelZeroAndValuePlusZero) {
  for (float zero : {0.0f, -0.0f}) {
    EXPECT_EQ(natural_level(zero, all_exponents, 0), 0);
    EXPECT_EQ(natural_level(zero, {0, 10}, 0), 0);
    EXPECT_EQ(natural_level_nearest(zero, all_exponents), 0);
    EXPECT_EQ(natural_error(zero, {0, 10}), 0.0);
  }
  EXPECT_EQ(std::bit_cast<uint32_t>(natural_value(0, all_exponents)), 0u);
  EXPECT_EQ(std::bit_cast<uint32_t>(natural_value(0, {0, 10})), 0u);
}

// The reduction of exponential dithering.

double value_of_code(int32_t code) {
  return code == 0 ? 0.0 : std::copysign(std::ldexp(1.0, -std::abs(code)), code);
}

TEST(ExponentialAdd, GivesTheCodesOfTheWorkedVector) {
  const float g[2][4] = {{.5f, -1, .25f, 2}, {-.5f, .75f, 4, 1}};
  const float u[2][4] = {{.5f, .25f, .75f, .125f}, {.625f, .375f, .9375f, .0625f}};
  const int32_t expected[2][4] = {{5, -4, 6, 3}, {-5, 4, 2, 4}}, reduced[] = {0, 0, 2, 2};
  int32_t codes[2][4];
  for (int w = 0; w < 2; ++w)
    for (int i = 0; i < 4; ++i) {
      const float y = g[w][i] / (2 * 2 * 4.0f);  // g / (2 n G), n = 2, G = 4
      codes[w][i] = mirrored_level(natural_level(y, {-127, -1}, u[w][i]), 127);
      EXPECT_EQ(codes[w][i], expected[w][i]) << w << ' ' << i;
    }
  for (int i = 0; i < 4; ++i) {
    const CodeSum sum = exponential_add(codes[0][i], codes[1][i], u[0][i]);
    EXPECT_EQ(sum.code, reduced[i]) << i;
    EXPECT_FALSE(sum.saturated);
    EXPECT_EQ(value_of_code(sum.code) * 2 * 4, double(reduced[i] ? 2 : 0)) << "x 2 n G / n";
  }
}

TEST(MirroredLevel, IsTheCodeOfTheSameValueAndItsOwnInverse) {
  for (int32_t last : {1, 7, 31, 127})
    for (int32_t level = -last; level <= last; ++level) {
      const int32_t code = mirrored_level(level, last);
      EXPECT_EQ(mirrored_level(code, last), level);
      EXPECT_EQ(value_of_code(code), double(natural_value(level, {-last, -1})));
    }
}

TEST(ExponentialAdd, IsUnbiasedOverAllUniformsForEveryPairOfCodes) {
  constexpr int32_t max = 31;
  for (int32_t a = -max; a <= max; ++a)
    for (int32_t b = -max; b <= max; ++b) {
      const CodeSum still = exponential_add(a, b, last_uniform), moved = exponential_add(a, b, 0);
      const double p =
          still.code == moved.code && still.saturated == moved.saturated
              ? 0.0
              : uniforms_that_move([&](float u) {
                  const CodeSum sum = exponential_add(a, b, u);
                  const bool like_moved = sum.code == moved.code && sum.saturated == moved.saturated;
                  EXPECT_TRUE(like_moved || (sum.code == still.code && sum.saturated == still.saturated));
                  return like_moved;
                }) * 0x1p-24;
      // A saturated sum stands for 2^0, as its flag says.
      const auto value = [](CodeSum sum) {
        return sum.saturated ? std::copysign(1.0, sum.code) : value_of_code(sum.code);
      };
      const double mean = (1 - p) * value(still) + p * value(moved),
                   exact = value_of_code(a) + value_of_code(b);
      const int32_t difference = std::abs(std::abs(a) - std::abs(b));
      if (a == 0 || b == 0 || difference <= 24)
        ASSERT_EQ(mean, exact) << a << ' ' << b;
      else
        ASSERT_NEAR(mean, exact,
                    0x1p-24 * std::max(std::fabs(value_of_code(a)), std::fabs(value_of_code(b))));
      for (const CodeSum sum : {still, moved}) {
        ASSERT_LE(std::abs(sum.code), max) << "no code beyond those of the summands";
        ASSERT_TRUE(!sum.saturated || std::abs(sum.code) == 1);
      }
    }
}

TEST(ExponentialAdd, FollowsTheRulesOfTheReduction) {
  EXPECT_EQ(exponential_add(5, 5, last_uniform).code, 4) << "equal codes double";
  EXPECT_EQ(exponential_add(-5, -6, 0.49f).code, -4);
  EXPECT_EQ(exponential_add(-6, -5, 0.5f).code, -5);
  EXPECT_EQ(exponential_add(5, -5, 0.3f).code, 0);
  EXPECT_EQ(exponential_add(5, -6, last_uniform).code, 6) << "half of it remains for certain";
  EXPECT_EQ(exponential_add(-7, 5, 0.49f).code, 6);
  EXPECT_EQ(exponential_add(-7, 5, 0.5f).code, 5);
  EXPECT_EQ(exponential_add(127, -1, 0.5f).code, -1);
  EXPECT_EQ(exponential_add(0, -9, 0).code, -9);
  EXPECT_EQ(exponential_add(9, 0, 0).code, 9);
  EXPECT_EQ(exponential_add(0, 0, 0).code, 0);
}

TEST(ExponentialAdd, SaysWhenASumSaturates) {
  const CodeSum sum = exponential_add(-1, -1, 0.5f);
  EXPECT_EQ(sum.code, -1);
  EXPECT_TRUE(sum.saturated);
  EXPECT_TRUE(exponential_add(1, 3, 0.24f).saturated);
  EXPECT_FALSE(exponential_add(1, 3, 0.25f).saturated);
  EXPECT_FALSE(exponential_add(1, -3, 0).saturated);
  EXPECT_FALSE(exponential_add(1, 0, 0).saturated);
}

TEST(ExponentialAdd, NeverSaturatesInATreeOfAPowerOfTwoOfWorkersAtTheMaximum) {
  for (int32_t depth = 1; depth <= 6; ++depth) {
    int32_t code = depth + 1;  // 1 / (2 n)
    for (int32_t level = 0; level < depth; ++level)
      for (float u : {0.0f, last_uniform}) {
        const CodeSum sum = exponential_add(code, code, u);
        ASSERT_FALSE(sum.saturated);
        if (u > 0) code = sum.code;
      }
    EXPECT_EQ(code, 1);
  }
}

TEST(NormalExponents, RoundByCarryAsTheDefinitionDoes) {
  test::Random random(5);
  for (const ExponentRange range : {ExponentRange{-126, 127}, ExponentRange{-126, 126}, {-126, -126}}) {
    const int32_t last = last_natural_level(range);
    for (uint32_t field = 0; field < 255; ++field)
      for (uint32_t mantissa : {0u, 1u, 2u, 0x3fffffu, 0x400000u, 0x7ffffeu, 0x7fffffu,
                                uint32_t(random.below(1 << 23)), uint32_t(random.below(1 << 23))}) {
        const float x = bits_as<float>(field << 23 | mantissa);
        // Both sides of where the level changes, the two ends, and anything.
        for (uint32_t upper : {0u, 1u, 2 * mantissa - 1, 2 * mantissa, 2 * mantissa + 1, 0xfffffeu, 0xffffffu,
                               uint32_t(random.below(1 << 24))}) {
          const uint32_t word = upper << 8 | uint32_t(random.below(256));
          const int32_t level = natural_level(x, range, uniform_of_word(word));
          ASSERT_EQ(normal_index(x, range, word), level) << x << ' ' << word;
          ASSERT_EQ(normal_index(-x, range, word), level) << x << ' ' << word;
        }
      }
    for (int32_t level = -last; level <= last; ++level)
      ASSERT_EQ(bits_as<uint32_t>(normal_value(level)), bits_as<uint32_t>(natural_value(level, range)));
  }
}

// Arrays.

TEST(NaturalArrays, EqualTheElementsOnEverySimdLevel) {
  const ExponentRange ranges[] = {all_exponents, {-127, -1},  {-12, 3},  {-149, -140},
                                  {-6, -6},      {-126, 127}, {-126, -9}};
  test::for_each_simd_level([&] {
    for (test::Kind kind : test::all_kinds)
      for (size_t n : {0, 1, 15, 16, 17, 33, 1000, 65537 + 16}) {
        if (n > 1000 && kind != test::Kind::heavy && kind != test::Kind::subnormal) continue;
        SCOPED_TRACE(std::string(test::kind_name(kind)) + " " + std::to_string(n));
        const std::vector<float> values = test::make_data(kind, n);
        std::vector<float> uniforms(n), decoded(n);
        test::Random random(n);
        std::vector<uint32_t> words(n);
        for (uint32_t& word : words) word = uint32_t(random.word());
        for (size_t i = 0; i < n; ++i) uniforms[i] = uniform_of_word(words[i]);
        Levels levels(n), nearest(n);
        for (const ExponentRange range : ranges) {
          const double error = cpu::natural_levels(values, range, uniforms, levels);
          const double nearest_error = cpu::natural_levels(values, range, {}, nearest);
          cpu::natural_values(levels, range, decoded);
          Levels mirrored(n);
          std::vector<float> from_mirrored(n);
          ASSERT_EQ(cpu::mirrored_levels(values, range, uniforms, mirrored), error);
          Levels unmeasured(n);
          ASSERT_EQ(cpu::mirrored_levels(values, range, uniforms, unmeasured, cpu::Expected::nothing), 0);
          ASSERT_EQ(unmeasured, mirrored);
          if (range.lowest == lowest_normal_exponent) {
            Levels by_words(n);
            cpu::mirrored_levels_of_words(values, range, words, by_words);
            ASSERT_EQ(by_words, mirrored);
          }
          cpu::mirrored_values(mirrored, range, from_mirrored);
          for (size_t i = 0; i < n; ++i)
            ASSERT_EQ(mirrored[i], element::mirrored_level(levels[i], element::last_natural_level(range)))
                << i;
          ASSERT_TRUE(n == 0 || std::memcmp(from_mirrored.data(), decoded.data(), 4 * n) == 0);
          double expected = 0, expected_nearest = 0;
          for (size_t at = 0; at < n; at += 65536) {
            double lane[16] = {}, lane_nearest[16] = {};
            for (size_t i = at; i < std::min<size_t>(n, at + 65536); ++i) {
              ASSERT_EQ(levels[i], natural_level(values[i], range, uniforms[i])) << i;
              ASSERT_EQ(nearest[i], natural_level_nearest(values[i], range)) << i;
              ASSERT_EQ(std::bit_cast<uint32_t>(decoded[i]),
                        std::bit_cast<uint32_t>(natural_value(levels[i], range)))
                  << i;
              const double off = double(natural_value(nearest[i], range)) - double(values[i]);
              lane[i % 16] += natural_error(values[i], range);
              lane_nearest[i % 16] += off * off;
            }
            for (size_t half = 8; half > 0; half /= 2)
              for (size_t l = 0; l < half; ++l)
                lane[l] += lane[l + half], lane_nearest[l] += lane_nearest[l + half];
            expected += lane[0];
            expected_nearest += lane_nearest[0];
          }
          ASSERT_EQ(error, expected);
          ASSERT_EQ(nearest_error, expected_nearest);
        }
      }
  });
}

TEST(ExponentialCodeArrays, EqualTheElementsAndCountWhatSaturates) {
  test::for_each_simd_level([] {
    test::Random random(8);
    for (size_t n : {0, 1, 16, 33, 1000, 65536 + 70}) {
      for (int32_t max : {3, 31, 127}) {
        Levels sums(n), codes(n);
        std::vector<float> uniforms(n);
        for (size_t i = 0; i < n; ++i) {
          sums[i] = int32_t(random.below(uint64_t(2 * max + 1))) - max;
          codes[i] = int32_t(random.below(uint64_t(2 * max + 1))) - max;
          uniforms[i] = float(random.below(1 << 24)) * 0x1p-24f;
        }
        Levels expected(n);
        uint64_t saturated = 0;
        for (size_t i = 0; i < n; ++i) {
          const CodeSum sum = exponential_add(sums[i], codes[i], uniforms[i]);
          expected[i] = sum.code;
          saturated += sum.saturated;
        }
        ASSERT_EQ(cpu::add_exponential_codes(sums, codes, uniforms), saturated);
        ASSERT_EQ(sums, expected);
      }
    }
  });
}

}  // namespace
}  // namespace jsq::element

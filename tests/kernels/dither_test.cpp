// Uniform and exponential dithering: the worked vectors of check_vectors.py 2, 3, 17 and 20, unbiasedness by
// counting the uniforms that round up, and arrays against elements on every SIMD level.
#include "kernels/element/dither.hpp"

#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>
#include <vector>

#include "kernels/cpu/dither.hpp"
#include "tests/kernels/data.hpp"
#include "tests/kernels/simd_levels.hpp"

namespace jsq::element {
namespace {

using Levels = std::vector<int32_t>;

const std::vector<float> v8 = {0.5f, -1.0f, 0.25f, 2.0f, -0.125f, 0.0f, 3.0f, -4.0f};
const std::vector<float> u8 = {0.5f, 0.25f, 0.75f, 0.125f, 0.625f, 0.375f, 0.9375f, 0.0625f};
const float norm_of_v8 = float(5.5070976929776725);

/// Counts the uniforms k x 2^-24 for which `rounds_up` holds, after checking that they are the smallest ones.
template <class RoundsUp>
uint32_t uniforms_that_round_up(RoundsUp rounds_up) {
  const auto at = [&](uint32_t k) { return rounds_up(float(k) * 0x1p-24f); };
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

TEST(RoundStochastic, GoesUpForExactlyTheUniformsBelowTheFraction) {
  for (float y : {0.0f, 0.25f, 0.3f, 1.0f, 1.75f, 6.1f, 126.99f, 1000.001f, 8388607.5f, 16777215.0f}) {
    const double whole = std::floor(double(y)), fraction = double(y) - whole;
    const uint32_t ups =
        uniforms_that_round_up([&](float u) { return round_stochastic(y, u) == int32_t(whole) + 1; });
    EXPECT_EQ(double(ups), std::ceil(fraction * 0x1p24)) << y;
    if (y >= 1) {  // the fraction then has at most 24 bits, so that the mean is exact
      EXPECT_EQ(whole + double(ups) * 0x1p-24, double(y));
    }
    EXPECT_EQ(round_stochastic(y, 1 - 0x1p-24f), int32_t(whole)) << y;
  }
}

TEST(RoundNearest, TakesTiesAwayFromZero) {
  EXPECT_EQ(round_nearest(0.0f), 0);
  EXPECT_EQ(round_nearest(0.49999997f), 0);
  EXPECT_EQ(round_nearest(0.5f), 1);
  EXPECT_EQ(round_nearest(1.5f), 2);
  EXPECT_EQ(round_nearest(2.5f), 3);
  EXPECT_EQ(round_nearest(2.4999998f), 2);
  EXPECT_EQ(round_nearest(8388607.5f), 8388608);
  EXPECT_EQ(round_nearest(16777215.0f), 16777215);
}

struct WorkedUniform {
  float scale, s;
  Levels levels;
  std::vector<double> values;
  double expected_error;
};
const WorkedUniform worked_uniform[] = {
    {4, 4, {0, -1, 0, 2, 0, 0, 3, -4}, {0, -1, 0, 2, 0, 0, 3, -4}, 0.546875},
    {4, 7, {1, -2, 0, 4, 0, 0, 5, -7}, {.5714286, -1.1428571, 0, 2.2857143, 0, 0, 2.8571429, -4}, .37595663},
    {norm_of_v8,
     4,
     {0, -1, 0, 2, 0, 0, 2, -3},
     {0, -1.376774, 0, 2.753549, 0, 0, 2.753549, -4.130323},
     2.16396902},
    {norm_of_v8, 1, {0, 0, 0, 1, 0, 0, 0, -1}, {0, 0, 0, 5.507098, 0, 0, 0, -5.507098}, NAN},
    {4, 1, {0, 0, 0, 1, 0, 0, 0, -1}, {0, 0, 0, 4, 0, 0, 0, -4}, 13.171875},  // TernGrad
    {1.94548506f,
     1,
     {0, -1, 0, 1, 0, 0, 1, -1},
     {0, -1.945485, 0, 1.945485, 0, 0, 1.945485, -1.945485},
     NAN}};

TEST(UniformGrid, GivesTheLevelsValuesAndErrorsOfTheWorkedVectors) {
  for (const WorkedUniform& vector : worked_uniform) {
    SCOPED_TRACE(std::to_string(vector.scale) + " in " + std::to_string(vector.s));
    double expected_error = 0;
    for (size_t i = 0; i < 8; ++i) {
      const int32_t level = uniform_level(v8[i], vector.scale, vector.s, u8[i]);
      EXPECT_EQ(level, vector.levels[i]) << i;
      EXPECT_NEAR(double(uniform_value(level, vector.scale, vector.s)), vector.values[i], 6e-7) << i;
      expected_error += uniform_error(v8[i], vector.scale, vector.s);
    }
    if (!std::isnan(vector.expected_error)) {
      EXPECT_NEAR(expected_error, vector.expected_error, 1.5e-7);
    }
  }
}

TEST(UniformGrid, HasTheMeasuredErrorsOfTheWorkedVectors) {
  const double measured[] = {0.328125, .20567602};
  for (int k : {0, 1}) {
    double error = 0;
    for (size_t i = 0; i < 8; ++i) {
      const int32_t level = uniform_level(v8[i], 4, worked_uniform[k].s, u8[i]);
      error += std::pow(double(uniform_value(level, 4, worked_uniform[k].s)) - double(v8[i]), 2);
    }
    EXPECT_NEAR(error, measured[k], 1e-7);
  }
}

TEST(UniformGrid, GivesTheIntegersThatStandardDitheringAdds) {
  const std::vector<float> a = {.5f, -1, .25f, 2}, ua = {.5f, .25f, .75f, .125f};
  const std::vector<float> b = {-.5f, .75f, 4, 1}, ub = {.625f, .375f, .9375f, .0625f};
  const Levels expected_a = {8, -16, 4, 32}, expected_b = {-8, 12, 63, 16};
  for (float s : {63.0f, 63.5f})
    for (size_t i = 0; i < 4; ++i) {
      EXPECT_EQ(uniform_level(a[i], 4, s, ua[i]), expected_a[i]) << s << ' ' << i;
      EXPECT_EQ(uniform_level(b[i], 4, s, ub[i]), expected_b[i]) << s << ' ' << i;
    }
  EXPECT_EQ(uniform_level(4, 4, 63.5f, 0.25f), 64) << "a grid of half a step more ends at ceil(s)";
}

TEST(UniformGrid, IsUnbiasedAndHasItsExpectedErrorByCountingUniforms) {
  test::Random random(1);
  for (int i = 0; i < 400; ++i) {
    const float scale = i % 4 == 0 ? 1.0f : float(std::exp(20 * random.normal()));
    const float g = float(double(scale) * (2 * random.uniform() - 1));
    const float s = float(1 + random.below(i % 2 ? 7 : 127));
    const double step = double(scale) / double(s);
    const int32_t below = int32_t(std::floor(double(uniform_position(g, scale, s))));
    const double p = uniforms_that_round_up(
                         [&](float u) { return std::abs(uniform_level(g, scale, s, u)) == below + 1; }) *
                     0x1p-24;
    const double low = step * below, high = low + step, x = std::fabs(double(g));
    // u has 24 bits, and the position is f32 of at most s: an error of s x 2^-24 steps in each of two
    // operations.
    const double slack = (double(s) * 0x1p-23 + 0x1p-24) * step;
    EXPECT_NEAR((1 - p) * low + p * high, x, slack) << g << " in " << scale << ' ' << s;
    const double error = (1 - p) * (x - low) * (x - low) + p * (high - x) * (high - x);
    EXPECT_NEAR(uniform_error(g, scale, s), error, 2 * slack * step) << g << " in " << scale << ' ' << s;
  }
}

TEST(UniformGrid, DrawsHaveTheMeanAndTheExpectedError) {
  constexpr int draws = 100000;
  test::Random random(2);
  for (float g : {0.013f, -0.77f, 0.5f, 0.999f}) {
    double sum = 0, squares = 0;
    for (int i = 0; i < draws; ++i) {
      const float u = float(random.below(1 << 24)) * 0x1p-24f;
      const double error = double(uniform_value(uniform_level(g, 1, 5, u), 1, 5)) - double(g);
      sum += error;
      squares += error * error;
    }
    const double variance = uniform_error(g, 1, 5);
    EXPECT_NEAR(sum / draws, 0, 4 * std::sqrt(variance / draws)) << g;
    EXPECT_NEAR(squares / draws, variance, 4 * 0.04 / std::sqrt(double(draws))) << g;  // errors are below 0.2
  }
}

TEST(UniformGrid, KeepsGridPointsWhateverTheUniform) {
  for (float s : {1.0f, 4.0f, 8.0f})
    for (int32_t level = -int32_t(s); level <= int32_t(s); ++level) {
      const float g = uniform_value(level, 3, s);
      for (float u : {0.0f, 0.5f, 1 - 0x1p-24f}) {
        EXPECT_EQ(uniform_level(g, 3, s, u), level);
      }
      EXPECT_EQ(uniform_level_nearest(g, 3, s), level);
      EXPECT_EQ(uniform_error(g, 3, s), 0.0);
    }
}

TEST(UniformGrid, RoundsToTheNearestPointAndTiesAway) {
  EXPECT_EQ(uniform_level_nearest(0.4999f, 4, 4), 0);
  EXPECT_EQ(uniform_level_nearest(0.5f, 4, 4), 1);
  EXPECT_EQ(uniform_level_nearest(-2.5f, 4, 4), -3);
  EXPECT_EQ(uniform_level_nearest(-4.0f, 4, 4), -4);
}

TEST(UniformGrid, TakesMagnitudesAboveTheScaleAsTheScale) {
  for (float u : {0.0f, 1 - 0x1p-24f}) {
    EXPECT_EQ(uniform_level(FLT_MAX, 1e-30f, 7, u), 7);
    EXPECT_EQ(uniform_level(-5, 2, 7, u), -7);
  }
  EXPECT_EQ(uniform_level_nearest(-5, 2, 7), -7);
  EXPECT_EQ(uniform_error(-5, 2, 7), 9.0);
}

TEST(UniformGrid, OfScaleZeroHasLevelZeroOnly) {
  for (float g : {0.0f, -0.0f, 1.0f, -FLT_MAX, FLT_TRUE_MIN}) {
    EXPECT_EQ(uniform_level(g, 0, 7, 0), 0);
    EXPECT_EQ(uniform_level_nearest(g, 0, 7), 0);
    EXPECT_EQ(uniform_error(g, 0, 7), double(g) * double(g));
  }
  EXPECT_EQ(std::bit_cast<uint32_t>(uniform_value(0, 0, 7)), 0u);
}

TEST(UniformGrid, HoldsAtTheEndsOfTheFloats) {
  for (float s : {1.0f, 7.0f, 127.0f, 32767.0f}) {
    EXPECT_EQ(uniform_value(int32_t(s), FLT_MAX, s), FLT_MAX);
    EXPECT_EQ(uniform_value(-int32_t(s), FLT_MAX, s), -FLT_MAX);
    EXPECT_EQ(uniform_value(int32_t(s), FLT_TRUE_MIN, s), FLT_TRUE_MIN);
    EXPECT_EQ(uniform_level(-FLT_MAX, FLT_MAX, s, 0), -int32_t(s));
    EXPECT_EQ(uniform_level(FLT_TRUE_MIN, FLT_TRUE_MIN, s, 0), int32_t(s));
    EXPECT_EQ(uniform_level(-0.0f, 1, s, 0), 0);
    EXPECT_EQ(std::bit_cast<uint32_t>(uniform_value(0, FLT_MAX, s)), 0u);
  }
  EXPECT_EQ(uniform_level(3 * FLT_TRUE_MIN, 4 * FLT_TRUE_MIN, 4, 0), 3);
}

TEST(ExponentialGrid, GivesTheLevelsAndValuesOfTheWorkedVector) {
  const Levels expected = {1, -2, 0, 3, 0, 0, 3, -4};
  const double values[] = {.688387, -1.376774, 0, 2.753549, 0, 0, 2.753549, -5.507098};
  for (size_t i = 0; i < 8; ++i) {
    const int32_t level = exponential_level(v8[i], norm_of_v8, 3, u8[i]);
    EXPECT_EQ(level, expected[i]) << i;
    EXPECT_NEAR(double(exponential_value(level, norm_of_v8, 3)), values[i], 6e-7) << i;
  }
}

TEST(ExponentialGrid, HasPowersOfTwoTimesTheScale) {
  for (int32_t s : {0, 1, 3, 7, 30, 126})
    for (float scale : {1.0f, 0.3f, 5.0f})
      for (int32_t level = -(s + 1); level <= s + 1; ++level) {
        const double power = level == 0 ? 0 : std::ldexp(1.0, std::abs(level) - 1 - s);
        const float expected = float(double(scale) * power) * (level < 0 ? -1.0f : 1.0f);
        ASSERT_EQ(exponential_value(level, scale, s), expected) << s << ' ' << level;
        if (level == 0) {
          ASSERT_FALSE(std::signbit(exponential_value(level, scale, s)));
        }
      }
}

TEST(ExponentialGrid, KeepsItsPointsWhateverTheUniform) {
  for (int32_t s : {0, 1, 3, 7, 30, 100})
    for (int32_t level = -(s + 1); level <= s + 1; ++level) {
      const float g = exponential_value(level, 3, s);
      for (float u : {0.0f, 0.5f, 1 - 0x1p-24f}) {
        ASSERT_EQ(exponential_level(g, 3, s, u), level) << s;
      }
      ASSERT_EQ(exponential_level_nearest(g, 3, s), level) << s;
      ASSERT_EQ(exponential_error(g, 3, s), 0.0) << s;
    }
}

TEST(ExponentialGrid, IsUnbiasedAndHasItsExpectedErrorByCountingUniforms) {
  test::Random random(3);
  for (int i = 0; i < 600; ++i) {
    const float scale = i % 4 == 0 ? 1.0f : float(std::exp(10 * random.normal()));
    const int32_t s = int32_t(random.below(i % 2 ? 4 : 20));
    const float g =
        float(double(scale) * random.uniform() * std::exp(-3 * random.uniform()) * (i % 3 ? 1 : -1));
    const double x = std::fabs(double(g));
    double low = 0, high = std::ldexp(double(scale), -s);  // the neighbours, by search
    int32_t below = 0;
    while (high <= x) low = high, high *= 2, ++below;
    const double p = uniforms_that_round_up(
                         [&](float u) { return std::abs(exponential_level(g, scale, s, u)) == below + 1; }) *
                     0x1p-24;
    const double slack = (0x1p-24 + 0x1p-23) * high;
    EXPECT_NEAR((1 - p) * low + p * high, x, slack) << g << " in " << scale << ' ' << s;
    const double error = (1 - p) * (x - low) * (x - low) + p * (high - x) * (high - x);
    EXPECT_NEAR(exponential_error(g, scale, s), error, 2 * slack * high) << g << " in " << scale << ' ' << s;
    EXPECT_NEAR(exponential_error(g, scale, s), (x - low) * (high - x), 1e-12 * high * high);
  }
}

TEST(ExponentialGrid, RoundsToTheNearestPointAndTiesAway) {
  // s = 2: 0, 1/4, 1/2, 1.
  EXPECT_EQ(exponential_level_nearest(0.12f, 1, 2), 0);
  EXPECT_EQ(exponential_level_nearest(0.125f, 1, 2), 1);
  EXPECT_EQ(exponential_level_nearest(-0.37f, 1, 2), -1);
  EXPECT_EQ(exponential_level_nearest(-0.375f, 1, 2), -2);
  EXPECT_EQ(exponential_level_nearest(0.74f, 1, 2), 2);
  EXPECT_EQ(exponential_level_nearest(0.75f, 1, 2), 3);
  EXPECT_EQ(exponential_level_nearest(8.0f, 1, 2), 3);
}

TEST(ExponentialGrid, HoldsAtTheEndsOfTheFloatsAndForScaleZero) {
  for (float u : {0.0f, 1 - 0x1p-24f}) {
    EXPECT_EQ(exponential_level(FLT_MAX, FLT_MAX, 3, u), 4);
    EXPECT_EQ(exponential_level(-FLT_MAX, FLT_TRUE_MIN, 3, u), -4);
    EXPECT_EQ(exponential_level(FLT_TRUE_MIN, FLT_TRUE_MIN, 3, u), 4);
    EXPECT_EQ(exponential_level(-1, 0, 3, u), 0);
    EXPECT_EQ(exponential_level(-0.0f, 1, 3, u), 0);
  }
  EXPECT_EQ(exponential_level(FLT_TRUE_MIN, FLT_MAX, 126, 1 - 0x1p-24f), 0);
  EXPECT_EQ(exponential_value(4, FLT_MAX, 3), FLT_MAX);
  EXPECT_EQ(exponential_error(-5, 2, 3), 9.0);
  EXPECT_EQ(exponential_error(-5, 0, 3), 25.0);
}

// Arrays.

constexpr size_t sizes[] = {0, 1, 15, 16, 17, 33, 1000, 65536, 65537 + 16};

std::vector<float> make_uniforms(size_t n) {
  test::Random random(n);
  std::vector<float> uniforms(n);
  for (float& u : uniforms) u = float(random.below(1 << 24)) * 0x1p-24f;
  return uniforms;
}

/// Sums of terms in the order that the arrays promise.
template <class Term>
double stretch_sum(size_t n, Term term) {
  double total = 0;
  for (size_t at = 0; at < n; at += 65536) {
    double lane[16] = {};
    for (size_t i = at; i < std::min<size_t>(n, at + 65536); ++i) lane[i % 16] += term(i);
    for (size_t half = 8; half > 0; half /= 2)
      for (size_t l = 0; l < half; ++l) lane[l] += lane[l + half];
    total += lane[0];
  }
  return total;
}

template <class Body>
void for_each_array(Body body) {
  test::for_each_simd_level([&] {
    for (test::Kind kind : test::all_kinds)
      for (size_t n : sizes) {
        if (n > 1000 && kind != test::Kind::heavy && kind != test::Kind::subnormal) continue;
        SCOPED_TRACE(std::string(test::kind_name(kind)) + " " + std::to_string(n));
        const std::vector<float> values = test::make_data(kind, n);
        const float top = cpu::max_magnitude(values);
        for (float scale : {top, 0.75f * top, 0.0f}) body(values, scale, make_uniforms(n));
        if (testing::Test::HasFatalFailure()) return;
      }
  });
}

TEST(UniformArrays, EqualTheElementsOnEverySimdLevel) {
  for_each_array([](const std::vector<float>& values, float scale, const std::vector<float>& uniforms) {
    const size_t n = values.size();
    Levels levels(n), nearest(n);
    std::vector<float> decoded(n), decoded_nearest(n);
    for (float s : {1.0f, 7.0f, 31.75f}) {
      const double error = cpu::uniform_levels(values, scale, s, uniforms, levels);
      const double nearest_error = cpu::uniform_levels(values, scale, s, {}, nearest);
      cpu::uniform_values(levels, scale, s, decoded);
      cpu::uniform_values(nearest, scale, s, decoded_nearest);
      for (size_t i = 0; i < n; ++i) {
        ASSERT_EQ(levels[i], uniform_level(values[i], scale, s, uniforms[i])) << i;
        ASSERT_EQ(nearest[i], uniform_level_nearest(values[i], scale, s)) << i;
        ASSERT_EQ(std::bit_cast<uint32_t>(decoded[i]),
                  std::bit_cast<uint32_t>(uniform_value(levels[i], scale, s)))
            << i;
      }
      ASSERT_EQ(error, stretch_sum(n, [&](size_t i) { return uniform_error(values[i], scale, s); }));
      ASSERT_EQ(nearest_error, stretch_sum(n, [&](size_t i) {
                  const double off = double(decoded_nearest[i]) - double(values[i]);
                  return off * off;
                }));
    }
  });
}

TEST(ExponentialArrays, EqualTheElementsOnEverySimdLevel) {
  for_each_array([](const std::vector<float>& values, float scale, const std::vector<float>& uniforms) {
    const size_t n = values.size();
    Levels levels(n), nearest(n);
    std::vector<float> decoded(n), decoded_nearest(n);
    for (int32_t s : {0, 6, 126}) {
      const double error = cpu::exponential_levels(values, scale, s, uniforms, levels);
      const double nearest_error = cpu::exponential_levels(values, scale, s, {}, nearest);
      cpu::exponential_values(levels, scale, s, decoded);
      cpu::exponential_values(nearest, scale, s, decoded_nearest);
      for (size_t i = 0; i < n; ++i) {
        ASSERT_EQ(levels[i], exponential_level(values[i], scale, s, uniforms[i])) << i;
        ASSERT_EQ(nearest[i], exponential_level_nearest(values[i], scale, s)) << i;
        ASSERT_EQ(std::bit_cast<uint32_t>(decoded[i]),
                  std::bit_cast<uint32_t>(exponential_value(levels[i], scale, s)))
            << i;
      }
      ASSERT_EQ(error, stretch_sum(n, [&](size_t i) { return exponential_error(values[i], scale, s); }));
      ASSERT_EQ(nearest_error, stretch_sum(n, [&](size_t i) {
                  const double off = double(decoded_nearest[i]) - double(values[i]);
                  return off * off;
                }));
    }
  });
}

TEST(Norms, AreThoseOfAPlainLoopInTheDefinedOrder) {
  test::for_each_simd_level([] {
    for (test::Kind kind : test::all_kinds)
      for (size_t n : sizes) {
        SCOPED_TRACE(std::string(test::kind_name(kind)) + " " + std::to_string(n));
        const std::vector<float> values = test::make_data(kind, n);
        float largest = 0;
        for (float g : values) largest = std::max(largest, std::fabs(g));
        EXPECT_EQ(cpu::max_magnitude(values), largest);
        EXPECT_EQ(cpu::sum_squares(values),
                  stretch_sum(n, [&](size_t i) { return double(values[i]) * double(values[i]); }));
        EXPECT_EQ(cpu::sum_magnitudes(values),
                  stretch_sum(n, [&](size_t i) { return std::fabs(double(values[i])); }));
      }
  });
}

TEST(Norms, OfV8AreTheWorkedOnes) {
  EXPECT_EQ(cpu::max_magnitude(v8), 4.0f);
  EXPECT_EQ(cpu::sum_squares(v8), 30.328125);
  EXPECT_EQ(cpu::sum_magnitudes(v8), 10.875);
}

}  // namespace
}  // namespace jsq::element

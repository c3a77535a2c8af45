// The quantizers inside a class: the worked vector of the design, and what each quantizer promises on any
// range.
#include "kernels/element/class_quantizer.hpp"

#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>
#include <string>

#include "kernels/cpu/bit_io.hpp"
#include "kernels/element/philox.hpp"
#include "tests/kernels/data.hpp"

namespace jsq::element {
namespace {

using Q = ClassQuantizer;
constexpr Q all_quantizers[] = {Q::cell, Q::mid, Q::offmag, Q::sym};
std::string name_of(Q quantizer) {
  constexpr const char* names[] = {"cell", "mid", "offmag", "sym"};
  return names[uint32_t(quantizer)];
}
bool exists(Q quantizer, uint32_t width) {
  return quantizer != Q::sym || width > 1;
}
/// The two's complement word -2^(w-1), which sym does not use.
bool is_code(Q quantizer, uint32_t width, uint32_t code) {
  return quantizer != Q::sym || code != 1u << (width - 1);
}

/// Distance of neighbouring points by the table of the quantizers, in double.
double step_of(Q quantizer, uint32_t width, double low, double high) {
  const double h = std::ldexp(1.0, int(width) - 1);
  switch (quantizer) {
    case Q::cell:
      return (high - low) / h;
    case Q::mid:
      return 2 * high / (2 * h - 1);
    case Q::offmag:
      return h > 1 ? (high - low) / (h - 1) : high - low;
    case Q::sym:
      return high / (h - 1);
  }
  return 0;
}

/// The value of a code word by the same table, in double.
double value_of(Q quantizer, uint32_t width, double low, double high, uint32_t code) {
  const uint32_t h = 1u << (width - 1);
  const double step = step_of(quantizer, width, low, high);
  switch (quantizer) {
    case Q::cell:
      return (code < h ? 1 : -1) * (low + (code % h + 0.5) * step);
    case Q::offmag:
      return (code < h ? 1 : -1) * (low + (h > 1 ? code % h * step : 0.0));
    case Q::mid:
      return code * step - high;
    case Q::sym:
      return (code < h ? double(code) : double(code) - 2 * h) * step;
  }
  return 0;
}

/// What f32 arithmetic may add: a few units in the last place of the largest magnitude.
double slack(double high) {
  return high * 0x1p-21 + 4 * double(FLT_TRUE_MIN);
}

// The worked vector: G8 = .04 -.08 .16 -.3 .6 -1.2 2.5 -5 with widths 0 0 0 2 2 4 4 8.
constexpr float g8[] = {0.04f, -0.08f, 0.16f, -0.3f, 0.6f, -1.2f, 2.5f, -5.0f};
constexpr float u8[] = {0.5f, 0.25f, 0.75f, 0.125f, 0.625f, 0.375f, 0.9375f, 0.0625f};

struct WorkedVector {
  Q quantizer;
  uint32_t codes[5];
  uint8_t bytes[3];
  double decoded[5];
  double relative_error;
};
const WorkedVector worked[] = {
    {Q::mid, {1, 3, 4, 15, 0}, {0x70, 0x4F, 0x00}, {-0.2, 0.6, -1.1666667, 2.5, -5}, 0.00134779},
    {Q::sym, {3, 1, 13, 7, 129}, {0xD0, 0xD7, 0x81}, {-0.6, 0.6, -1.0714286, 2.5, -5}, 0.00422416},
    {Q::offmag, {2, 1, 8, 7, 128}, {0x90, 0x87, 0x80}, {-0.3, 0.6, -1.2, 2.5, -5}, 0.00101285},
    {Q::cell, {2, 1, 8, 7, 128}, {0x90, 0x87, 0x80}, {-0.375, 0.525, -1.28125, 2.41875, -5}, 0.00174998}};

TEST(ClassQuantizer, GivesTheCodesBytesAndValuesOfTheWorkedVector) {
  for (const WorkedVector& vector : worked) {
    SCOPED_TRACE(name_of(vector.quantizer));
    const ClassScale scales[] = {make_class_scale(vector.quantizer, 2, 0.3f, 0.6f),
                                 make_class_scale(vector.quantizer, 4, 1.2f, 2.5f),
                                 make_class_scale(vector.quantizer, 8, 5.0f, 5.0f)};
    std::string bytes;
    double error = 0, energy = 0;
    for (int i = 0; i < 8; ++i) energy += double(g8[i]) * double(g8[i]);
    for (int i = 0; i < 3; ++i) error += double(g8[i]) * double(g8[i]);
    for (int group = 0, i = 3; group < 3; ++group) {
      const uint32_t width = 2u << group;
      cpu::BitWriter out(bytes);
      for (int member = 0; member < (group < 2 ? 2 : 1); ++member, ++i) {
        const uint32_t code = quantize_in_class(vector.quantizer, width, scales[group], g8[i], u8[i]);
        EXPECT_EQ(code, vector.codes[i - 3]) << i;
        const float value = dequantize_in_class(vector.quantizer, width, scales[group], code);
        EXPECT_NEAR(value, vector.decoded[i - 3], 1e-6) << i;
        error += (double(value) - double(g8[i])) * (double(value) - double(g8[i]));
        out.put(code, width);
      }
      out.align();
    }
    EXPECT_EQ(bytes, std::string(reinterpret_cast<const char*>(vector.bytes), 3));
    EXPECT_NEAR(error / energy, vector.relative_error, 5e-9);
  }
}

struct Range {
  float low, high;
};
const Range ordinary_ranges[] = {{0.0f, 1.0f},  {0.3f, 0.6f},   {1.2f, 2.5f},      {5.0f, 5.0f},
                                 {1e-3f, 1.0f}, {0.999f, 1.0f}, {0.0f, 1e-30f},    {1e-30f, 3e-30f},
                                 {0.0f, 1e30f}, {1e20f, 2e20f}, {0.1f, 0.1000001f}};
const Range extreme_ranges[] = {{0.0f, FLT_MAX},
                                {FLT_MAX / 2, FLT_MAX},
                                {FLT_MAX, FLT_MAX},
                                {FLT_TRUE_MIN, FLT_MAX},
                                {0.0f, FLT_MIN},
                                {FLT_MIN, 2 * FLT_MIN},
                                {0.0f, 1e-40f},
                                {1e-40f, 5e-40f},
                                {FLT_TRUE_MIN, FLT_TRUE_MIN},
                                {0.0f, FLT_TRUE_MIN},
                                {0.0f, 0.0f}};

void expect_values_of_the_table(Q quantizer, uint32_t width, Range range) {
  const ClassScale scale = make_class_scale(quantizer, width, range.low, range.high);
  for (uint32_t code = 0; code < 1u << width; ++code) {
    if (!is_code(quantizer, width, code)) continue;
    const float value = dequantize_in_class(quantizer, width, scale, code);
    // An error of the f32 step counts as often as the step is taken.
    const double steps = double(1u << width) + 2;
    ASSERT_TRUE(std::isfinite(value)) << code;
    ASSERT_NEAR(value, value_of(quantizer, width, double(range.low), double(range.high), code),
                slack(double(range.high)) + steps * double(FLT_TRUE_MIN))
        << code;
  }
}

template <class Ranges, class F>
void for_each_class(const Ranges& ranges, F f) {
  for (Q quantizer : all_quantizers)
    for (uint32_t width = 1; width <= 8; ++width)
      for (const Range& range : ranges) {
        if (!exists(quantizer, width)) continue;
        SCOPED_TRACE(name_of(quantizer) + " " + std::to_string(width) + " bits on [" +
                     std::to_string(range.low) + ", " + std::to_string(range.high) + "] = key " +
                     std::to_string(magnitude_key(range.low)) + ".." +
                     std::to_string(magnitude_key(range.high)));
        f(quantizer, width, range);
      }
}

TEST(ClassQuantizer, CodesStandForTheValuesOfTheTable) {
  for_each_class(ordinary_ranges, expect_values_of_the_table);
}
TEST(ClassQuantizer, CodesStandForTheValuesOfTheTableOnExtremeRanges) {
  for_each_class(extreme_ranges, expect_values_of_the_table);
}

TEST(ClassQuantizer, EveryCodesValueGetsThatCode) {
  for_each_class(ordinary_ranges, [](Q quantizer, uint32_t width, Range range) {
    // Where points are closer than f32 can tell, codes share values.
    if (step_of(quantizer, width, double(range.low), double(range.high)) < 16 * slack(double(range.high)))
      return;
    const ClassScale scale = make_class_scale(quantizer, width, range.low, range.high);
    for (uint32_t code = 0; code < 1u << width; ++code) {
      if (!is_code(quantizer, width, code)) continue;
      const float value = dequantize_in_class(quantizer, width, scale, code);
      ASSERT_EQ(quantize_in_class(quantizer, width, scale, value, 0.5f), code) << value;
    }
  });
}

/// Members of a class: its borders, its middle and random magnitudes between, of both signs.
template <class F>
void for_each_member(Range range, uint64_t seed, int count, F f) {
  test::Random random(seed);
  const auto low = double(range.low), high = double(range.high);
  for (int i = 0; i < count; ++i) {
    const double share = i == 0 ? 0.0 : i == 1 ? 1.0 : i == 2 ? 0.5 : random.uniform();
    float magnitude = float(low + share * (high - low));
    magnitude = std::min(std::max(magnitude, range.low), range.high);
    f(magnitude);
    f(-magnitude);
  }
}

void expect_nearest_within_half_a_step(Q quantizer, uint32_t width, Range range) {
  const ClassScale scale = make_class_scale(quantizer, width, range.low, range.high);
  double most = step_of(quantizer, width, double(range.low), double(range.high)) / 2;
  if (width == 1 && quantizer == Q::offmag) most *= 2;  // its single magnitude is `low`
  double worst = 0;
  float worst_member = 0;
  for_each_member(range, width, 200, [&](float g) {
    const uint32_t code = quantize_in_class(quantizer, width, scale, g, 0.5f);
    ASSERT_LT(code, 1u << width);
    ASSERT_TRUE(is_code(quantizer, width, code));
    const double error = std::fabs(double(dequantize_in_class(quantizer, width, scale, code)) - double(g));
    if (!(error <= worst)) worst = error, worst_member = g;
  });
  EXPECT_LE(worst, most + slack(double(range.high)) + std::ldexp(double(FLT_TRUE_MIN), int(width)))
      << worst_member;
}

TEST(ClassQuantizer, NearestIsWithinHalfAStep) {
  for_each_class(ordinary_ranges, expect_nearest_within_half_a_step);
}
TEST(ClassQuantizer, NearestIsWithinHalfAStepOnExtremeRanges) {
  for_each_class(extreme_ranges, expect_nearest_within_half_a_step);
}

TEST(ClassQuantizer, StochasticRoundingIsWithinOneStepForEveryUniform) {
  for_each_class(ordinary_ranges, [](Q quantizer, uint32_t width, Range range) {
    const ClassScale scale = make_class_scale(quantizer, width, range.low, range.high);
    const double most =
        step_of(quantizer, width, double(range.low), double(range.high)) + slack(double(range.high));
    test::Random random(3);
    for_each_member(range, width, 100, [&](float g) {
      for (float u : {0.0f, 1.0f - 0x1p-24f, float(random.below(1 << 24)) * 0x1p-24f}) {
        const uint32_t code = quantize_in_class(quantizer, width, scale, g, u);
        ASSERT_LT(code, 1u << width);
        ASSERT_LE(std::fabs(double(dequantize_in_class(quantizer, width, scale, code)) - double(g)), most)
            << g << ' ' << u;
      }
    });
  });
}

TEST(ClassQuantizer, StochasticRoundingIsUnbiasedWithAtMostAQuarterStepSquaredOfVariance) {
  constexpr Range ranges[] = {{0.0f, 1.0f}, {0.3f, 0.6f}, {1e-30f, 3e-30f}, {1e20f, 2e20f}};
  constexpr int draws = 4000;
  for_each_class(ranges, [](Q quantizer, uint32_t width, Range range) {
    if (quantizer == Q::cell || (quantizer == Q::offmag && width == 1)) return;  // deterministic
    const ClassScale scale = make_class_scale(quantizer, width, range.low, range.high);
    const double step = step_of(quantizer, width, double(range.low), double(range.high));
    uint32_t tensor = 0;
    for_each_member(range, 7 * width + uint32_t(quantizer), 6, [&](float g) {
      ++tensor;
      double sum = 0, squares = 0;
      for (int i = 0; i < draws; ++i) {
        const float u = uniform_of_word(random_word(11, uint64_t(i), tensor, RandomPurpose::rounding));
        const double error = double(dequantize_in_class(quantizer, width, scale,
                                                        quantize_in_class(quantizer, width, scale, g, u))) -
                             double(g);
        sum += error / step;
        squares += error / step * (error / step);
      }
      const double mean = sum / draws;
      const double variance = squares / draws - mean * mean;
      const double rounding = slack(double(range.high)) / step;
      ASSERT_LE(variance, 0.25 + rounding);
      ASSERT_NEAR(mean, 0.0, 4 * std::sqrt(std::max(variance, 1.0 / draws) / draws) + rounding) << g;
    });
  });
}

TEST(ClassQuantizer, VarianceIsTheClosedFormOfStochasticRounding) {
  // f (1 - f) step^2 with f the fraction between two points.
  const ClassScale scale = make_class_scale(Q::sym, 4, 0.0f, 7.0f);  // points at the integers
  for (float g : {0.25f, 1.5f, -3.125f, 6.75f}) {
    const double f = std::fabs(double(g)) - std::floor(std::fabs(double(g)));
    double squares = 0;
    for (uint32_t k = 0; k < 4096; ++k) {
      const float u = (float(k) + 0.5f) / 4096.0f;
      const double error =
          double(dequantize_in_class(Q::sym, 4, scale, quantize_in_class(Q::sym, 4, scale, g, u))) -
          double(g);
      squares += error * error;
    }
    EXPECT_DOUBLE_EQ(squares / 4096, f * (1 - f)) << g;
  }
}

TEST(ClassQuantizer, ACellsErrorIsNeverMoreThanHalfAStep) {
  for_each_class(ordinary_ranges, [](Q quantizer, uint32_t width, Range range) {
    if (quantizer != Q::cell) return;
    const ClassScale scale = make_class_scale(quantizer, width, range.low, range.high);
    const double most =
        step_of(quantizer, width, double(range.low), double(range.high)) / 2 + slack(double(range.high));
    for_each_member(range, 99, 2000, [&](float g) {
      const float value =
          dequantize_in_class(quantizer, width, scale, quantize_in_class(quantizer, width, scale, g, 0.5f));
      ASSERT_LE(std::fabs(double(value) - double(g)), most) << g;
      ASSERT_EQ(std::signbit(value), std::signbit(g));
    });
  });
}

TEST(ClassQuantizer, AClassOfOneMagnitudeIsRestoredExactly) {
  for (float magnitude : {5.0f, 0.1f, 3e-39f, FLT_TRUE_MIN, FLT_MAX / 4})
    for (Q quantizer : {Q::cell, Q::offmag})
      for (uint32_t width = 1; width <= 8; ++width) {
        const ClassScale scale = make_class_scale(quantizer, width, magnitude, magnitude);
        for (float g : {magnitude, -magnitude})
          EXPECT_EQ(dequantize_in_class(quantizer, width, scale,
                                        quantize_in_class(quantizer, width, scale, g, 0.5f)),
                    g)
              << name_of(quantizer) << width;
      }
}

TEST(ClassQuantizer, SplitAndJoinAreInversesAndMirroredCodesShareAMagnitude) {
  for (Q quantizer : all_quantizers)
    for (uint32_t width = 1; width <= 8; ++width) {
      if (!exists(quantizer, width)) continue;
      SCOPED_TRACE(name_of(quantizer) + std::to_string(width));
      const uint32_t half = 1u << (width - 1);
      const ClassScale scale = make_class_scale(quantizer, width, 1.0f, 2.0f);
      for (uint32_t code = 0; code < 2 * half; ++code) {
        if (!is_code(quantizer, width, code)) continue;
        const uint32_t sign = sign_of_code(quantizer, width, code),
                       magnitude = magnitude_of_code(quantizer, width, code);
        ASSERT_LT(sign, 2u);
        ASSERT_LT(magnitude, half);
        ASSERT_EQ(join_code(quantizer, width, sign, magnitude), code);
        const float value = dequantize_in_class(quantizer, width, scale, code);
        const float mirrored =
            dequantize_in_class(quantizer, width, scale, join_code(quantizer, width, 1 - sign, magnitude));
        ASSERT_NEAR(value, -mirrored, 2e-6);
        ASSERT_TRUE(value == 0 || std::signbit(value) == (sign == 1));
      }
    }
}

TEST(ClassQuantizer, GridPointsOfSymDoNotMoveWhateverTheUniform) {
  // step 1: y is exact, so neither u = 0 nor u just below 1 may move it.
  const ClassScale scale = make_class_scale(Q::sym, 8, 0.0f, 127.0f);
  for (int level = -127; level <= 127; ++level)
    for (float u : {0.0f, 0.5f, 1.0f - 0x1p-24f})
      EXPECT_EQ(dequantize_in_class(Q::sym, 8, scale, quantize_in_class(Q::sym, 8, scale, float(level), u)),
                float(level));
}

TEST(RoundStochastic, RoundsUpExactlyWhenTheUniformIsBelowTheFraction) {
  EXPECT_EQ(round_stochastic(2.25f, 0.24f, 9), 3u);
  EXPECT_EQ(round_stochastic(2.25f, 0.25f, 9), 2u);
  EXPECT_EQ(round_stochastic(2.0f, 0.0f, 9), 2u);
  EXPECT_EQ(round_stochastic(0.0f, 0.0f, 9), 0u);
  EXPECT_EQ(round_stochastic(8.5f, 0.0f, 9), 9u);
  EXPECT_EQ(round_stochastic(9.0f, 0.0f, 9), 9u);
  EXPECT_EQ(round_stochastic(1e30f, 0.0f, 9), 9u);
  EXPECT_EQ(round_stochastic(HUGE_VALF, 0.5f, 9), 9u);
}

}  // namespace
}  // namespace jsq::element

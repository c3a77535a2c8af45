// Conversions between element types: every pattern of the 16-bit types, and every place where rounding could
// go wrong.
#include "kernels/element/float_bits.hpp"

#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>
#include <limits>

#include "tests/kernels/data.hpp"

namespace jsq::element {
namespace {

/// IEEE 754 binary16 and bfloat16 read from their definition: (-1)^s 2^(e - bias) (1 + m / 2^p).
double value_of_16(uint32_t pattern, int mantissa_bits, int exponent_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = int(pattern >> mantissa_bits) & ((1 << exponent_bits) - 1);
  const int mantissa = int(pattern) & ((1 << mantissa_bits) - 1);
  const double sign = pattern & 0x8000 ? -1.0 : 1.0;
  if (exponent == (1 << exponent_bits) - 1)
    return mantissa ? std::numeric_limits<double>::quiet_NaN()
                    : sign * std::numeric_limits<double>::infinity();
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
}

TEST(F16, EveryPatternHasTheValueOfItsDefinition) {
  for (uint32_t h = 0; h < 65536; ++h) {
    const float f = f16_to_f32(uint16_t(h));
    const double expected = value_of_16(h, 10, 5);
    EXPECT_EQ(std::signbit(f), (h & 0x8000) != 0) << h;
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(f)) << h;
    } else {
      EXPECT_EQ(double(f), expected) << h;
    }
  }
}

TEST(Bf16, EveryPatternHasTheValueOfItsDefinition) {
  for (uint32_t b = 0; b < 65536; ++b) {
    const float f = bf16_to_f32(uint16_t(b));
    const double expected = value_of_16(b, 7, 8);
    EXPECT_EQ(std::signbit(f), (b & 0x8000) != 0) << b;
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(f)) << b;
    } else {
      EXPECT_EQ(double(f), expected) << b;
    }
  }
}

TEST(F16, EveryPatternComesBackFromF32) {
  for (uint32_t h = 0; h < 65536; ++h) {
    const uint16_t back = f32_to_f16_saturating(f16_to_f32(uint16_t(h)));
    const bool nan = (h & 0x7c00) == 0x7c00 && (h & 0x3ff);
    EXPECT_EQ(back, nan ? (h | 0x200) : h) << h;
  }
}

TEST(Bf16, EveryPatternComesBackFromF32) {
  for (uint32_t b = 0; b < 65536; ++b) {
    const uint16_t back = f32_to_bf16_saturating(bf16_to_f32(uint16_t(b)));
    const bool nan = (b & 0x7f80) == 0x7f80 && (b & 0x7f);
    EXPECT_EQ(back, nan ? (b | 0x40) : b) << b;
  }
}

/// Between two neighbours of a 16-bit type: below the middle rounds down, above it up, the middle to the even
/// pattern.
template <class Narrow>
void expect_rounding_between_neighbours(uint32_t last_finite, int mantissa_bits, int exponent_bits,
                                        Narrow narrow) {
  for (uint32_t pattern = 0; pattern < last_finite; ++pattern) {
    const double low = value_of_16(pattern, mantissa_bits, exponent_bits),
                 high = value_of_16(pattern + 1, mantissa_bits, exponent_bits);
    const float middle = float((low + high) / 2);  // exact, except below the smallest f32
    if (double(middle) != (low + high) / 2) continue;
    const uint32_t even = pattern % 2 ? pattern + 1 : pattern;
    for (uint32_t sign : {0u, 0x8000u}) {
      const float s = sign ? -1.0f : 1.0f;
      EXPECT_EQ(narrow(s * middle), even | sign) << pattern;
      EXPECT_EQ(narrow(s * std::nextafterf(middle, 0.0f)), pattern | sign) << pattern;
      EXPECT_EQ(narrow(s * std::nextafterf(middle, FLT_MAX)), (pattern + 1) | sign) << pattern;
    }
  }
}

TEST(F16, RoundsToNearestEvenBetweenAllNeighbours) {
  expect_rounding_between_neighbours(0x7bff, 10, 5, f32_to_f16_saturating);
}
TEST(Bf16, RoundsToNearestEvenBetweenAllNeighbours) {
  expect_rounding_between_neighbours(0x7f7f, 7, 8, f32_to_bf16_saturating);
}

TEST(F16, FiniteValuesSaturateAndInfinitiesStay) {
  for (float beyond : {65519.996f, 65520.0f, 70000.0f, 1e30f, FLT_MAX}) {
    EXPECT_EQ(f32_to_f16_saturating(beyond), 0x7bff) << beyond;
    EXPECT_EQ(f32_to_f16_saturating(-beyond), 0xfbff) << beyond;
  }
  EXPECT_EQ(f32_to_f16_saturating(HUGE_VALF), 0x7c00);
  EXPECT_EQ(f32_to_f16_saturating(-HUGE_VALF), 0xfc00);
}

TEST(Bf16, FiniteValuesSaturateAndInfinitiesStay) {
  EXPECT_EQ(f32_to_bf16_saturating(FLT_MAX), 0x7f7f);
  EXPECT_EQ(f32_to_bf16_saturating(-FLT_MAX), 0xff7f);
  EXPECT_EQ(f32_to_bf16_saturating(HUGE_VALF), 0x7f80);
  EXPECT_EQ(f32_to_bf16_saturating(-HUGE_VALF), 0xff80);
}

TEST(F16, KeepsTheTopPayloadBitsOfANanAndMakesItQuiet) {
  for (uint32_t payload : {1u, 0x2000u, 0x7fffffu, 0x400000u, 0x155555u})
    for (uint32_t sign : {0u, 1u}) {
      const uint16_t h = f32_to_f16_saturating(std::bit_cast<float>(sign << 31 | 0x7f800000u | payload));
      EXPECT_EQ(h, sign << 15 | 0x7e00u | (payload >> 13 & 0x3ffu));
    }
}
TEST(Bf16, KeepsTheTopPayloadBitsOfANanAndMakesItQuiet) {
  for (uint32_t payload : {1u, 0x10000u, 0x7fffffu, 0x400000u, 0x155555u})
    for (uint32_t sign : {0u, 1u}) {
      const uint16_t b = f32_to_bf16_saturating(std::bit_cast<float>(sign << 31 | 0x7f800000u | payload));
      EXPECT_EQ(b, sign << 15 | 0x7fc0u | (payload >> 16 & 0x7fu));
    }
}

// numpy.float16(x).view('u2'), numpy 1.24.
TEST(F16, RoundsAsNumpyDoes) {
  const std::pair<float, uint32_t> table[] = {
      {0.1f, 0x2e66},        {-0.1f, 0xae66},         {1.0f / 3, 0x3555},   {65504.0f, 0x7bff},
      {65519.0f, 0x7bff},    {6e-8f, 0x0001},         {2.9e-8f, 0x0000},    {3e-8f, 0x0001},
      {6.1e-5f, 0x03ff},     {6.1035156e-5f, 0x0400}, {1.0004883f, 0x3c00}, {1.0014648f, 0x3c02},
      {3.14159265f, 0x4248}, {-2.7182818f, 0xc170},   {1e-5f, 0x00a8},      {2049.0f, 0x6800},
      {2051.0f, 0x6802},     {0.0f, 0x0000},          {-0.0f, 0x8000}};
  for (const auto& [value, pattern] : table) EXPECT_EQ(f32_to_f16_saturating(value), pattern) << value;
}

TEST(Bf16, RoundsAsTheWorkedVectorsSay) {
  const std::pair<float, float> table[] = {{0.1f, 0.10009765625f},
                                           {3.14159265f, 3.140625f},
                                           {1.00390625f, 1.0f},
                                           {1.01171875f, 1.015625f},
                                           {65519.0f, 65536.0f}};
  for (const auto& [value, rounded] : table)
    EXPECT_EQ(bf16_to_f32(f32_to_bf16_saturating(value)), rounded) << value;
}

#if defined(__FLT16_MANT_DIG__)
TEST(F16, AgreesWithTheCompilersOwnTypeOnAMillionFloats) {
  test::Random random(1);
  for (int i = 0; i < 1000000; ++i) {
    // Exponents around the range of binary16, so that normal, subnormal, tiny and saturating values all
    // occur.
    const float g = std::bit_cast<float>(
        uint32_t((random.word() & 0x807fffffu) | (uint32_t(96 + random.below(50)) << 23)));
    const _Float16 expected = _Float16(g);
    uint16_t pattern = std::bit_cast<uint16_t>(expected);
    if ((pattern & 0x7fff) == 0x7c00) pattern = uint16_t((pattern & 0x8000) | 0x7bff);  // jsq saturates
    ASSERT_EQ(f32_to_f16_saturating(g), pattern) << g;
  }
}
#endif

TEST(MagnitudeKey, OrdersAsMagnitudesDo) {
  test::Random random(2);
  for (int i = 0; i < 200000; ++i) {
    const float a = random.any_finite(), b = random.any_finite();
    ASSERT_EQ(magnitude_key(a) < magnitude_key(b), std::fabs(a) < std::fabs(b)) << a << ' ' << b;
    ASSERT_EQ(magnitude_of_key(magnitude_key(a)), std::fabs(a));
  }
  EXPECT_EQ(magnitude_key(-0.0f), 0u);
  EXPECT_LT(magnitude_key(FLT_MAX), first_nonfinite_key);
  EXPECT_EQ(magnitude_key(-HUGE_VALF), first_nonfinite_key);
  EXPECT_GT(magnitude_key(NAN), first_nonfinite_key);
}

}  // namespace
}  // namespace jsq::element

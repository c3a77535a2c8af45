// Natural compression: the paper's nine bits, and ranges of exponents that follow the tensor.
#include <gtest/gtest.h>

#include <cmath>

#include "lib/core/bytes.hpp"
#include "tests/kernels/data.hpp"
#include "tests/lib/methods/one_tensor.hpp"

namespace jsq {
namespace {

using test::Kind;
using test::make_data;
using test::OneTensor;
using test::refusal_of;

/// "-126..127": the range of exponents that the parameters of a frame name (SPEC.md 11.1).
std::string exponents(const OneTensor& coded) {
  const std::string stored = coded.parameters();
  ByteReader in(stored, "parameters");
  EXPECT_EQ(in.u8(), 2);
  const int lowest = int(in.uvarint()) - 149;
  return std::to_string(lowest) + ".." + std::to_string(int(in.uvarint()) - 149);
}

TEST(Natural, TakesNineBitsAnElementAsThePaperDoes) {
  for (const char* method : {"natural", "natural:bits=paper", "natural:bits=8"}) {
    const OneTensor coded(make_data(Kind::heavy, 8000), method);
    EXPECT_EQ(coded.blocks[0].size(), 1u + 9 * 1000) << method;
    EXPECT_EQ(coded.sums.nominal_bits, 9 * 8000u) << method;
  }
  EXPECT_EQ(exponents(OneTensor({1}, "natural")), "-126..127");
}

TEST(Natural, CountsItsExponentsDownFromTheLargestMagnitudeRoundedUp) {
  const auto described = [](float largest, const char* method) {
    return exponents(OneTensor({0, largest, 0}, method));
  };
  EXPECT_EQ(described(-4, "natural:bits=3"), "-4..2");
  EXPECT_EQ(described(4.0001f, "natural:bits=3"), "-3..3");
  EXPECT_EQ(described(1, "natural:bits=8"), "-149..0");
  EXPECT_EQ(described(3.0e38f, "natural:bits=8"), "-127..127");
  EXPECT_EQ(described(1e-45f, "natural:bits=1"), "-149..-149");
}

TEST(Natural, RoundsToTheTwoPowersAroundAMagnitudeOrBelowTheRangeToItsEndOrZero) {
  for (Kind kind : {Kind::heavy, Kind::subnormal, Kind::near_max})
    for (const char* method : {"natural:bits=3", "natural:bits=8", "natural:bits=5,coder=auto"}) {
      const OneTensor coded(make_data(kind, 3000), method);
      float largest = 0;
      for (float g : coded.values) largest = std::max(largest, std::abs(g));
      const int bits = method[13] - '0';
      const double top = std::min(std::exp2(std::ceil(std::log2(double(largest)))), 0x1p127);
      const double last = std::max(std::ldexp(top, 2 - (1 << bits)), 0x1p-149);
      for (size_t i = 0; i < coded.values.size(); ++i) {
        const double g = std::abs(double(coded.values[i])), value = std::abs(double(coded.decoded[i]));
        const double low = g < last ? 0 : std::exp2(std::floor(std::log2(g)));
        const double high = std::min(g < last ? last : 2 * low, top);
        EXPECT_TRUE(value == low || value == high) << method << ' ' << g << " to " << value;
      }
    }
}

TEST(Natural, RefusesOtherBits) {
  for (const char* options : {"bits=0", "bits=9", "bits=all", "coder=base243"})
    EXPECT_EQ(refusal_of(std::string("natural:") + options), Errc::usage) << options;
}

}  // namespace
}  // namespace jsq

// NUQSGD: its options, and its grids as the paper and the published code count them.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "tests/kernels/data.hpp"
#include "tests/lib/methods/one_tensor.hpp"

namespace jsq {
namespace {

using test::Kind;
using test::make_data;
using test::OneTensor;
using test::refusal_of;

std::string description(const std::string& method) {
  return OneTensor({1, -2, 3}, method).decoder()->describe();
}

TEST(Nuqsgd, CountsBitsAsThePaperDoesAndWithoutAZeroAsTheCodeDoes) {
  EXPECT_EQ(description("nuqsgd"), "nuqsgd:levels=7,bucket=512");
  EXPECT_EQ(description("nuqsgd:bits=8,bucket=0"), "nuqsgd:levels=127");
  EXPECT_EQ(description("nuqsgd:zero=off"), "nuqsgd:levels=8,zero=off,bucket=512");
  EXPECT_EQ(description("nuqsgd:zero=off,bits=2"), "nuqsgd:levels=2,zero=off,bucket=512");
}

TEST(Nuqsgd, TakesTheBitsItNamesWithTheFixedCoder) {
  for (const char* zero : {"on", "off"})
    for (int bits = 2; bits <= 7; ++bits) {
      const OneTensor coded(make_data(Kind::gauss, 8000),
                            "nuqsgd:coder=fixed,bits=" + std::to_string(bits) + ",zero=" + zero);
      EXPECT_EQ(coded.blocks[0].size(), 1u + 16 * 4 + size_t(1000 * bits)) << bits << zero;
      EXPECT_EQ(coded.sums.nominal_bits, 8000u * unsigned(bits) + 16 * 32);
    }
}

TEST(Nuqsgd, HasNoZeroAmongItsValuesWithZeroOff) {
  const OneTensor coded(make_data(Kind::gauss, 5000), "nuqsgd:zero=off,levels=3,bucket=0,norm=linf");
  std::set<float> shares;
  float largest = 0;
  for (float g : coded.values) largest = std::max(largest, std::abs(g));
  for (float value : coded.decoded) shares.insert(std::abs(value) / largest);
  EXPECT_EQ(shares, (std::set<float>{0.25f, 0.5f, 1}));
}

TEST(Nuqsgd, RoundsToTheNearestLevelOnRequest) {
  const OneTensor coded(test::v8, "nuqsgd:levels=4,norm=linf", Rounding::nearest);
  EXPECT_EQ(coded.decoded, (std::vector<float>{0.5f, -1, 0.5f, 2, 0, 0, 4, -4}));  // ties away from zero
  EXPECT_EQ(coded.sums.expected_error, 0);  // nothing is drawn: the error is that of the values
}

TEST(Nuqsgd, RefusesOptionsThatContradictEachOther) {
  for (const char* options :
       {"bits=4,levels=7", "bits=8,zero=off", "bits=1", "bits=9", "levels=0", "levels=128", "zero=maybe",
        "norm=l1", "coder=base243", "coder=zip", "bucket=65537"})
    EXPECT_EQ(refusal_of(std::string("nuqsgd:") + options), Errc::usage) << options;
}

}  // namespace
}  // namespace jsq

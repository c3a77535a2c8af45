// TernGrad: clipping, its scale, and the sizes of its streams.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <set>

#include "tests/kernels/data.hpp"
#include "tests/lib/methods/one_tensor.hpp"

namespace jsq {
namespace {

using test::Kind;
using test::make_data;
using test::OneTensor;
using test::refusal_of;
using test::v8;

/// The last four bytes of the parameters.
float stored_scale_of(const OneTensor& coded) {
  const std::string parameters = coded.parameters();
  float scale = 0;
  std::memcpy(&scale, parameters.data() + parameters.size() - 4, 4);
  return scale;
}

TEST(TernGrad, ClipsToDeviationsAboutTheMeanAsInTheWorkedVector) {
  EXPECT_EQ(stored_scale_of(OneTensor(v8, "terngrad:clip=0")), 4);
  EXPECT_EQ(stored_scale_of(OneTensor(v8, "terngrad")), 4);  // 2.5 sigma = 4.86
  EXPECT_NEAR(double(stored_scale_of(OneTensor(v8, "terngrad:clip=1"))), 1.94548506,
              7e-8);  // half a last place of f32
}

TEST(TernGrad, ExpectsTheErrorOfTheWorkedVector) {
  EXPECT_EQ(OneTensor(v8, "terngrad:clip=0").sums.expected_error, 13.171875);
  EXPECT_EQ(OneTensor(v8, "terngrad").sums.expected_error, 13.171875);
}

TEST(TernGrad, CountsWhatClippingTookInItsExpectedError) {
  const OneTensor coded(v8, "terngrad:clip=1");
  const double s = double(stored_scale_of(coded));
  double expected = 0;
  for (float g : v8) {
    const double magnitude = std::abs(double(g)), clipped = std::min(magnitude, s);
    expected += clipped * (s - clipped) + (magnitude - clipped) * (magnitude - clipped);
  }
  EXPECT_NEAR(coded.sums.expected_error, expected, 1e-6);
}

TEST(TernGrad, DecodesToTheScaleItsNegativeAndZero) {
  const OneTensor coded(make_data(Kind::gauss, 5000), "terngrad");
  const float s = stored_scale_of(coded);
  EXPECT_EQ(std::set<float>(coded.decoded.begin(), coded.decoded.end()), (std::set<float>{-s, 0, s}));
}

TEST(TernGrad, LeavesATensorOfEqualElementsAsItIs) {
  for (size_t n : {1, 2, 1000}) {
    const OneTensor coded(std::vector<float>(n, -0.375f), "terngrad");
    EXPECT_EQ(coded.decoded, coded.values) << n;
  }
}

TEST(TernGrad, TakesTwoBitsATritAsPublishedAndFiveInAByteWithBase243) {
  const std::vector<float> values = make_data(Kind::gauss, 4000);
  EXPECT_EQ(OneTensor(values, "terngrad").blocks[0].size(), 1u + 1000);
  EXPECT_EQ(OneTensor(values, "terngrad:coder=base243").blocks[0].size(), 1u + 800);
  EXPECT_LT(OneTensor(values, "terngrad:coder=auto").blocks[0].size(), 1u + 801);
  EXPECT_EQ(OneTensor(values, "terngrad").sums.nominal_bits, uint64_t(std::ceil(std::log2(3.0) * 4000 + 32)));
}

TEST(TernGrad, RefusesOtherClips) {
  for (const char* options : {"clip=-1", "clip=nan", "clip=1001", "coder=trits"})
    EXPECT_EQ(refusal_of(std::string("terngrad:") + options), Errc::usage) << options;
}

}  // namespace
}  // namespace jsq

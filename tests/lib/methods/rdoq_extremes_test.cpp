// Tensors that are no gradient, under every preset, rounding and kind of levels of rdoq: constant, of three
// values, all zero, of one element, with an outlier beyond all else, of float16 values; and targets beyond
// reach.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "jsq/target.hpp"
#include "tests/kernels/data.hpp"
#include "tests/lib/methods/coded.hpp"

namespace jsq {
namespace {

using test::coded;
using test::Coded;
using test::energy;
using test::options_of;
using test::squared_error;

struct Variant {
  std::string method;
  Rounding rounding = Rounding::automatic;
};

/// How a failing case is named.
void PrintTo(const Variant& variant, std::ostream* out) {
  *out << variant.method << (variant.rounding == Rounding::stochastic ? ", stochastic" : "");
}

class Extreme : public testing::TestWithParam<Variant> {
 protected:
  Coded coded_to(const std::vector<float>& values, const std::string& target,
                 std::vector<uint64_t> shape = {}) const {
    CompressOptions options = options_of(GetParam().method, target, 5);
    options.rounding = GetParam().rounding;
    if (shape.empty()) shape = {values.size()};
    Coded result = coded({{shape, values}}, options);
    for (float back : result.decoded[0]) EXPECT_TRUE(std::isfinite(back));
    return result;
  }
  bool stochastic() const { return GetParam().rounding == Rounding::stochastic; }
};

TEST_P(Extreme, AConstantTensorTakesNextToNothing) {
  for (const float value : {0.37f, -3e-5f, 1e-38f, -3e38f})
    for (const std::vector<uint64_t>& shape : {std::vector<uint64_t>{100000}, {250, 400}, {64, 64, 5, 5}}) {
      uint64_t n = 1;
      for (uint64_t extent : shape) n *= extent;
      const std::vector<float> values(n, value);
      const Coded exact = coded_to(values, "ratio=1000", shape);
      // A bit for each sign alone would be 12,500.
      EXPECT_LE(exact.frame.size(), 400u) << value;
      EXPECT_EQ(exact.decoded[0], values) << value;
    }
}

TEST_P(Extreme, AConstantTensorMeetsAnErrorInNextToNothing) {
  const std::vector<float> values(100000, -0.0123f);
  const Coded found = coded_to(values, "nmse=1e-4");
  EXPECT_LE(squared_error(values, found.decoded[0]), 1e-4 * energy(values));
  // Random levels carry what is random in them, one or two of 0.08 or so of a level.
  EXPECT_LE(found.frame.size(), stochastic() ? 12500u : 400u);
}

TEST_P(Extreme, ValuesOfOneSignPayForNoSigns) {
  // One in four is c, the others are zero: 0.8113 bits an element say which.
  std::vector<float> values(80000);
  test::Random random(3);
  for (size_t i = 0; i < values.size(); ++i) values[i] = random.below(4) == 0 ? 0.25f : 0.0f;
  for (const float sign : {1.0f, -1.0f}) {
    for (float& g : values) g = sign * std::abs(g);
    const Coded found = coded_to(values, "ratio=32");
    EXPECT_EQ(squared_error(values, found.decoded[0]), 0);
    EXPECT_LE(double(found.frame.size()), 1.03 * 80000 * 0.8113 / 8 + 300);
  }
}

TEST_P(Extreme, ValuesOfThreeKindsTakeTheirEntropy) {
  std::vector<float> values(30000);
  test::Random random(1);
  for (size_t i = 0; i < values.size(); ++i) values[i] = float(int(random.below(3)) - 1) * 0.02f;
  const Coded found = coded_to(values, "bpw=1.75");
  EXPECT_EQ(squared_error(values, found.decoded[0]), 0);
  EXPECT_LE(double(found.frame.size()), 1.01 * 30000 * std::log2(3) / 8 + 400);
}

TEST_P(Extreme, ZerosStayZerosAtEveryTarget) {
  const std::vector<float> values(5000);
  for (const char* target : {"ratio=100", "bpw=3", "bytes=1000", "nmse=1e-3", "maxabs=1e-9"}) {
    const Coded found = coded_to(values, target);
    EXPECT_EQ(found.decoded[0], values) << target;
    EXPECT_LE(found.frame.size(), 200u) << target;
  }
}

TEST_P(Extreme, OneElementComesBack) {
  for (const float value : {3.5f, -1e-30f, 3e38f})
    for (const auto& [target, off] :
         {std::pair("bytes=400", 1e-7), {"nmse=1e-4", 0.01}, {"cosine=0.9", 0.99}}) {
      const std::vector<float> values = {value};
      const Coded found = coded_to(values, target);
      // Any value of the same sign has a cosine of 1.
      EXPECT_NEAR(double(found.decoded[0][0]) / double(value), 1, off * 1.001) << value << ' ' << target;
      EXPECT_LE(found.frame.size(), 400u) << value << ' ' << target;
    }
}

TEST_P(Extreme, AnOutlierBeyondAllElseIsKeptWithinTheBytes) {
  for (const float outlier : {-1e30f, 3e38f}) {
    std::vector<float> values = test::make_data(test::Kind::gauss, 50000);
    values[777] = outlier;
    for (const char* target : {"ratio=8", "ratio=100"}) {
      const Coded found = coded_to(values, target);
      EXPECT_LE(double(found.frame.size()), 200000 / std::stod(std::string(target).substr(6)));
      EXPECT_NEAR(found.decoded[0][777] / outlier, 1, 1e-2) << target;
      EXPECT_LE(squared_error(values, found.decoded[0]), 1e-4 * energy(values));
    }
  }
}

TEST_P(Extreme, Float16ValuesAreCopiedExactlyWhereTheirBitsFit) {
  // Sixteen bits say them all, whatever predicts them.
  std::vector<float> values = test::make_data(test::Kind::gauss, 40000);
  for (float& g : values)
    g = std::ldexp(std::nearbyint(std::ldexp(g, 10 - std::ilogb(g))), std::ilogb(g) - 10);
  const Coded found = coded_to(values, "bpw=16");
  EXPECT_EQ(squared_error(values, found.decoded[0]), 0);
  const Coded coarse = coded_to(values, "ratio=16");
  EXPECT_LE(coarse.frame.size(), 10000u);
  EXPECT_LT(squared_error(values, coarse.decoded[0]), 0.5 * energy(values));
}

TEST_P(Extreme, ATargetBeyondReachSaysTheNearestWhichIsReached) {
  const std::vector<float> values = test::make_data(test::Kind::gauss, 3000);
  for (const char* target : {"bytes=30", "ratio=1e6", "bpw=0.01", "maxabs=1e-44", "nmse=1e-60"}) {
    try {
      coded_to(values, target);
      ADD_FAILURE() << target << " was met";
    } catch (const UnreachableTarget& error) {
      EXPECT_NO_THROW(coded_to(values, to_string(error.nearest()))) << error.what();
    }
  }
}

const Variant variants[] = {
    {"rdoq:preset=fast"},
    {"rdoq"},
    {"rdoq:transform=none"},
    {"rdoq:preset=best"},
    {"rdoq:levels=dependent,preset=fast"},
    {"rdoq:preset=fast", Rounding::stochastic},
    {"rdoq", Rounding::stochastic},
    {"rdoq:preset=best", Rounding::stochastic},
};

INSTANTIATE_TEST_SUITE_P(Rdoq, Extreme, testing::ValuesIn(variants));

}  // namespace
}  // namespace jsq

// What the search of jointsq promises: the error never grows with the budget, the budget is used where the
// method is continuous, and what the search counted has a code for all that blocks hold.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/kernels/data.hpp"
#include "tests/lib/methods/coded.hpp"

namespace jsq {
namespace {

using test::Kind;
using test::Random;

test::Coded within(const std::vector<float>& values, uint64_t bytes, const std::string& method = "jointsq") {
  return test::coded({{{values.size()}, values}}, method, "bytes=" + std::to_string(bytes));
}

/// Values over thirty octaves; `outliers` of them, at even distances, far above the others.
std::vector<float> over_octaves(size_t count, size_t outliers, float outlier) {
  Random random(17);
  std::vector<float> values(count);
  for (float& value : values)
    value = std::ldexp(float(1 + random.below(255)) / 256, -int(random.below(30))) *
            (random.below(2) ? 1.0f : -1.0f);
  for (size_t i = 0; i < outliers; ++i) values[7 + i * (count / outliers)] = outlier;
  return values;
}

struct Pool {
  const char* name;
  std::vector<float> values;
};

class PoolThatASampleMisjudges : public testing::TestWithParam<int> {
 protected:
  static Pool pool(int which) {
    switch (which) {
      case 0:
        return {"eight outliers over thirty octaves", over_octaves(700000, 8, 300)};
      case 1:
        return {"one outlier over thirty octaves", over_octaves(600000, 1, 3e4f)};
      case 2: {
        // The first twentieth is a thousand times larger than the rest, as a last layer's gradient is.
        std::vector<float> values = test::make_data(Kind::gauss, 800000);
        for (size_t i = 0; i < values.size() / 20; ++i) values[i] *= 1000;
        return {"a layer of large values", values};
      }
      default:
        return {"heavy tails", test::make_data(Kind::heavy, 600000)};
    }
  }
};

TEST_P(PoolThatASampleMisjudges, LosesNoMoreWithMoreBytes) {
  const Pool given = pool(GetParam());
  double least = HUGE_VAL;
  for (const uint64_t bytes : {5000, 20000, 80000, 160000, 320000, 500000, 800000, 2000000}) {
    const test::Coded coded = within(given.values, bytes);
    EXPECT_LE(coded.frame.size(), bytes);
    const double error = test::squared_error(given.values, coded.decoded[0]);
    EXPECT_LE(error, 1.03 * least) << given.name << " with " << bytes << " bytes";
    least = std::min(least, error);
  }
}

TEST_P(PoolThatASampleMisjudges, UsesItsBytesWhereMoreOfThemHelp) {
  const Pool given = pool(GetParam());
  for (const uint64_t bytes : {10000, 20000}) {
    const test::Coded coded = within(given.values, bytes);
    EXPECT_GE(double(coded.frame.size()), 0.985 * double(bytes)) << given.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Pools, PoolThatASampleMisjudges, testing::Range(0, 4));

TEST(JointSqSearch, HasACodeForActivitiesThatFollowEachOtherOnlyInsideABlock) {
  // Runs of 32 kept elements stand only at the ends of ranges of 65,536; blocks are longer, so that in them
  // what follows such a run is the run at the beginning of the next range.
  std::vector<float> values(1500000, 0.0f);
  Random random(5);
  for (size_t range = 65536; range < values.size(); range += 65536) {
    for (size_t i = range - 32; i < range; ++i) values[i] = float(1 + random.uniform());
    for (size_t i = range; i < range + 5; ++i) values[i] = float(1 + random.uniform());
  }
  for (const uint64_t bytes : {1500, 3000}) {
    const test::Coded coded = within(values, bytes);
    size_t lost = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      ASSERT_FALSE(values[i] == 0 && coded.decoded[0][i] != 0) << i;
      lost += values[i] != 0 && std::fabs(coded.decoded[0][i] - values[i]) > 0.5;
    }
    EXPECT_LT(lost, 500u) << bytes;
  }
}

}  // namespace
}  // namespace jsq

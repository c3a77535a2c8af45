// AC-SGD: bits and kept elements of the worked budgets, no bias in the paper's variant, JointSQ's variant as
// it is.
#include <cmath>

#include "lib/core/bytes.hpp"
#include "tests/kernels/data.hpp"
#include "tests/lib/methods/coded_pool.hpp"

namespace jsq {
namespace {

using test::CodedPool;
using test::Kind;
using test::make_data;

/// The levels that the parameters of a frame name (SPEC.md 15.1, values 4).
uint64_t levels(const CodedPool& coded) {
  const std::string stored = coded.scheme->stored_set(0).parameters;
  ByteReader in(stored, "parameters");
  EXPECT_EQ(in.u8() & 15, 4);
  return in.uvarint();
}

TEST(Acsgd, PlansTheWorkedBudgets) {
  const std::vector<float> values = make_data(Kind::heavy, 1000000);
  struct Plan {
    uint64_t budget;
    uint32_t bits;
    uint64_t kept, author_bits, author_kept;
  };
  for (const Plan& plan : {Plan{102400, 8, 11966, 8, 3664}, Plan{1024000, 10, 100210, 10, 34210},
                           Plan{32000, 7, 4145, 7, 1187}}) {
    const std::string budget = ",budget=" + std::to_string(plan.budget);
    const CodedPool paper({values}, "acsgd:variant=paper" + budget);
    EXPECT_EQ(paper.code().sums.nominal_bits, plan.kept * plan.bits + 32);
    EXPECT_EQ(levels(paper), (1u << (plan.bits - 1)) - 1);
    const CodedPool jointsq({values}, "acsgd:variant=jointsq" + budget);
    EXPECT_EQ(jointsq.code().sums.nominal_bits, plan.kept * plan.bits + 32);
    EXPECT_EQ(levels(jointsq), 1u << (plan.bits - 1));
    const CodedPool author({values}, "acsgd:variant=author" + budget);
    // Each of at most 16 blocks rounds its bits up.
    EXPECT_NEAR(double(author.code().sums.nominal_bits),
                double(plan.author_kept) * (double(plan.author_bits) + std::log2(1e6)) + 32, 16);
  }
}

TEST(Acsgd, HasNoBiasAndTheErrorItExpects) {
  const std::vector<float> values = make_data(Kind::gauss, 60);
  constexpr int seeds = 6000;
  std::vector<double> sum(values.size()), squares(values.size());
  double measured = 0, expected = 0;
  for (uint64_t seed = 0; seed < seeds; ++seed) {
    const CodedPool coded({values}, "acsgd:budget=100", seed);
    const CodedPool::Result result = coded.code();
    measured += coded.squared_error(result) / seeds;
    expected += result.sums.expected_error / seeds;
    for (size_t i = 0; i < values.size(); ++i) {
      sum[i] += double(result.values[0][i]);
      squares[i] += double(result.values[0][i]) * double(result.values[0][i]);
    }
  }
  EXPECT_NEAR(measured, expected, 0.03 * expected);
  for (size_t i = 0; i < values.size(); ++i) {
    const double mean = sum[i] / seeds, deviation = std::sqrt((squares[i] / seeds - mean * mean) / seeds);
    EXPECT_NEAR(mean, double(values[i]), 5 * deviation + 1e-9) << i;
  }
}

// k = 4 of 8 at C = 16: b* = log2(2 ln2 16) / 2 = 2.24, k = 7; the level of the largest is s, its value
// exact.
TEST(AcsgdAsInJointSq, RoundsTheLargestToLevelsOfTheLargestMagnitude) {
  const CodedPool coded({test::v8}, "acsgd:variant=jointsq,budget=16", 3, Rounding::nearest);
  EXPECT_EQ(coded.decoded(), (std::vector<float>{0, -2, 0, 2, 0, 0, 4, -4}));
}

TEST(Acsgd, SurvivesExtremesOfEveryKind) {
  for (Kind kind : test::all_kinds)
    for (const char* variant : {"paper", "author", "jointsq"})
      for (size_t n : {0, 1, 2, 1000}) {
        CodedPool coded({make_data(kind, n)}, std::string("acsgd:variant=") + variant);
        for (uint64_t size :
             {uint64_t(0), uint64_t(1), coded.scheme->sizes().native, coded.scheme->sizes().most}) {
          coded.set_size(size);
          for (float value : coded.decoded())
            ASSERT_TRUE(std::isfinite(value)) << test::kind_name(kind) << variant;
        }
      }
}

}  // namespace
}  // namespace jsq

// Reallocation: the worked chain, and that noise only falls while the budget stays.
#include <gtest/gtest.h>

#include "jsq/allocation.hpp"
#include "jsq/error.hpp"
#include "lib/allocators/allocator.hpp"
#include "tests/kernels/data.hpp"
#include "tests/lib/allocators/reference.hpp"

namespace jsq {
namespace {

const std::vector<float> g8 = {0.04f, -0.08f, 0.16f, -0.3f, 0.6f, -1.2f, 2.5f, -5.0f};

AllocationOptions literal_with(ReallocationKind kind, uint32_t rounds = 10) {
  return {.allocator = AllocatorKind::literal, .reallocation = kind, .rounds = rounds};
}

TEST(HillReallocation, WalksTheWorkedChainFromLiteralToTheOptimum) {
  struct State {
    std::vector<uint32_t> widths;
    double noise;
  };
  const State chain[] = {{{2, 2, 2, 2, 2, 2, 2, 2}, 0.0625},
                         {{0, 2, 2, 2, 2, 2, 2, 4}, 0.0183883043},
                         {{0, 0, 2, 2, 2, 2, 4, 4}, 0.00752994286},
                         {{0, 0, 0, 2, 2, 4, 4, 4}, 0.00570997156}};
  // The first round asks for a larger k, which 16 bits do not have.
  for (uint32_t rounds = 1; rounds <= 10; ++rounds) {
    std::vector<ReallocationStep> log;
    const Allocation allocation = allocate(g8, {}, 16, literal_with(ReallocationKind::hill, rounds), &log);
    const State& expected = chain[std::min(rounds - 1, 3u)];
    EXPECT_EQ(test::assignment_of(g8, allocation).widths, expected.widths) << rounds;
    EXPECT_NEAR(test::assignment_of(g8, allocation).noise, expected.noise, 1e-7 * expected.noise);
    EXPECT_EQ(allocation.payload_bits, 16u);
    ASSERT_GE(log.size(), 2u);
    EXPECT_EQ(log.front().kept, 8u);
    EXPECT_EQ(log.front().r, 4.0);
    EXPECT_NEAR(log.back().noise, expected.noise, 1e-7 * expected.noise);
  }
  std::vector<ReallocationStep> log;
  allocate(g8, {}, 16, literal_with(ReallocationKind::hill), &log);
  std::vector<uint64_t> kept;
  for (const ReallocationStep& step : log)
    if (kept.empty() || kept.back() != step.kept) kept.push_back(step.kept);
  EXPECT_EQ(kept, (std::vector<uint64_t>{8, 7, 6, 5}));
}

class Reallocation : public testing::TestWithParam<ReallocationKind> {};

TEST_P(Reallocation, NeverRaisesTheNoiseAndNeverChangesTheBits) {
  test::Random random(1);
  double before_all = 0, after_all = 0;
  for (int round = 0; round < 150; ++round) {
    const test::Kind kinds[] = {test::Kind::heavy,    test::Kind::gauss,  test::Kind::ternary,
                                test::Kind::f16_grid, test::Kind::sparse, test::Kind::one_outlier,
                                test::Kind::constant};
    const std::vector<float> values =
        test::make_data(kinds[random.below(7)], 1 + random.below(2000), uint64_t(round));
    const uint64_t budget = random.below(6 * values.size());
    for (AllocatorKind allocator : {AllocatorKind::literal, AllocatorKind::sampled, AllocatorKind::exact}) {
      const Allocation start = allocate(values, {}, budget, {.allocator = allocator, .seed = 5});
      std::vector<ReallocationStep> log;
      const Allocation end =
          allocate(values, {}, budget, {.allocator = allocator, .reallocation = GetParam(), .seed = 5}, &log);
      ASSERT_EQ(test::inconsistency(values, end), "");
      ASSERT_EQ(end.payload_bits, start.payload_bits);
      const double before = test::assignment_of(values, start).noise,
                   after = test::assignment_of(values, end).noise;
      ASSERT_LE(after, before * (1 + 1e-12));
      if (allocator == AllocatorKind::exact) {
        ASSERT_NEAR(after, before, 1e-11 * before);
      } else {
        before_all += before;
        after_all += after;
      }
      for (size_t i = 0; i < log.size(); ++i) {
        ASSERT_DOUBLE_EQ(log[i].r, 8.0 * double(log[i].kept) / double(start.payload_bits));
        ASSERT_LE(log[i].noise, log[i > 0 ? i - 1 : 0].noise * (1 + 1e-12));
      }
      if (!log.empty()) {
        ASSERT_NEAR(log.front().noise, before, 1e-9 * before + 1e-15);
        ASSERT_NEAR(log.back().noise, after, 1e-9 * after + 1e-15);
        ASSERT_EQ(log.back().kept, end.kept());
        ASSERT_GE(log.back().r, 1.0 - 1e-9);
        ASSERT_LE(log.back().r, 4.0);
      }
    }
  }
  EXPECT_LT(after_all, before_all);
}

TEST_P(Reallocation, IsForThePapersWidthsOnly) {
  try {
    allocate(g8, WidthSet({0, 1, 3}), 16, literal_with(GetParam()));
    FAIL() << "expected an error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::usage);
  }
}

TEST_P(Reallocation, LeavesWhatHasNothingToMove) {
  for (uint64_t budget : {0, 1, 2, 100}) {
    EXPECT_EQ(allocate(std::vector<float>{}, {}, budget, literal_with(GetParam())).payload_bits, 0u);
    EXPECT_EQ(allocate(std::vector<float>(5, 0.0f), {}, budget, literal_with(GetParam())).payload_bits,
              std::min<uint64_t>(budget & ~1u, 10));
    EXPECT_EQ(allocate(std::vector<float>{3.0f}, {}, budget, literal_with(GetParam())).payload_bits,
              budget < 2 ? 0u : 2u);
  }
}

TEST_P(Reallocation, ImprovesALargePopulationToo) {
  const std::vector<float> values = test::make_data(test::Kind::heavy, 600000);
  const Allocation start = allocate(values, {}, 600000, literal_with(ReallocationKind::none));
  const Allocation end = allocate(values, {}, 600000, literal_with(GetParam(), 100));
  EXPECT_EQ(end.payload_bits, start.payload_bits);
  EXPECT_LT(test::assignment_of(values, end).noise, test::assignment_of(values, start).noise);
}

INSTANTIATE_TEST_SUITE_P(Kinds, Reallocation,
                         testing::Values(ReallocationKind::paper, ReallocationKind::hill),
                         [](const auto& kind) { return std::string(reallocation_name(kind.param)); });

}  // namespace
}  // namespace jsq

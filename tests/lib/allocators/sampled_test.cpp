// The sampled allocator: within its budget on any data, near the optimum on smooth data, the same for the
// same seed.
#include <gtest/gtest.h>

#include "jsq/allocation.hpp"
#include "tests/kernels/data.hpp"
#include "tests/lib/allocators/reference.hpp"

namespace jsq {
namespace {

Allocation sampled(std::span<const float> values, uint64_t budget, double ratio = 0.01, uint64_t seed = 0,
                   const WidthSet& widths = {}) {
  return allocate(values, widths, budget,
                  {.allocator = AllocatorKind::sampled, .sample_ratio = ratio, .seed = seed});
}

TEST(SampledAllocator, NeverSpendsMoreThanTheBudgetOnAnyData) {
  test::Random random(1);
  for (int round = 0; round < 400; ++round) {
    const test::Kind kind = test::all_kinds[random.below(std::size(test::all_kinds))];
    const std::vector<float> values = test::make_data(kind, random.below(3000), uint64_t(round));
    for (const WidthSet& widths : {WidthSet(), WidthSet({0, 1, 3}), WidthSet({2, 4}), WidthSet({0, 8})}) {
      const uint64_t budget = values.size() * widths[0] + random.below(9 * values.size() + 9);
      const Allocation allocation =
          sampled(values, budget, 0.001 + 0.2 * random.uniform(), random.word(), widths);
      ASSERT_EQ(test::inconsistency(values, allocation), "") << test::kind_name(kind);
      ASSERT_LE(allocation.payload_bits, budget);
    }
  }
}

TEST(SampledAllocator, SpendsNearlyTheWholeBudgetOnSmoothDataAndComesNearTheOptimum) {
  for (test::Kind kind : {test::Kind::heavy, test::Kind::gauss}) {
    const std::vector<float> values = test::make_data(kind, 100000);
    for (double bits : {0.1, 1.0, 1.6, 4.0}) {
      const auto budget = uint64_t(bits * 100000);
      const Allocation allocation = sampled(values, budget);
      EXPECT_GE(double(allocation.payload_bits), 0.999 * double(budget)) << test::kind_name(kind) << bits;
      const double optimum = test::assignment_of(values, allocate(values, {}, budget)).noise;
      EXPECT_LE(test::assignment_of(values, allocation).noise, 1.15 * optimum)
          << test::kind_name(kind) << bits;
    }
  }
}

TEST(SampledAllocator, OfTheWholePopulationIsTheOptimumUpToItsEnd) {
  const std::vector<float> values = test::make_data(test::Kind::heavy, 5000);
  const double sampled_noise = test::assignment_of(values, sampled(values, 8000, 1.0)).noise;
  const double optimum = test::assignment_of(values, allocate(values, {}, 8000)).noise;
  EXPECT_NEAR(sampled_noise, optimum, 0.002 * optimum);
}

TEST(SampledAllocator, DependsOnItsSeedAndOnNothingElse) {
  const std::vector<float> values = test::make_data(test::Kind::heavy, 200000);
  const Allocation a = sampled(values, 100000, 0.01, 3), b = sampled(values, 100000, 0.01, 3),
                   c = sampled(values, 100000, 0.01, 4);
  EXPECT_EQ(a.at_least, b.at_least);
  EXPECT_EQ(a.threshold_key, b.threshold_key);
  EXPECT_EQ(a.cutoff_index, b.cutoff_index);
  EXPECT_NE(a.at_least, c.at_least);
}

TEST(SampledAllocator, DoesNotStarveTheEndOfATensor) {
  // The published code cuts its surplus in index order; here the last tenth keeps its share.
  const std::vector<float> values = test::make_data(test::Kind::gauss, 100000);
  const std::vector<uint8_t> map = class_map(values, sampled(values, 160000));
  size_t kept = 0, kept_at_end = 0;
  for (size_t i = 0; i < map.size(); ++i) {
    kept += map[i] != 0;
    kept_at_end += i >= 90000 && map[i] != 0;
  }
  EXPECT_NEAR(double(kept_at_end) / double(kept), 0.1, 0.01);
}

}  // namespace
}  // namespace jsq

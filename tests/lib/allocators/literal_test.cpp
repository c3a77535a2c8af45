// The literal reading of the paper's text: the largest elements get the first width and nothing else happens.
#include <gtest/gtest.h>

#include "jsq/allocation.hpp"
#include "tests/kernels/data.hpp"
#include "tests/lib/allocators/reference.hpp"

namespace jsq {
namespace {

TEST(LiteralAllocator, GivesTheWorkedVector) {
  const std::vector<float> g8 = {0.04f, -0.08f, 0.16f, -0.3f, 0.6f, -1.2f, 2.5f, -5.0f};
  struct Row {
    uint64_t budget;
    std::vector<uint32_t> widths;
    double noise;
  };
  const std::vector<uint32_t> all(8, 2);
  const Row rows[] = {{8, {0, 0, 0, 0, 2, 2, 2, 2}, 0.0659929884},
                      {12, {0, 0, 2, 2, 2, 2, 2, 2}, 0.0627260834},
                      {16, all, 0.0625},
                      {20, all, 0.0625},
                      {26, all, 0.0625}};
  for (const Row& row : rows) {
    const Allocation allocation = allocate(g8, {}, row.budget, {.allocator = AllocatorKind::literal});
    EXPECT_EQ(test::assignment_of(g8, allocation).widths, row.widths) << row.budget;
    EXPECT_NEAR(test::assignment_of(g8, allocation).noise, row.noise, 1e-7 * row.noise);
    EXPECT_EQ(allocation.payload_bits, std::min<uint64_t>(row.budget, 16));
  }
}

TEST(LiteralAllocator, GivesTheFirstWidthToTheLargestWhateverTheWidths) {
  test::Random random(1);
  for (int round = 0; round < 200; ++round) {
    const test::Kind kind = test::all_kinds[random.below(std::size(test::all_kinds))];
    const std::vector<float> values = test::make_data(kind, random.below(300), uint64_t(round));
    for (const WidthSet& widths : {WidthSet(), WidthSet({0, 3}), WidthSet({2, 4, 8}), WidthSet({4})}) {
      const uint64_t least = values.size() * widths[0];
      const uint64_t budget = least + random.below(4 * values.size() + 1);
      const Allocation allocation = allocate(values, widths, budget, {.allocator = AllocatorKind::literal});
      ASSERT_EQ(test::inconsistency(values, allocation), "");
      if (widths.size() == 1) continue;
      ASSERT_EQ(allocation.at_least[1],
                std::min<uint64_t>(values.size(), (budget - least) / widths.increment_bits(1)));
      for (uint32_t j = 2; j < widths.size(); ++j) ASSERT_EQ(allocation.at_least[j], 0u);
    }
  }
}

}  // namespace
}  // namespace jsq

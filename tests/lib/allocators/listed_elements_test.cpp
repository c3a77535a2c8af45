// The largest elements of a population against a sort: which are listed, their ranks, and what a cut keeps.
#include "lib/allocators/listed_elements.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "lib/allocators/magnitude_index.hpp"
#include "tests/kernels/data.hpp"

namespace jsq {
namespace {

uint32_t key_of(float g) {
  return std::bit_cast<uint32_t>(std::fabs(g));
}

/// Few different magnitudes, so that ties are met everywhere.
std::vector<float> values_with_ties(size_t n) {
  test::Random random(3);
  std::vector<float> values(n);
  for (float& g : values) g = float(int(random.below(2000)) - 1000) / 1024;
  return values;
}

TEST(ListedElements, TellTheKeysOfTheirRanks) {
  const std::vector<float> values = values_with_ties(200000);
  const SpanPopulation whole(values);
  std::vector<uint32_t> keys;
  for (float g : values) keys.push_back(key_of(g));
  std::sort(keys.begin(), keys.end(), std::greater<>());
  const ListedElements largest(whole, keys[5000], 1 << 20);
  ASSERT_GE(largest.listed(), 5000u);
  ASSERT_LT(largest.listed(), 10000u);
  MagnitudeIndex index(largest, 0);
  for (uint64_t rank : {uint64_t(1), uint64_t(2), uint64_t(777), uint64_t(5000), largest.listed()})
    EXPECT_EQ(index.keys_of_ranks(std::array{rank})[0], keys[rank - 1]) << rank;
  const uint32_t key = keys[4000];
  EXPECT_EQ(index.counts_at_least(std::array{key})[0],
            uint64_t(std::count_if(keys.begin(), keys.end(), [&](uint32_t k) { return k >= key; })));
  index.keys_of_ranks(std::array{uint64_t(4001)});
  uint64_t met = 0;
  for (size_t i = 0; i < values.size(); ++i)
    if (key_of(values[i]) == key && ++met == 5) {
      EXPECT_EQ(largest.index_after_tie(key, 5), i + 1);
    }
}

TEST(ListedElements, OfAStretchAreThoseThatTheCutKeeps) {
  const std::vector<float> values = values_with_ties(5 * 65536 + 100);
  const SpanPopulation whole(values);
  const ListedElements largest(whole, key_of(0.9f), 1 << 20);
  const element::MagnitudeCut cuts[] = {{key_of(0.95f), 0},
                                        {key_of(960.0f / 1024), 70000},
                                        {key_of(960.0f / 1024), UINT64_MAX},
                                        {key_of(0.95f), UINT64_MAX, 140000}};
  for (const element::MagnitudeCut& cut : cuts)
    for (const auto& [first, count] : {std::pair<uint64_t, uint64_t>{0, values.size()},
                                       {0, 65536},
                                       {65536, 2 * 65536},
                                       {5 * 65536, 100}}) {
      std::vector<uint32_t> expected, indices;
      std::vector<float> expected_values, found;
      for (uint64_t i = first; i < first + count; ++i) {
        const uint32_t key = key_of(values[i]);
        if (i >= cut.end || key < cut.threshold_key || (key == cut.threshold_key && i >= cut.cutoff))
          continue;
        expected.push_back(uint32_t(i - first));
        expected_values.push_back(values[i]);
      }
      largest.take(cut, first, count, indices, found);
      EXPECT_EQ(indices, expected);
      EXPECT_EQ(found, expected_values);
    }
}

TEST(ListedElements, AreNotListedWhereTheyAreTooManyOrReachZero) {
  const std::vector<float> values = values_with_ties(100000);
  const SpanPopulation whole(values);
  EXPECT_EQ(ListedElements(whole, key_of(0.5f), 1000).listed(), 0u);
  EXPECT_EQ(ListedElements(whole, 0, 1 << 20).listed(), 0u);
}

}  // namespace
}  // namespace jsq

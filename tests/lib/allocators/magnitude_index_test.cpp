// Ranks, counts and ties of the magnitude index against a sort, for small populations and for refined
// histograms.
#include "lib/allocators/magnitude_index.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "lib/allocators/allocator.hpp"
#include "tests/kernels/data.hpp"
#include "tests/lib/allocators/reference.hpp"

namespace jsq {
namespace {

uint32_t key_of(float g) {
  return std::bit_cast<uint32_t>(std::fabs(g));
}

std::vector<uint32_t> keys_descending(const std::vector<float>& values) {
  std::vector<uint32_t> keys;
  for (float g : values) keys.push_back(key_of(g));
  std::sort(keys.begin(), keys.end(), std::greater<>());
  return keys;
}

/// A population that hands out its stretches of odd lengths backwards and from two threads.
class Scattered final : public Population {
 public:
  explicit Scattered(const std::vector<float>& values) : values_(values), summary_(summarise(values)) {
    test::Random random(9);
    for (size_t at = 0; at < values.size();) {
      const size_t n = std::min<size_t>(values.size() - at, 1 + random.below(65536));
      stretches_.emplace_back(at, n);
      at += n;
    }
    std::reverse(stretches_.begin(), stretches_.end());
  }
  const Summary& summary() const override { return summary_; }
  void visit(const std::function<void(uint64_t, std::span<const float>)>& visitor) const override {
    std::atomic<size_t> next = 0;
    const auto work = [&] {
      for (size_t i = next++; i < stretches_.size(); i = next++)
        visitor(stretches_[i].first, std::span(values_).subspan(stretches_[i].first, stretches_[i].second));
    };
    std::thread other(work);
    work();
    other.join();
  }

 private:
  const std::vector<float>& values_;
  Summary summary_;
  std::vector<std::pair<size_t, size_t>> stretches_;
};

void expect_ranks_and_counts(const std::vector<float>& values, const Population& population,
                             uint64_t most_sorted = MagnitudeIndex::sorted_elements) {
  const std::vector<uint32_t> sorted = keys_descending(values);
  MagnitudeIndex index(population, most_sorted);
  ASSERT_EQ(index.elements(), values.size());
  test::Random random(3);
  for (int round = 0; round < 12 && !values.empty(); ++round) {
    std::vector<uint64_t> ranks;
    for (int i = 0; i < 5; ++i) ranks.push_back(1 + random.below(values.size()));
    ranks.push_back(1);
    ranks.push_back(values.size());
    const std::vector<uint32_t> keys = index.keys_of_ranks(ranks);
    for (size_t i = 0; i < ranks.size(); ++i) ASSERT_EQ(keys[i], sorted[ranks[i] - 1]) << ranks[i];
    for (uint32_t key : keys) {
      const auto range = std::equal_range(sorted.begin(), sorted.end(), key, std::greater<>());
      ASSERT_EQ(index.ties(key), uint64_t(range.second - range.first));
    }
    std::vector<uint32_t> asked = {
        0, 1, keys[0], keys[0] + 1, keys[1] - (keys[1] > 0), uint32_t(random.below(0x7f800000)), 0x7f800000};
    const std::vector<uint64_t> counts = index.counts_at_least(asked);
    for (size_t i = 0; i < asked.size(); ++i) {
      const auto expected =
          std::upper_bound(sorted.begin(), sorted.end(), asked[i], std::greater<>()) - sorted.begin();
      ASSERT_EQ(counts[i], uint64_t(expected)) << asked[i];
    }
    uint64_t before = 0;
    for (size_t i = 0; i < index.cells().size(); ++i) {
      ASSERT_EQ(index.before(i), before);
      ASSERT_GT(index.cells()[i].count, 0u);
      ASSERT_TRUE(i == 0 || index.cells()[i].high() < index.cells()[i - 1].low);
      before += index.cells()[i].count;
    }
    ASSERT_EQ(before, values.size());
  }
}

TEST(MagnitudeIndex, OfASmallPopulationRanksAsASortDoes) {
  for (test::Kind kind : test::all_kinds)
    for (size_t n : {0, 1, 2, 100, 5000}) {
      const std::vector<float> values = test::make_data(kind, n);
      expect_ranks_and_counts(values, SpanPopulation(values));
    }
}

TEST(MagnitudeIndex, RanksAsASortDoesWithoutSortingASmallPopulation) {
  for (test::Kind kind : test::all_kinds)
    for (size_t n : {1, 2, 100, 5000}) {
      const std::vector<float> values = test::make_data(kind, n);
      expect_ranks_and_counts(values, SpanPopulation(values), 0);
    }
}

TEST(MagnitudeIndex, OfALargePopulationRanksAsASortDoes) {
  for (test::Kind kind : {test::Kind::heavy, test::Kind::ternary, test::Kind::f16_grid, test::Kind::subnormal,
                          test::Kind::sparse}) {
    const std::vector<float> values = test::make_data(kind, MagnitudeIndex::sorted_elements + 1);
    expect_ranks_and_counts(values, SpanPopulation(values));
    expect_ranks_and_counts(values, Scattered(values));
  }
}

TEST(MagnitudeIndex, SplitsAllCellsToSingleKeysWithoutLosingAnElement) {
  const std::vector<float> values =
      test::make_data(test::Kind::f16_grid, MagnitudeIndex::sorted_elements + 5);
  const SpanPopulation population(values);
  MagnitudeIndex index(population);
  std::vector<size_t> all(index.cells().size());
  for (size_t i = 0; i < all.size(); ++i) all[i] = i;
  index.split(all);
  const std::vector<uint32_t> sorted = keys_descending(values);
  size_t rank = 0;
  for (const MagnitudeIndex::Cell& cell : index.cells()) {
    ASSERT_EQ(cell.shift, 0u);
    for (uint64_t i = 0; i < cell.count; ++i) ASSERT_EQ(sorted[rank++], cell.low);
    ASSERT_EQ(cell.energy(), double(std::bit_cast<float>(cell.low)) * double(std::bit_cast<float>(cell.low)));
  }
  ASSERT_EQ(rank, values.size());
}

TEST(Population, FindsTheIndexBehindTheNthTie) {
  const std::vector<float> values = test::make_data(test::Kind::ternary, 300000);
  const uint32_t key = key_of(0.25f);
  std::vector<uint64_t> places;
  for (size_t i = 0; i < values.size(); ++i)
    if (key_of(values[i]) == key) places.push_back(i);
  for (uint64_t quota :
       {uint64_t(1), uint64_t(2), uint64_t(70000), uint64_t(150000), uint64_t(places.size())}) {
    EXPECT_EQ(SpanPopulation(values).index_after_tie(key, quota), places[quota - 1] + 1);
    EXPECT_EQ(Scattered(values).index_after_tie(key, quota), places[quota - 1] + 1);
  }
}

TEST(Allocate, DoesNotDependOnHowAPopulationIsVisited) {
  for (test::Kind kind : {test::Kind::heavy, test::Kind::ternary, test::Kind::f16_grid})
    for (size_t n : {3000u, 200000u, 600000u}) {
      const std::vector<float> values = test::make_data(kind, n);
      for (AllocatorKind allocator : {AllocatorKind::exact, AllocatorKind::literal, AllocatorKind::sampled}) {
        const AllocationOptions options{.allocator = allocator, .seed = 2};
        const Scattered population(values);
        MagnitudeIndex index(population);
        const Allocation scattered = allocate(index, {}, n / 2 * 3 + 1, options);
        const Allocation whole = allocate(values, {}, n / 2 * 3 + 1, options);
        ASSERT_EQ(scattered.at_least, whole.at_least)
            << test::kind_name(kind) << n << allocator_name(allocator);
        ASSERT_EQ(scattered.threshold_key, whole.threshold_key);
        ASSERT_EQ(scattered.cutoff_index, whole.cutoff_index);
        ASSERT_EQ(scattered.low_key, whole.low_key);
        ASSERT_EQ(scattered.high_key, whole.high_key);
      }
    }
}

TEST(ModelledNoise, IsTheNoiseOfTheClassSizes) {
  const std::vector<float> values = test::make_data(test::Kind::heavy, 2000);
  const SpanPopulation population(values);
  MagnitudeIndex index(population);
  for (const ClassCounts& sizes :
       {ClassCounts{2000, 0, 0, 0}, ClassCounts{2000, 700, 200, 3}, ClassCounts{2000, 2000, 2000, 2000}})
    EXPECT_NEAR(modelled_noise({}, sizes, index), test::noise_of_sizes(values, {0, 2, 4, 8}, sizes), 1e-13);
  EXPECT_EQ(payload_bits_of({}, {2000, 700, 200, 3}), 500u * 2 + 197 * 4 + 3 * 8);
  EXPECT_EQ(payload_bits_of(WidthSet({1, 3}), {10, 4}), 6u + 12);
}

TEST(ThresholdAllocator, IsNearItsBudgetAndOptimalForThePayloadItTakes) {
  const std::vector<float> values = test::make_data(test::Kind::heavy, 1000000);
  const SpanPopulation population(values);
  MagnitudeIndex index(population);
  for (double bits : {0.03, 0.5, 1.6, 4.0}) {
    const auto budget = uint64_t(bits * double(values.size()));
    const Allocation allocation = allocate_by_threshold(index, {}, budget, 0);
    const test::Assignment found = test::assignment_of(values, allocation);
    EXPECT_NEAR(double(found.bits), double(budget), 0.002 * double(budget));
    EXPECT_NEAR(double(allocation.payload_bits), double(budget), 0.002 * double(budget));
    EXPECT_NEAR(found.noise, test::assignment_of(values, allocate(values, {}, found.bits)).noise,
                1e-5 * found.noise);
    const std::vector<uint8_t> map = class_map(values, allocation);
    for (size_t i = 0; i < values.size(); ++i) {
      ASSERT_GE(key_of(values[i]), allocation.low_key[map[i]]);
      ASSERT_LE(key_of(values[i]), allocation.high_key[map[i]]);
    }
  }
}

TEST(ThresholdAllocator, NeedsNoBinsBelowItsThresholds) {
  for (test::Kind kind : test::all_kinds) {
    const std::vector<float> values = test::make_data(kind, 600000);
    const SpanPopulation population(values);
    for (double extra_bits : {0.0, 3.0, 20.0})
      for (double bits : {0.001, 0.03, 0.5, 1.6}) {
        const auto budget = uint64_t(bits * double(values.size()));
        MagnitudeIndex whole(population, 0);
        const Allocation expected = allocate_by_threshold(whole, {}, budget, extra_bits);
        const uint32_t least =
            *std::min_element(expected.threshold_key.begin() + 1, expected.threshold_key.end());
        // From just below the least threshold on, and from well below; but not from above, which shows.
        for (const uint32_t first : {(least - 1) >> 16 << 16, least / 2 >> 16 << 16}) {
          MagnitudeIndex largest(population, population.histogram(), first);
          const Allocation found = allocate_by_threshold(largest, {}, budget, extra_bits);
          EXPECT_EQ(found.threshold_key, expected.threshold_key);
          EXPECT_EQ(found.at_least, expected.at_least);
          EXPECT_EQ(found.payload_bits, expected.payload_bits);
          for (uint32_t j = 1; j < 4; ++j) {
            EXPECT_EQ(found.low_key[j], expected.low_key[j]);
            EXPECT_EQ(found.high_key[j], expected.high_key[j]);
          }
          EXPECT_EQ(found.high_key[0] > 0, expected.high_key[0] > 0);
        }
        if (expected.at_least[1] < 100 || least >= element::first_nonfinite_key) continue;
        const uint32_t above = (least >> 16 << 16) + (8u << 16);
        MagnitudeIndex too_few(population, population.histogram(), above);
        const Allocation found = allocate_by_threshold(too_few, {}, budget, extra_bits);
        EXPECT_LT(*std::min_element(found.threshold_key.begin() + 1, found.threshold_key.end()), above);
      }
  }
}

}  // namespace
}  // namespace jsq

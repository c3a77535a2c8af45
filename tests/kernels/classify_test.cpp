// Classification, run activities and the sums over dropped elements against the definitions, on every SIMD
// level.
#include "kernels/cpu/classify.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/kernels/data.hpp"
#include "tests/kernels/simd_levels.hpp"

namespace jsq::cpu {
namespace {

uint32_t key_of(float g) {
  return std::bit_cast<uint32_t>(std::fabs(g));
}

/// The definition: class j or above when the key is above threshold[j], or equal with an index below
/// cutoff[j].
uint8_t class_of(const element::ClassPlan& plan, float g, uint64_t index) {
  uint8_t c = 0;
  for (uint32_t j = 1; j < plan.classes; ++j)
    if (key_of(g) > plan.threshold[j] || (key_of(g) == plan.threshold[j] && index < plan.cutoff[j]))
      c = uint8_t(j);
  return c;
}

/// Ascending thresholds taken from the values themselves, so that ties are met; cutoffs inside and outside
/// the stretch.
element::ClassPlan random_plan(test::Random& random, const std::vector<float>& values, uint64_t first) {
  element::ClassPlan plan;
  plan.classes = 1 + uint32_t(random.below(element::max_classes));
  std::vector<uint32_t> keys;
  for (uint32_t j = 1; j < plan.classes; ++j) keys.push_back(key_of(values[random.below(values.size())]));
  std::sort(keys.begin(), keys.end());
  for (uint32_t j = 1; j < plan.classes; ++j) {
    plan.threshold[j] = keys[j - 1];
    plan.width[j] = j;
    const uint64_t cutoffs[] = {
        0, UINT64_MAX, first, first + random.below(values.size() + 1), first + values.size(), first / 2};
    plan.cutoff[j] = cutoffs[random.below(6)];
    // Equal thresholds are one tie: a higher class never takes more of it.
    if (j > 1 && plan.threshold[j] == plan.threshold[j - 1])
      plan.cutoff[j] = std::min(plan.cutoff[j], plan.cutoff[j - 1]);
  }
  return plan;
}

TEST(Classify, FollowsTheDefinitionWithTiesSplitAtAnyIndex) {
  test::for_each_simd_level([] {
    test::Random random(1);
    for (int round = 0; round < 400; ++round) {
      const test::Kind kind = test::all_kinds[random.below(std::size(test::all_kinds))];
      const std::vector<float> values = test::make_data(kind, 1 + random.below(700), uint64_t(round));
      const uint64_t first = random.below(2) ? random.below(1000) : (1ull << 40) + random.below(1000);
      const element::ClassPlan plan = random_plan(random, values, first);
      std::vector<uint8_t> classes(values.size(), 99);
      classify(values, first, plan, classes);
      for (size_t i = 0; i < values.size(); ++i)
        ASSERT_EQ(classes[i], class_of(plan, values[i], first + i)) << i;
    }
  });
}

TEST(Classify, AThresholdOfInfinityTakesNothing) {
  element::ClassPlan plan;
  plan.classes = 4;
  for (uint32_t j = 1; j < 4; ++j) plan.threshold[j] = 0x7f800000u, plan.cutoff[j] = 0;
  const std::vector<float> values = test::make_data(test::Kind::near_max, 100);
  std::vector<uint8_t> classes(100, 9);
  classify(values, 0, plan, classes);
  EXPECT_EQ(classes, std::vector<uint8_t>(100, 0));
}

TEST(ClassifyAndList, IsClassifyingListingAndSummingInOnePass) {
  test::for_each_simd_level([] {
    test::Random random(8);
    for (test::Kind kind : test::all_kinds)
      for (size_t n : {1, 63, 64, 65, 4096, 4097, 20000}) {
        const std::vector<float> values = test::make_data(kind, n);
        const uint64_t first = 1000;
        element::ClassPlan plan = random_plan(random, values, first);
        if (random.below(2) && plan.classes > 1) {  // next to nothing is kept
          plan.threshold[1] = 0x7f000000u;
          plan.classes = 2;
        }
        std::vector<uint8_t> expected(n), classes(n, 99);
        classify(values, first, plan, expected);
        std::vector<uint32_t> expected_kept, kept(n + 16);
        for (size_t i = 0; i < n; ++i)
          if (expected[i] != 0) expected_kept.push_back(uint32_t(i));
        const DroppedSums expected_sums = sum_dropped(values, first, plan);
        DroppedSums sums;
        kept.resize(classify_and_list(values, first, plan, classes.data(), kept.data(), &sums));
        ASSERT_EQ(classes, expected);
        ASSERT_EQ(kept, expected_kept);
        ASSERT_EQ(std::bit_cast<uint64_t>(sums.sum), std::bit_cast<uint64_t>(expected_sums.sum));
        ASSERT_EQ(std::bit_cast<uint64_t>(sums.energy), std::bit_cast<uint64_t>(expected_sums.energy));
        ASSERT_EQ(sums.max_magnitude, expected_sums.max_magnitude);
      }
  });
}

std::vector<uint8_t> random_classes(test::Random& random, size_t n, uint32_t classes) {
  std::vector<uint8_t> all(n);
  for (uint8_t& c : all) c = uint8_t(random.below(3) ? 0 : random.below(classes));
  return all;
}

TEST(RunActivities, AreTheBitLengthsOfTheSumsOfRunsOf32) {
  test::for_each_simd_level([] {
    test::Random random(2);
    for (size_t n : {1, 31, 32, 33, 64, 65, 1000, 16384, 16385, 70000})
      for (uint32_t class_count : {1u, 2u, 4u, 9u}) {
        std::vector<uint8_t> classes = random_classes(random, n, class_count);
        if (n > 40)
          std::fill(classes.begin(), classes.begin() + 32,
                    uint8_t(class_count - 1));  // the most a run can have
        std::vector<uint8_t> buckets((n + 31) / 32, 99);
        run_activities(classes, buckets);
        for (size_t r = 0; r < buckets.size(); ++r) {
          uint32_t sum = 0;
          for (size_t i = 32 * r; i < std::min(n, 32 * r + 32); ++i) sum += classes[i];
          const uint32_t expected = sum ? uint32_t(std::floor(std::log2(double(sum)))) + 1 : 0;
          ASSERT_EQ(buckets[r], expected);
          ASSERT_EQ(element::activity_bucket(sum), expected);
        }
      }
  });
}

TEST(ListNonzero, ListsWhatIsNotZeroInFullAndEmptyStretches) {
  test::for_each_simd_level([] {
    test::Random random(7);
    for (size_t n : {1, 31, 32, 33, 1000, 20001}) {
      std::vector<uint8_t> classes = random_classes(random, n, 4);
      for (size_t i = 0; i < n; ++i)
        if (i / 32 % 3 == 1) classes[i] = 0;
      std::vector<uint32_t> expected, indices(n + 16);
      for (size_t i = 0; i < n; ++i)
        if (classes[i] != 0) expected.push_back(uint32_t(i));
      indices.resize(list_nonzero(classes, indices.data()));
      ASSERT_EQ(indices, expected);
    }
  });
}

TEST(CountRuns, CountsTheElementsOfEveryClassOrAboveInEveryRun) {
  test::for_each_simd_level([] {
    test::Random random(3);
    for (size_t n : {1, 31, 32, 33, 1000, 65536})
      for (uint32_t class_count : {1u, 2u, 4u, 9u}) {
        const std::vector<uint8_t> classes = random_classes(random, n, class_count);
        const size_t runs = (n + 31) / 32;
        std::vector<uint8_t> counts(runs * 8 + 1, 99);
        count_runs(classes, class_count, counts);
        for (uint32_t j = 1; j < class_count; ++j)
          for (size_t r = 0; r < runs; ++r) {
            uint32_t expected = 0;
            for (size_t i = 32 * r; i < std::min(n, 32 * r + 32); ++i) expected += classes[i] >= j;
            ASSERT_EQ(counts[(j - 1) * runs + r], expected);
          }
        ASSERT_EQ(counts[(class_count - 1) * runs], 99);  // nothing beyond
      }
  });
}

TEST(SumDropped, SumsTheElementsOfClassZeroInTheDefinedOrder) {
  test::for_each_simd_level([] {
    test::Random random(4);
    for (test::Kind kind : test::all_kinds)
      for (size_t n : {1, 15, 16, 17, 1000, 65536}) {
        const std::vector<float> values = test::make_data(kind, n);
        const uint64_t first = 1000;
        const element::ClassPlan plan = random_plan(random, values, first);
        // Stretches end at the cutoffs; each has 16 lanes folded by halving.
        std::vector<size_t> ends{n};
        for (uint32_t j = 1; j < plan.classes; ++j)
          if (plan.cutoff[j] > first && plan.cutoff[j] - first < n)
            ends.push_back(size_t(plan.cutoff[j] - first));
        std::sort(ends.begin(), ends.end());
        double sum = 0, energy = 0;
        float largest = 0;
        for (size_t e = 0, begin = 0; e < ends.size(); begin = ends[e++]) {
          double lane_sum[16] = {}, lane_energy[16] = {};
          for (size_t i = begin; i < ends[e]; ++i) {
            const bool dropped = class_of(plan, values[i], first + i) == 0;
            const double g = dropped ? double(values[i]) : 0.0;
            lane_sum[(i - begin) % 16] += g;
            lane_energy[(i - begin) % 16] += g * g;
            if (dropped) largest = std::max(largest, std::fabs(values[i]));
          }
          for (size_t half = 8; half > 0; half /= 2)
            for (size_t l = 0; l < half; ++l)
              lane_sum[l] += lane_sum[l + half], lane_energy[l] += lane_energy[l + half];
          sum += lane_sum[0];
          energy += lane_energy[0];
        }
        const DroppedSums dropped = sum_dropped(values, first, plan);
        ASSERT_EQ(dropped.sum, sum) << test::kind_name(kind) << n;
        ASSERT_EQ(dropped.energy, energy);
        ASSERT_EQ(dropped.max_magnitude, largest);
      }
  });
}

TEST(ListNonzero, GivesTheIndicesOfTheNonzeroClassesInOrder) {
  test::for_each_simd_level([] {
    test::Random random(5);
    for (size_t n : {0, 1, 7, 8, 15, 16, 17, 31, 33, 1000, 65536})
      for (uint32_t class_count : {1u, 2u, 9u}) {
        const std::vector<uint8_t> classes = random_classes(random, n, class_count);
        std::vector<uint32_t> expected;
        for (size_t i = 0; i < n; ++i)
          if (classes[i]) expected.push_back(uint32_t(i));
        std::vector<uint32_t> indices(n + 16, 77);
        const size_t count = list_nonzero(classes, indices.data());
        ASSERT_EQ(count, expected.size());
        indices.resize(count);
        ASSERT_EQ(indices, expected);
      }
  });
}

TEST(MagnitudeBits, AreAtMostFourCodedAndTheRestRaw) {
  for (uint32_t width = 1; width <= 8; ++width) {
    EXPECT_EQ(element::coded_magnitude_bits(width), std::min(width - 1, 4u));
    EXPECT_EQ(element::raw_magnitude_bits(width), width - 1 - std::min(width - 1, 4u));
  }
  EXPECT_EQ(element::coded_magnitude_bits(0), 0u);
  EXPECT_EQ(element::raw_magnitude_bits(0), 0u);
}

}  // namespace
}  // namespace jsq::cpu

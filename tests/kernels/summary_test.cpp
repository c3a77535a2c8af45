// The summary pass and its refinement against plain loops of the test, on every SIMD level.
#include "kernels/cpu/summary.hpp"

#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>
#include <limits>

#include "jsq/summary.hpp"
#include "tests/kernels/data.hpp"
#include "tests/kernels/simd_levels.hpp"

namespace jsq {
namespace {

uint32_t key_of(float g) {
  return std::bit_cast<uint32_t>(std::fabs(g));
}

/// Sums of one chunk in the order that the interface defines: 16 lanes, folded by halving.
template <class Term>
double lane_sum(const std::vector<float>& values, size_t first, size_t count, Term term) {
  double lane[16] = {};
  for (size_t i = 0; i < count; ++i) {
    const float g = values[first + i];
    lane[i % 16] += std::isfinite(g) ? term(double(g)) : term(0.0);
  }
  for (size_t half = 8; half > 0; half /= 2)
    for (size_t l = 0; l < half; ++l) lane[l] += lane[l + half];
  return lane[0];
}
template <class Term>
double chunked_sum(const std::vector<float>& values, Term term) {
  double sum = 0;
  for (size_t at = 0; at < values.size(); at += 65536)
    sum += lane_sum(values, at, std::min<size_t>(65536, values.size() - at), term);
  return sum;
}

void expect_summary(const std::vector<float>& values) {
  const Summary summary = summarise(values);
  uint64_t zeros = 0, nan = 0, positive = 0, negative = 0, first = UINT64_MAX;
  uint32_t max_key = 0;
  std::vector<uint64_t> histogram(0x7f80);
  for (size_t i = 0; i < values.size(); ++i) {
    const float g = values[i];
    if (!std::isfinite(g)) {
      if (first == UINT64_MAX) first = i;
      nan += std::isnan(g);
      positive += std::isinf(g) && g > 0;
      negative += std::isinf(g) && g < 0;
      continue;
    }
    zeros += g == 0;
    max_key = std::max(max_key, key_of(g));
    ++histogram[key_of(g) >> 16];
  }
  EXPECT_EQ(summary.elements, values.size());
  EXPECT_EQ(summary.zeros, zeros);
  EXPECT_EQ(summary.nan, nan);
  EXPECT_EQ(summary.positive_infinite, positive);
  EXPECT_EQ(summary.negative_infinite, negative);
  EXPECT_EQ(summary.nonfinite(), nan + positive + negative);
  EXPECT_EQ(summary.first_nonfinite, first);
  EXPECT_EQ(summary.max_key, max_key);
  EXPECT_EQ(summary.histogram, histogram);
  EXPECT_EQ(summary.sum, chunked_sum(values, [](double g) { return g; }));
  EXPECT_EQ(summary.sum_abs, chunked_sum(values, [](double g) { return std::fabs(g); }));
  EXPECT_EQ(summary.energy, chunked_sum(values, [](double g) { return g * g; }));
}

TEST(Summary, CountsAndSumsInTheDefinedOrderOnEverySimdLevel) {
  test::for_each_simd_level([] {
    for (test::Kind kind : test::all_kinds)
      for (size_t n : {0, 1, 2, 15, 16, 17, 33, 1000, 65535, 65536, 65537, 200001}) {
        SCOPED_TRACE(std::string(test::kind_name(kind)) + " " + std::to_string(n));
        expect_summary(test::make_data(kind, n));
      }
  });
}

TEST(Summary, LeavesNonFiniteElementsOutOfEverythingButTheirCounts) {
  test::for_each_simd_level([] {
    test::Random random(3);
    for (size_t n : {1, 17, 5000, 140000}) {
      std::vector<float> values = test::make_data(test::Kind::heavy, n);
      for (size_t k = 0; k < 1 + n / 100; ++k) {
        const float specials[] = {HUGE_VALF,
                                  -HUGE_VALF,
                                  NAN,
                                  -NAN,
                                  std::bit_cast<float>(0x7f800001u),
                                  std::bit_cast<float>(0xffffffffu)};
        values[random.below(n)] = specials[random.below(6)];
      }
      expect_summary(values);
    }
  });
}

TEST(Summary, AppendIsTheSummaryOfTheConcatenationWhereChunksMeet) {
  std::vector<float> all = test::make_data(test::Kind::heavy, 65536 * 2 + 100);
  all[65536 + 7] = NAN;
  Summary joined = summarise(std::span(all).first(65536));
  joined.append(summarise(std::span(all).subspan(65536)));
  const Summary whole = summarise(all);
  EXPECT_EQ(joined.elements, whole.elements);
  EXPECT_EQ(joined.zeros, whole.zeros);
  EXPECT_EQ(joined.nan, whole.nan);
  EXPECT_EQ(joined.first_nonfinite, 65536u + 7);
  EXPECT_EQ(joined.max_key, whole.max_key);
  EXPECT_EQ(joined.histogram, whole.histogram);
  EXPECT_NEAR(joined.energy, whole.energy, whole.energy * 1e-15);
}

TEST(RefineRanges, CountsEveryKeyOfEveryRangeOnEverySimdLevel) {
  test::for_each_simd_level([] {
    test::Random random(4);
    for (int round = 0; round < 40; ++round) {
      std::vector<float> values(1 + random.below(3000));
      for (float& g : values) g = random.below(4) ? random.heavy() : random.any_finite();
      // Disjoint ranges, some around values that occur.
      std::vector<cpu::KeyRange> ranges;
      std::vector<uint32_t> lows;
      for (int r = 0; r < 5; ++r) {
        const uint32_t shift = uint32_t(random.below(2)) * 8;
        const uint32_t size = 256u << shift;
        const uint32_t low = key_of(values[random.below(values.size())]) / size * size;
        bool free = low + size <= 0x7f800000u;
        for (const cpu::KeyRange& other : ranges)
          free = free && (low + size <= other.low || other.low + (256u << other.shift) <= low);
        if (free) ranges.push_back({low, shift});
      }
      std::vector<uint32_t> counts(256 * ranges.size(), 7),
          expected(256 * ranges.size(), 7);  // it adds to what is there
      for (float g : values)
        for (size_t r = 0; r < ranges.size(); ++r)
          if (key_of(g) >= ranges[r].low && key_of(g) - ranges[r].low < 256u << ranges[r].shift)
            ++expected[256 * r + ((key_of(g) - ranges[r].low) >> ranges[r].shift)];
      cpu::refine_ranges(values, ranges, counts);
      ASSERT_EQ(counts, expected);
    }
  });
}

TEST(CountKey, CountsBothSignsOfAMagnitude) {
  test::for_each_simd_level([] {
    const std::vector<float> values = test::make_data(test::Kind::ternary, 10007);
    uint64_t kept = 0;
    for (float g : values) kept += g != 0;
    EXPECT_EQ(cpu::count_key(values, key_of(0.25f)), kept);
    EXPECT_EQ(cpu::count_key(values, 0), values.size() - kept);
    EXPECT_EQ(cpu::count_key(values, key_of(0.26f)), 0u);
  });
}

}  // namespace
}  // namespace jsq

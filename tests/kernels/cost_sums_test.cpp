// Costs by magnitude: keys are what their sentence says, and sums the same at every SIMD level and length.
#include "kernels/cpu/cost_sums.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "tests/kernels/data.hpp"
#include "tests/kernels/simd_levels.hpp"

namespace jsq {
namespace {

constexpr size_t lengths[] = {0, 1, 7, 15, 16, 17, 31, 32, 33, 100, 4099, 9000};

TEST(CostKeys, AreSixteenthsOfAnOctaveFromATwoToTheMinusTenOn) {
  test::for_each_simd_level([] {
    // 2^(k / 16) is not where keys begin: mantissas are cut into sixteen equal parts.
    std::vector<float> values;
    std::vector<uint16_t> expected;
    for (int octave = -10; octave < 14; ++octave)
      for (int part = 0; part < 16; ++part)
        for (const float within : {0.0f, 0.5f, 0.99f}) {
          values.push_back(std::ldexp(1 + (float(part) + within) / 16, octave) *
                           ((part & 1) != 0 ? -1.0f : 1.0f));
          expected.push_back(uint16_t((octave + 10) * 16 + part));
        }
    for (const float small : {0.0f, -0.0f, 1e-30f, std::ldexp(1.0f, -11), -std::ldexp(1.9f, -11)}) {
      values.push_back(small);
      expected.push_back(0);
    }
    for (const float large : {16384.0f, 1e30f, -std::numeric_limits<float>::infinity()}) {
      values.push_back(large);
      expected.push_back(uint16_t(cpu::cost_keys - 1));
    }
    std::vector<uint16_t> keys(values.size());
    cpu::fill_cost_keys(values.data(), values.size(), 1.0f, keys.data());
    EXPECT_EQ(keys, expected);
    std::vector<float> quarters = values;
    for (float& value : quarters) value /= 4;
    cpu::fill_cost_keys(quarters.data(), quarters.size(), 4.0f, keys.data());
    EXPECT_EQ(keys, expected);
  });
}

TEST(CostSums, AddInSixteenLanesThatAreFoldedByHalving) {
  test::Random random(31);
  std::vector<float> table(20 * cpu::cost_keys);
  for (float& entry : table) entry = float(random.below(1u << 24)) / 4096;
  for (const size_t n : lengths) {
    std::vector<uint32_t> bases(n);
    std::vector<uint8_t> classes(n);
    std::vector<uint16_t> keys(n);
    std::vector<float> with_bases(16), without(16);
    for (size_t i = 0; i < n; ++i) {
      classes[i] = uint8_t(random.below(20));
      bases[i] = classes[i] * cpu::cost_keys;
      keys[i] = uint16_t(random.below(cpu::cost_keys));
      with_bases[i % 16] += table[bases[i] + keys[i]];
      without[i % 16] += table[keys[i]];
    }
    const auto folded = [](std::vector<float> lane) {
      for (size_t half = 8; half > 0; half /= 2)
        for (size_t l = 0; l < half; ++l) lane[l] += lane[l + half];
      return double(lane[0]);
    };
    double of_classes = 0;
    for (size_t begin = 0; begin < n; begin += 4096) {
      std::vector<float> lane(16);
      for (size_t i = begin; i < std::min(begin + 4096, n); ++i)
        lane[i % 16] += table[classes[i] * cpu::cost_keys + keys[i]];
      of_classes += folded(lane);
    }
    test::for_each_simd_level([&] {
      ASSERT_EQ(cpu::sum_class_costs(table.data(), classes.data(), keys.data(), n), of_classes) << n;
      ASSERT_EQ(cpu::sum_costs(table.data(), bases.data(), keys.data(), n), folded(with_bases)) << n;
      ASSERT_EQ(cpu::sum_costs(table.data(), keys.data(), n), folded(without)) << n;
    });
  }
}

TEST(AddMagnitudes, AddsEachInDouble) {
  test::Random random(32);
  for (const size_t n : lengths) {
    std::vector<float> values(n);
    std::vector<double> expected(n);
    for (size_t i = 0; i < n; ++i) {
      values[i] = std::ldexp(float(random.below(1u << 24)) - float(1 << 23), -int(random.below(40)));
      expected[i] = double(i) + double(std::fabs(values[i])) * 0.37;
    }
    test::for_each_simd_level([&] {
      std::vector<double> sums(n);
      for (size_t i = 0; i < n; ++i) sums[i] = double(i);
      cpu::add_magnitudes(values.data(), n, 0.37, sums.data());
      ASSERT_EQ(sums, expected) << n;
    });
  }
}

}  // namespace
}  // namespace jsq

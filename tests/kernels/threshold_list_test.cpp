// The list of what reaches a threshold against an element at a time, on every SIMD level.
#include "kernels/cpu/threshold_list.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/kernels/data.hpp"
#include "tests/kernels/simd_levels.hpp"

namespace jsq::cpu {
namespace {

uint32_t key_of(float g) {
  return std::bit_cast<uint32_t>(std::fabs(g));
}

TEST(ThresholdList, IsInOrderForEveryThreshold) {
  test::for_each_simd_level([] {
    test::Random random(1);
    for (int round = 0; round < 400; ++round) {
      const test::Kind kind = test::all_kinds[random.below(std::size(test::all_kinds))];
      const std::vector<float> values = test::make_data(kind, random.below(700), uint64_t(round));
      const uint32_t keys[] = {0, 1, 0x7fffffff,
                               values.empty() ? 5 : key_of(values[random.below(values.size())])};
      const uint32_t key = keys[random.below(4)];
      std::vector<uint32_t> expected;
      std::vector<float> expected_values;
      for (size_t i = 0; i < values.size(); ++i) {
        if (key_of(values[i]) < key) continue;
        expected.push_back(uint32_t(i));
        expected_values.push_back(values[i]);
      }
      std::vector<uint32_t> indices(values.size() + 16);
      std::vector<float> listed(values.size() + 16);
      const size_t count = list_at_least(values, key, indices.data(), listed.data());
      indices.resize(count);
      listed.resize(count);
      ASSERT_EQ(indices, expected);
      for (size_t k = 0; k < count; ++k)
        ASSERT_EQ(std::bit_cast<uint32_t>(listed[k]), std::bit_cast<uint32_t>(expected_values[k]));
    }
  });
}

}  // namespace
}  // namespace jsq::cpu

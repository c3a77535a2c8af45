// Passes over levels: each is what its sentence says, at every SIMD level and length.
#include "kernels/cpu/levels.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <vector>

#include "tests/kernels/data.hpp"
#include "tests/kernels/simd_levels.hpp"

namespace jsq {
namespace {

std::vector<int32_t> some_levels(test::Random& random, size_t n, int32_t low, int32_t high) {
  std::vector<int32_t> levels(n);
  for (int32_t& level : levels)
    level = random.below(3) ? 0 : int32_t(low + int64_t(random.below(uint64_t(int64_t(high) - low) + 1)));
  return levels;
}

constexpr size_t lengths[] = {0, 1, 2, 15, 16, 17, 63, 64, 65, 255, 256, 257, 1000, 4096, 5003};

TEST(LevelBounds, AreTheLeastAndTheGreatest) {
  test::for_each_simd_level([] {
    test::Random random(1);
    for (size_t n : lengths) {
      if (n == 0) continue;
      std::vector<int32_t> levels = some_levels(random, n, -1000, 2000);
      levels[random.below(n)] = random.below(2) ? INT32_MIN : INT32_MAX;
      const auto [least, greatest] = std::minmax_element(levels.begin(), levels.end());
      const cpu::LevelBounds bounds = cpu::level_bounds(levels);
      ASSERT_EQ(bounds.least, *least);
      ASSERT_EQ(bounds.greatest, *greatest);
    }
    ASSERT_EQ(cpu::level_bounds({}).least, 0);
    ASSERT_EQ(cpu::level_bounds({}).greatest, 0);
  });
}

TEST(CountLevels, CountsEveryLevelOnce) {
  test::for_each_simd_level([] {
    test::Random random(2);
    for (int32_t high : {0, 1, 100, 127, 128, 900})
      for (size_t n : lengths) {
        const int32_t low = -high;
        const size_t symbols = size_t(high - low) + 1;
        const std::vector<int32_t> levels = some_levels(random, n, low, high);
        std::vector<uint32_t> tables(cpu::level_tables * symbols);
        cpu::count_levels(levels, low, symbols, tables.data());
        for (size_t s = 0; s < symbols; ++s) {
          uint64_t count = 0;
          for (size_t k = 0; k < cpu::level_tables; ++k) count += tables[k * symbols + s];
          ASSERT_EQ(int64_t(count), std::count(levels.begin(), levels.end(), low + int32_t(s)));
        }
      }
  });
}

TEST(LevelMasks, SayWhichLevelsAreNotZeroAndWhichAreNegative) {
  test::for_each_simd_level([] {
    test::Random random(3);
    for (size_t n : lengths) {
      const std::vector<int32_t> levels = some_levels(random, n, INT32_MIN, INT32_MAX);
      const size_t words = (n + 63) / 64;
      std::vector<uint64_t> nonzero(words + 1, 7), negative(words + 1, 7);
      cpu::level_masks(levels, nonzero.data(), negative.data());
      for (size_t i = 0; i < 64 * words; ++i) {
        ASSERT_EQ(nonzero[i / 64] >> (i % 64) & 1, uint64_t(i < n && levels[i] != 0)) << i << " of " << n;
        ASSERT_EQ(negative[i / 64] >> (i % 64) & 1, uint64_t(i < n && levels[i] < 0)) << i << " of " << n;
      }
      ASSERT_EQ(nonzero[words], 7u);
      ASSERT_EQ(negative[words], 7u);
    }
  });
}

TEST(MagnitudeTokens, AreTheMagnitudeOrItsBinaryLength) {
  test::for_each_simd_level([] {
    test::Random random(4);
    for (uint32_t direct : {4u, 8u, 16u})
      for (size_t n : lengths) {
        const uint32_t offset = direct - uint32_t(std::bit_width(direct));
        const std::vector<int32_t> levels = some_levels(random, n, -16383, 16383);
        std::vector<uint16_t> tokens(n);
        cpu::magnitude_tokens(levels, direct, offset, tokens.data());
        for (size_t i = 0; i < n; ++i) {
          const auto magnitude = uint32_t(std::abs(levels[i]));
          ASSERT_EQ(tokens[i], magnitude < direct ? magnitude : offset + uint32_t(std::bit_width(magnitude)));
        }
      }
  });
}

}  // namespace
}  // namespace jsq

// The sign bits of levels: one for each that is not zero, in order, and levels from magnitudes and such bits.
#include "kernels/cpu/level_signs.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "tests/kernels/data.hpp"
#include "tests/kernels/simd_levels.hpp"

namespace jsq {
namespace {

constexpr size_t lengths[] = {0,  1,   2,   7,   8,    31,   32,   33,   63,  64,
                              65, 255, 256, 257, 1000, 4095, 4096, 4097, 9001};

/// `zeros` of ten levels are 0 on average, the others -15..15.
std::vector<int32_t> some_levels(test::Random& random, size_t n, uint32_t zeros) {
  std::vector<int32_t> levels(n);
  for (int32_t& level : levels) level = random.below(10) < zeros ? 0 : int32_t(random.below(31)) - 15;
  return levels;
}

/// The definition, bit by bit.
std::string sign_bits(const std::vector<int32_t>& levels, uint64_t& count) {
  std::string bytes;
  count = 0;
  for (int32_t level : levels) {
    if (level == 0) continue;
    if (count % 8 == 0) bytes.push_back('\0');
    if (level < 0) bytes.back() = char(uint8_t(bytes.back()) | 0x80u >> count % 8);
    ++count;
  }
  return bytes;
}

TEST(LevelSigns, ArePackedInOrderWithZerosBehindTheLast) {
  test::for_each_simd_level([] {
    test::Random random(1);
    for (uint32_t zeros : {0u, 1u, 5u, 9u, 10u})
      for (size_t n : lengths) {
        const std::vector<int32_t> levels = some_levels(random, n, zeros);
        uint64_t count = 0;
        const std::string expected = sign_bits(levels, count);
        std::vector<char> bytes(n / 8 + 9, char(0x5a));
        cpu::pack_level_signs(levels, bytes.data());
        ASSERT_EQ(std::string(bytes.data(), expected.size()), expected) << n << " levels";
      }
  });
}

TEST(LevelSigns, ComeBackToTheirMagnitudes) {
  test::for_each_simd_level([] {
    test::Random random(2);
    for (uint32_t zeros : {0u, 1u, 5u, 9u, 10u})
      for (size_t n : lengths) {
        const std::vector<int32_t> levels = some_levels(random, n, zeros);
        uint64_t count = 0;
        const std::string bits = sign_bits(levels, count);
        std::vector<uint8_t> magnitudes;
        for (int32_t level : levels) magnitudes.push_back(uint8_t(std::abs(level)));
        std::vector<int32_t> restored(n);
        ASSERT_EQ(cpu::restore_level_signs(magnitudes, bits, restored), count);
        ASSERT_EQ(restored, levels);
      }
  });
}

TEST(LevelSigns, ArePositiveBeyondTheEndOfTheBits) {
  test::for_each_simd_level([] {
    const std::vector<uint8_t> magnitudes(100, 3);
    for (size_t bytes : {0u, 1u, 4u, 7u, 8u, 12u}) {
      std::vector<int32_t> levels(100);
      ASSERT_EQ(cpu::restore_level_signs(magnitudes, std::string(bytes, '\xff'), levels), 100u);
      for (size_t i = 0; i < 100; ++i) ASSERT_EQ(levels[i], i < 8 * bytes ? -3 : 3) << i;
    }
  });
}

}  // namespace
}  // namespace jsq

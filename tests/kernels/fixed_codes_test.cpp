// Codes of one width: a plain bit string, the most significant bit first, at every width, length and SIMD
// level, with nothing touched beyond its end.
#include "kernels/cpu/fixed_codes.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/kernels/data.hpp"
#include "tests/kernels/simd_levels.hpp"

namespace jsq {
namespace {

/// The binary digits of the codes, one after the other.
std::string digits_of(const std::vector<uint32_t>& codes, uint32_t width) {
  std::string digits;
  for (uint32_t code : codes)
    for (uint32_t bit = width; bit-- > 0;) digits += code >> bit & 1 ? '1' : '0';
  return digits;
}

std::string digits_of(const std::vector<uint8_t>& bytes, size_t count) {
  std::string digits;
  for (size_t i = 0; i < count; ++i)
    for (uint32_t bit = 8; bit-- > 0;) digits += bytes[i] >> bit & 1 ? '1' : '0';
  return digits;
}

TEST(FixedCodes, AreABitStringAtEveryWidthAndLength) {
  test::for_each_simd_level([] {
    test::Random random(7);
    for (uint32_t width = 1; width <= cpu::most_code_bits; ++width)
      for (size_t octets : {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33, 64}) {
        const int32_t low = int32_t(random.below(1u << width)) - (1 << (width - 1));
        std::vector<uint32_t> codes;
        std::vector<int32_t> levels;
        cpu::CodedBits all;
        for (size_t i = 0; i < 8 * octets; ++i) {
          codes.push_back(uint32_t(random.below(uint64_t(1) << width)));
          levels.push_back(low + int32_t(codes.back()));
          all.levels |= uint32_t(levels.back());
          all.codes |= codes.back();
        }
        const size_t bytes = octets * width;
        std::vector<uint8_t> packed(bytes + 40, 170);
        const cpu::CodedBits found = cpu::pack_codes(levels, low, width, packed.data());
        EXPECT_EQ(found.levels, all.levels);
        EXPECT_EQ(found.codes, all.codes);
        ASSERT_EQ(digits_of(packed, bytes), digits_of(codes, width)) << width << " bits, " << octets;
        for (size_t i = bytes; i < packed.size(); ++i) ASSERT_EQ(packed[i], 170) << i - bytes;

        packed.resize(bytes);  // what lies behind is not read, which sanitizers see
        packed.shrink_to_fit();
        std::vector<int32_t> unpacked(8 * octets + 3, 42);
        const uint32_t greatest =
            cpu::unpack_codes(packed.data(), width, low, std::span(unpacked).first(8 * octets));
        EXPECT_EQ(greatest, codes.empty() ? 0 : *std::max_element(codes.begin(), codes.end()));
        ASSERT_TRUE(std::equal(levels.begin(), levels.end(), unpacked.begin())) << width << ' ' << octets;
        for (size_t i = levels.size(); i < unpacked.size(); ++i) ASSERT_EQ(unpacked[i], 42);
      }
  });
}

TEST(FixedCodes, OfALevelOutOfRangeShowBitsBeyondTheirWidth) {
  test::for_each_simd_level([] {
    for (uint32_t width = 1; width <= cpu::most_code_bits; ++width)
      for (size_t at : {0, 1, 31, 32, 63, 127}) {
        std::vector<uint8_t> packed(16 * width);
        for (int32_t stray : {-1, 1 << width}) {
          std::vector<int32_t> levels(128, 0);
          levels[at] = stray;
          EXPECT_NE(cpu::pack_codes(levels, 0, width, packed.data()).codes >> width, 0u)
              << width << ' ' << at;
        }
      }
  });
}

}  // namespace
}  // namespace jsq

// Bit streams: the published packings byte by byte, round trips, and what a reader notices of damage.
#include "kernels/cpu/bit_io.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "tests/kernels/data.hpp"

namespace jsq::cpu {
namespace {

std::string pack(uint32_t width, std::initializer_list<uint32_t> fields) {
  std::string bytes;
  BitWriter out(bytes);
  for (uint32_t field : fields) out.put(field, width);
  out.align();
  return bytes;
}

TEST(BitWriter, PutsTheFirstFieldIntoTheHighBits) {
  EXPECT_EQ(pack(2, {1, 3}), "\x70");
  EXPECT_EQ(pack(2, {3, 1}), "\xD0");
  EXPECT_EQ(pack(2, {2, 1}), "\x90");
  EXPECT_EQ(pack(4, {4, 15}), "\x4F");
  EXPECT_EQ(pack(4, {13, 7}), "\xD7");
  EXPECT_EQ(pack(4, {8, 7}), "\x87");
  EXPECT_EQ(pack(8, {129}), "\x81");
  EXPECT_EQ(pack(8, {128}), "\x80");
  EXPECT_EQ(pack(2, {0, 0, 0, 1, 1, 2, 2, 3}), "\x01\x6B");  // the raw mask of the worked vector
}

TEST(BitWriter, PadsTheLastByteWithZeros) {
  EXPECT_EQ(pack(3, {7}), "\xE0");
  EXPECT_EQ(pack(1, {1, 1, 1, 1, 1, 1, 1, 1, 1}), "\xFF\x80");
  EXPECT_EQ(pack(5, {}), "");
}

TEST(BitWriter, WritesUnaryNumbersAsOnesAndAZero) {
  for (uint64_t ones : {0, 1, 7, 8, 23, 24, 25, 47, 48, 100, 1000}) {
    std::string bytes;
    BitWriter out(bytes);
    out.put_unary(ones);
    out.put(1, 1);
    out.align();
    std::string expected((ones + 2 + 7) / 8, '\0');
    for (uint64_t i = 0; i < ones; ++i) expected[i / 8] = char(uint8_t(expected[i / 8]) | 0x80 >> i % 8);
    expected[(ones + 1) / 8] = char(uint8_t(expected[(ones + 1) / 8]) | 0x80 >> (ones + 1) % 8);
    EXPECT_EQ(bytes, expected) << ones;
    BitReader in(bytes);
    EXPECT_EQ(in.get_unary(1000), ones);
    EXPECT_EQ(in.bit(), 1u);
    EXPECT_FALSE(in.overrun());
  }
}

TEST(BitReader, ReadsBackAnySequenceOfFieldsAndAlignments) {
  test::Random random(5);
  for (int round = 0; round < 300; ++round) {
    struct Field {
      uint32_t value, count;
      bool align, unary;
    };
    std::vector<Field> fields(random.below(200));
    std::string bytes;
    BitWriter out(bytes);
    size_t bits = 0;
    for (Field& field : fields) {
      field.unary = random.below(10) == 0;
      field.count = uint32_t(random.below(33));
      field.value =
          field.unary ? uint32_t(random.below(90)) : uint32_t(random.word() & ((1ull << field.count) - 1));
      field.align = random.below(8) == 0;
      if (field.unary)
        out.put_unary(field.value);
      else
        out.put(field.value, field.count);
      bits += field.unary ? field.value + 1 : field.count;
      if (field.align) {
        out.align();
        bits = (bits + 7) / 8 * 8;
      }
    }
    out.align();
    ASSERT_EQ(bytes.size(), (bits + 7) / 8);
    BitReader in(bytes);
    for (const Field& field : fields) {
      ASSERT_EQ(field.unary ? in.get_unary(100) : in.get(field.count), field.value);
      ASSERT_TRUE(!field.align || in.align());
    }
    ASSERT_TRUE(in.align());
    ASSERT_EQ(in.consumed(), bytes.size());
    ASSERT_FALSE(in.overrun());
  }
}

TEST(BitReader, NoticesEveryPaddingBitThatIsNotZero) {
  for (uint32_t used = 1; used < 8; ++used)
    for (uint32_t flipped = used; flipped < 8; ++flipped) {
      const std::string bytes(1, char(0x80 >> flipped));
      BitReader in(bytes);
      in.get(used);
      EXPECT_FALSE(in.align()) << used << ' ' << flipped;
    }
}

TEST(BitReader, GivesZerosBehindTheEndAndCountsThemAsConsumed) {
  for (size_t size = 0; size < 12; ++size) {
    const std::string bytes(size, '\xFF');
    BitReader in(bytes);
    for (size_t i = 0; i < size; ++i) ASSERT_EQ(in.get(8), 0xFFu);
    ASSERT_EQ(in.consumed(), size);
    for (size_t i = 1; i < 40; ++i) {
      ASSERT_EQ(in.get(8), 0u);
      ASSERT_TRUE(in.align());
      ASSERT_EQ(in.consumed(), size + i);
    }
    ASSERT_TRUE(in.overrun());
  }
}

TEST(BitReader, StopsAUnaryNumberAtItsLimit) {
  const std::string bytes(100, '\xFF');
  BitReader in(bytes);
  EXPECT_EQ(in.get_unary(50), 0u);
  EXPECT_TRUE(in.overrun());
}

}  // namespace
}  // namespace jsq::cpu

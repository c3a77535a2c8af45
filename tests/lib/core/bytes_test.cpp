// ByteReader and ByteWriter: exact bytes, shortest integers, and a refusal for everything that is not there.
#include "lib/core/bytes.hpp"

#include <gtest/gtest.h>

#include <functional>

#include "tests/kernels/data.hpp"

namespace jsq {
namespace {

std::string refusal_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::damaged);
    return error.what();
  }
  return "";
}

TEST(ByteWriter, WritesLittleEndianIntegersAndLeb128) {
  ByteWriter out;
  out.u8(0x01);
  out.u16(0x0203);
  out.u32(0x04050607);
  out.u64(0x08090a0b0c0d0e0f);
  out.f32(1.0f);
  for (uint64_t value : {0ull, 127ull, 128ull, 300ull, 16384ull}) out.uvarint(value);
  out.string("ab");
  EXPECT_EQ(out.bytes(),
            std::string("\x01\x03\x02\x07\x06\x05\x04\x0f\x0e\x0d\x0c\x0b\x0a\x09\x08\x00\x00\x80\x3f"
                        "\x00\x7f\x80\x01\xac\x02\x80\x80\x01\x02"
                        "ab",
                        31));
}

TEST(ByteReader, ReadsBackEverySequenceAndEndsWhereItShould) {
  test::Random random(1);
  for (int round = 0; round < 500; ++round) {
    ByteWriter out;
    std::vector<std::pair<int, uint64_t>> fields(random.below(30));
    for (auto& [kind, value] : fields) {
      kind = int(random.below(6));
      value = random.word() >> random.below(64);
      switch (kind) {
        case 0:
          out.u8(uint8_t(value));
          break;
        case 1:
          out.u16(uint16_t(value));
          break;
        case 2:
          out.u32(uint32_t(value));
          break;
        case 3:
          out.u64(value);
          break;
        case 4:
          out.uvarint(value);
          break;
        default:
          out.string(std::string(value % 50, char(value)));
          break;
      }
    }
    const std::string bytes = out.take();
    ByteReader in(bytes, "fields");
    for (const auto& [kind, value] : fields) {
      switch (kind) {
        case 0:
          ASSERT_EQ(in.u8(), uint8_t(value));
          break;
        case 1:
          ASSERT_EQ(in.u16(), uint16_t(value));
          break;
        case 2:
          ASSERT_EQ(in.u32(), uint32_t(value));
          break;
        case 3:
          ASSERT_EQ(in.u64(), value);
          break;
        case 4:
          ASSERT_EQ(in.uvarint(), value);
          break;
        default:
          ASSERT_EQ(in.string(), std::string(value % 50, char(value)));
          break;
      }
    }
    ASSERT_EQ(in.remaining(), 0u);
    in.expect_end();
  }
}

TEST(ByteReader, RefusesEveryReadBeyondTheEndNamingStructureAndOffset) {
  for (size_t size = 0; size < 8; ++size) {
    const std::string bytes(size, '\x80');
    const auto with = [&](auto read) {
      return refusal_of([&] {
        ByteReader in(bytes, "the directory");
        read(in);
      });
    };
    EXPECT_TRUE(size >= 1 || !with([](ByteReader& in) { in.u8(); }).empty());
    EXPECT_TRUE(size >= 2 || !with([](ByteReader& in) { in.u16(); }).empty());
    EXPECT_TRUE(size >= 4 || !with([](ByteReader& in) { in.f32(); }).empty());
    EXPECT_EQ(with([](ByteReader& in) { in.u64(); }).rfind("the directory is damaged at offset 0", 0), 0u);
    EXPECT_EQ(with([](ByteReader& in) {
                in.uvarint();
              }).rfind("the directory is damaged at offset " + std::to_string(size), 0),
              0u);
    EXPECT_NE(with([&](ByteReader& in) { in.raw(size + 1); }), "");
    EXPECT_NE(with([&](ByteReader& in) { in.raw(UINT64_MAX); }), "");
  }
}

TEST(ByteReader, RefusesLengthsBeyondTheEndWithoutAllocating) {
  for (uint64_t claimed : {uint64_t(4), uint64_t(1) << 31, uint64_t(1) << 48, UINT64_MAX}) {
    ByteWriter out;
    out.uvarint(claimed);
    out.raw(std::string_view("abc"));
    EXPECT_NE(refusal_of([&] { ByteReader(out.bytes(), "x").string(); }), "");
    EXPECT_NE(refusal_of([&] { ByteReader(out.bytes(), "x").string(3); }), "");
  }
}

TEST(ByteReader, AcceptsOnlyTheShortestFormOfAnIntegerOfAtMost64Bits) {
  const auto refused = [](std::string_view bytes) {
    return !refusal_of([&] { ByteReader(bytes, "x").uvarint(); }).empty();
  };
  EXPECT_FALSE(refused(std::string_view("\x00", 1)));
  EXPECT_TRUE(refused(std::string_view("\x80\x00", 2)));
  EXPECT_TRUE(refused(std::string_view("\xff\x80\x00", 3)));
  EXPECT_FALSE(refused("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"));  // 2^64 - 1
  EXPECT_TRUE(refused("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"));
  EXPECT_TRUE(refused("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"));
  EXPECT_EQ(ByteReader("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "x").uvarint(), UINT64_MAX);
  EXPECT_NE(refusal_of([] { ByteReader("\x65", "x").uvarint(100); }).find("101"), std::string::npos);
  EXPECT_EQ(ByteReader("\x64", "x").uvarint(100), 100u);
}

TEST(ByteReader, RefusesTrailingBytes) {
  EXPECT_NE(refusal_of([] {
              ByteReader in("ab", "x");
              in.u8();
              in.expect_end();
            }).find("1 bytes"),
            std::string::npos);
}

}  // namespace
}  // namespace jsq

// The packers of levels: their bytes against worked vectors and codes written down by hand, and what holds
// for all of them: round trips, sizes told in advance, the choice of the smallest, and refusal of damage.
#include "lib/packers/levels.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <climits>
#include <cmath>
#include <cstdlib>

#include "jsq/error.hpp"
#include "lib/packers/elias.hpp"
#include "tests/kernels/data.hpp"

namespace jsq {
namespace {

using Levels = std::vector<int32_t>;
constexpr LevelPacker all_packers[] = {LevelPacker::fixed, LevelPacker::base243, LevelPacker::elias_sparse,
                                       LevelPacker::elias_dense, LevelPacker::entropy};
constexpr size_t lengths[] = {0, 1, 2, 3, 5, 7, 8, 9, 255, 65536, 65537};

std::string packed(LevelPacker packer, const Levels& levels, LevelRange range) {
  std::string bytes;
  pack_levels(packer, levels, range, bytes);
  return bytes;
}
Levels unpacked(LevelPacker packer, std::string_view bytes, LevelRange range, size_t n) {
  Levels levels(n, -77);
  unpack_levels(packer, bytes, range, levels, "the block");
  return levels;
}

/// The bytes of a string of 0 and 1; spaces and bars are for the reader. Zeros fill the last byte.
std::string bytes_of_bits(const std::string& text) {
  std::string bytes;
  uint32_t filled = 0, byte = 0;
  for (char c : text) {
    if (c != '0' && c != '1') continue;
    byte = 2 * byte + uint32_t(c - '0');
    if (++filled == 8) {
      bytes.push_back(char(uint8_t(byte)));
      filled = byte = 0;
    }
  }
  if (filled > 0) bytes.push_back(char(uint8_t(byte << (8 - filled))));
  return bytes;
}
std::string bytes_of(std::initializer_list<int> values) {
  std::string bytes;
  for (int value : values) bytes.push_back(char(uint8_t(value)));
  return bytes;
}

/// Elias' definition as it is written: start with "0"; while n > 1, prepend n in binary and go on with its
/// length - 1.
std::string omega_text(uint64_t n) {
  std::string code = "0";
  while (n > 1) {
    std::string binary;
    for (uint64_t rest = n; rest > 0; rest /= 2) binary.insert(0, 1, rest % 2 ? '1' : '0');
    code = binary + code;
    n = binary.size() - 1;
  }
  return code;
}
std::string sparse_text(const Levels& levels) {
  std::string codes;
  int64_t previous = -1;
  uint64_t count = 0;
  for (size_t i = 0; i < levels.size(); ++i) {
    if (levels[i] == 0) continue;
    ++count;
    codes += omega_text(uint64_t(int64_t(i) - previous)) + (levels[i] < 0 ? "1" : "0");
    codes += omega_text(uint64_t(std::abs(int64_t(levels[i]))));
    previous = int64_t(i);
  }
  return omega_text(count + 1) + codes;
}
std::string dense_text(const Levels& levels) {
  std::string codes;
  for (int32_t level : levels) {
    codes += omega_text(uint64_t(std::abs(int64_t(level))) + 1);
    if (level != 0) codes += level < 0 ? "1" : "0";
  }
  return codes;
}

// QSGD's worked example of eight values, by norm and number of levels.
const Levels max_norm_4 = {0, -1, 0, 2, 0, 0, 3, -4};
const Levels max_norm_7 = {1, -2, 0, 4, 0, 0, 5, -7};
const Levels l2_norm_4 = {0, -1, 0, 2, 0, 0, 2, -3};
const Levels l2_norm_1 = {0, 0, 0, 1, 0, 0, 0, -1};

TEST(OmegaCode, IsThePublishedCode) {
  const std::pair<uint32_t, std::string> known[] = {
      {1, "0"},       {2, "100"},      {3, "110"},          {4, "101000"},         {7, "101110"},
      {8, "1110000"}, {15, "1111110"}, {16, "10100100000"}, {100, "1011011001000"}};
  for (const auto& [value, text] : known) {
    const OmegaCode code = omega_code(value);
    std::string bits;
    for (uint32_t i = code.length; i-- > 0;) bits += code.bits >> i & 1 ? '1' : '0';
    EXPECT_EQ(bits, text) << value;
    EXPECT_EQ(omega_length(value), text.size()) << value;
  }
}

TEST(OmegaCode, ReadsWhatTheDefinitionWritesForEveryBinaryLength) {
  Levels values;
  std::string text;
  std::vector<uint32_t> expected;
  auto add = [&](uint32_t value) {
    expected.push_back(value);
    text += omega_text(value) + "10";  // two plain bits in between
  };
  for (uint32_t value = 1; value < 3000; ++value) add(value);
  for (uint32_t width = 12; width <= 32; ++width)
    for (uint32_t value :
         {uint32_t(1ull << (width - 1)), uint32_t((1ull << width) - 1), 0x9ABCDEF1u >> (32 - width)})
      add(value);
  const std::string bytes = bytes_of_bits(text);
  OmegaReader in(bytes);
  for (uint32_t value : expected) {
    in.refill();
    ASSERT_EQ(in.omega(), value);
    ASSERT_EQ(in.take(2), 2u);
  }
  EXPECT_TRUE(in.finished());

  std::string written;
  cpu::BitWriter out(written);
  for (uint32_t value : expected) put_omega(out, value, 2, 2);
  out.align();
  EXPECT_EQ(written, bytes);
}

TEST(OmegaCode, RefusesValuesOfMoreThan32Bits) {
  const std::string too_long = bytes_of_bits(omega_text(1ull << 32));
  OmegaReader in(too_long);
  in.refill();
  EXPECT_EQ(in.omega(), 0u);
}

TEST(EliasSparse, HasTheBitsOfTheWorkedExample) {
  // Four levels that are not 0: omega(5), and then the published 27 bits.
  EXPECT_EQ(packed(LevelPacker::elias_sparse, max_norm_4, {-4, 4}),
            bytes_of_bits("101010 | 100 1 0 | 100 0 100 | 110 0 110 | 0 1 101000"));
  EXPECT_EQ(packed(LevelPacker::elias_sparse, l2_norm_1, {-1, 1}),
            bytes_of_bits("110 | 101000 0 0 | 101000 1 0"));
}

TEST(EliasSparse, HasTheLengthsOfTheWorkedExamplesAfterTheCount) {
  const LevelRange range = {-7, 7};
  EXPECT_EQ(packed_level_bits(LevelPacker::elias_sparse, max_norm_4, range), 27 + omega_text(5).size());
  EXPECT_EQ(packed_level_bits(LevelPacker::elias_sparse, max_norm_7, range), 36 + omega_text(6).size());
  EXPECT_EQ(packed_level_bits(LevelPacker::elias_sparse, l2_norm_4, range), 24 + omega_text(5).size());
  EXPECT_EQ(packed_level_bits(LevelPacker::elias_sparse, l2_norm_1, range), 16 + omega_text(3).size());
}

TEST(EliasDense, HasTheBitsAndLengthsOfTheWorkedExamples) {
  EXPECT_EQ(packed_level_bits(LevelPacker::elias_dense, max_norm_4, {-7, 7}), 26u);
  EXPECT_EQ(packed_level_bits(LevelPacker::elias_dense, max_norm_7, {-7, 7}), 33u);
  EXPECT_EQ(packed(LevelPacker::elias_dense, max_norm_4, {-4, 4}),
            bytes_of_bits("0 100 1 0 110 0 0 0 101000 0 101010 1"));
}

TEST(EliasLayouts, AreTheDefinitionForLevelsOfEverySize) {
  test::Random random(1);
  for (int round = 0; round < 300; ++round) {
    Levels levels(random.below(200));
    const uint64_t zeros = random.below(50), width = 1 + random.below(32);
    for (int32_t& level : levels)
      level = random.below(50) < zeros ? 0 : int32_t(int64_t(random.word()) >> (64 - width));
    const LevelRange range = {INT32_MIN, INT32_MAX};
    if (levels.empty()) continue;
    ASSERT_EQ(packed(LevelPacker::elias_sparse, levels, range), bytes_of_bits(sparse_text(levels)));
    ASSERT_EQ(packed_level_bits(LevelPacker::elias_sparse, levels, range), sparse_text(levels).size());
    ASSERT_EQ(packed(LevelPacker::elias_dense, levels, range), bytes_of_bits(dense_text(levels)));
    ASSERT_EQ(packed_level_bits(LevelPacker::elias_dense, levels, range), dense_text(levels).size());
  }
}

TEST(Fixed, TakesTheFewestBitsForTheRange) {
  EXPECT_EQ(packed(LevelPacker::fixed, {-3, 4, 0}, {-3, 4}), bytes_of_bits("000 111 011"));
  EXPECT_EQ(packed(LevelPacker::fixed, {-1, 0, 1, 0, 1}, {-1, 1}), bytes_of_bits("00 01 10 01 10"));
  EXPECT_EQ(packed(LevelPacker::fixed, {0, 1, 1, 0, 0, 1, 0, 1, 1}, {0, 1}), bytes_of_bits("01100101 1"));
  EXPECT_EQ(packed(LevelPacker::fixed, {5, 5, 5}, {5, 5}), "");
  EXPECT_EQ(packed(LevelPacker::fixed, {INT32_MAX, INT32_MIN, 0}, {INT32_MIN, INT32_MAX}),
            bytes_of({0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0x80, 0, 0, 0}));
  EXPECT_EQ(packed_level_bits(LevelPacker::fixed, Levels(10, 0), {-127, 127}), 80u);
  EXPECT_EQ(packed_level_bits(LevelPacker::fixed, Levels(10, 0), {-128, 128}), 90u);
}

TEST(Fixed, RefusesCodesBeyondTheRange) {
  for (size_t n : {size_t(1), size_t(8), size_t(12)}) {
    std::string bytes((2 * n + 7) / 8, '\0');
    bytes[0] = char(0xC0);  // code 3 of three levels
    EXPECT_THROW(unpacked(LevelPacker::fixed, bytes, {-1, 1}, n), Error);
  }
}

TEST(Base243, HasHandComputedBytes) {
  // TernGrad's worked example: trits 1 1 1 2 1 are 81 + 27 + 9 + 6 + 1, and 1 1 0 with two missing ones 81
  // + 27.
  EXPECT_EQ(packed(LevelPacker::base243, l2_norm_1, {-1, 1}), bytes_of({124, 108}));
  EXPECT_EQ(packed(LevelPacker::base243, Levels(5, 1), {-1, 1}), bytes_of({242}));
  EXPECT_EQ(packed(LevelPacker::base243, {7, 8, 9, 7, 8}, {7, 9}), bytes_of({0 + 27 + 18 + 0 + 1}));
  EXPECT_EQ(packed_level_bits(LevelPacker::base243, Levels(11, 0), {0, 2}), 24u);
}

TEST(Base243, RefusesBytesAbove242AndMissingTritsThatAreNotZero) {
  for (int byte = 0; byte < 256; ++byte) {
    const std::string whole = bytes_of({byte});
    if (byte <= 242)
      EXPECT_NO_THROW(unpacked(LevelPacker::base243, whole, {-1, 1}, 5));
    else
      EXPECT_THROW(unpacked(LevelPacker::base243, whole, {-1, 1}, 5), Error);
    if (byte % 27 == 0 && byte < 243)
      EXPECT_NO_THROW(unpacked(LevelPacker::base243, whole, {-1, 1}, 2));
    else
      EXPECT_THROW(unpacked(LevelPacker::base243, whole, {-1, 1}, 2), Error);
  }
}

TEST(Entropy, HasHandComputedBytesWithoutARansStream) {
  // One token has all the weight, 7680 (L = 13, x = 7): no states and no words.
  EXPECT_EQ(packed(LevelPacker::entropy, Levels(100, 0), {-1, 1}), bytes_of_bits("00 00 0000 | 1 1101 111"));
  EXPECT_EQ(packed(LevelPacker::entropy, Levels(3, -1), {-1, 1}),
            bytes_of_bits("00 00 0001 | 1 0000 1101 111 0000 | 111"));
  EXPECT_EQ(packed(LevelPacker::entropy, Levels(3, -1), {-1, 0}),
            bytes_of_bits("00 00 0001 | 1 0000 1101 111 0000"));
  // 20 = 16 + 4: the second octave from 8, token 9 with four raw bits.
  EXPECT_EQ(packed(LevelPacker::entropy, {-20}, {-100, 100}),
            bytes_of_bits("01 00 1001 | 1" + std::string(36, '0') + "1101 111 0000 | 1 0100"));
  // 3000 = 2048 + 952: the tenth octave from 4, token 13 with eleven raw bits; no sign where none is
  // negative.
  EXPECT_EQ(packed(LevelPacker::entropy, {3000}, {0, 3000}),
            bytes_of_bits("10 00 1101 | 1" + std::string(52, '0') + "1101 111 0000 | 01110111000"));
}

TEST(Entropy, HasAHandComputedRansStream) {
  // Two tokens of frequency 2048. Pushed last to first from 65536: 1 gives 32 * 4096 + 2048 = 133120, 0 gives
  // 65 * 4096 = 266240 = 0x041000. No words.
  const std::string head = bytes_of_bits("00 00 0001 | 1 1101 000 1101 000 0");
  const std::string stream = bytes_of({0, 0x00, 0x10, 0x04, 0x00});
  EXPECT_EQ(packed(LevelPacker::entropy, {0, 1}, {0, 1}), head + stream);
  EXPECT_EQ(packed(LevelPacker::entropy, {0, 1}, {-1, 1}), head + stream + bytes_of({0x00}));
  EXPECT_EQ(packed(LevelPacker::entropy, {0, -1}, {-1, 1}), head + stream + bytes_of({0x80}));
}

TEST(Entropy, CodesLargeLaplacianBlocksWithinTwoPercentOfTheirEntropy) {
  test::Random random(2);
  for (double scale : {0.3, 1.0, 3.0, 8.0, 30.0, 200.0}) {
    Levels levels(65536);
    for (int32_t& level : levels) level = int32_t(std::lround(double(random.laplace()) * scale));
    const double entropy = level_entropy_bits(levels);
    const double bits = 8.0 * double(packed(LevelPacker::entropy, levels, {-16383, 16383}).size());
    EXPECT_LE(bits, 1.02 * entropy) << scale;
    EXPECT_GE(bits, entropy) << scale;
  }
}

TEST(Entropy, UsesTheLanesThatTheStreamPaysFor) {
  auto lanes = [](size_t n) {
    Levels levels(n);
    for (size_t i = 0; i < n; ++i) levels[i] = int32_t(i % 16);  // four bits each
    return 1u << (uint8_t(packed(LevelPacker::entropy, levels, {0, 15})[0]) >> 4 & 3);
  };
  EXPECT_EQ(lanes(64), 1u);
  EXPECT_EQ(lanes(1 << 16), 8u);
  EXPECT_LE(packed(LevelPacker::entropy, {0, 1, 0, 2}, {-2, 2}).size(), 10u);
}

/// Levels of a range: kind 0 random, 1 the lowest, 2 the highest, 3 ends and zeros, 4 few non-zeros, 5 near
/// zero, 6 alternating.
Levels make_levels(LevelRange range, size_t n, int kind, uint64_t seed) {
  test::Random random(seed);
  Levels levels(n);
  const int32_t zero = std::clamp(0, range.low, range.high);
  for (size_t i = 0; i < n; ++i) {
    const auto any = int32_t(range.low + int64_t(random.below(range.symbols())));
    const int32_t end = random.below(2) ? range.low : range.high;
    const int64_t near = int64_t(zero) + std::lround(double(random.laplace()) * 2);
    switch (kind) {
      case 0:
        levels[i] = any;
        break;
      case 1:
        levels[i] = range.low;
        break;
      case 2:
        levels[i] = range.high;
        break;
      case 3:
        levels[i] = random.below(3) ? zero : end;
        break;
      case 4:
        levels[i] = random.below(100) ? zero : any;
        break;
      case 5:
        levels[i] = int32_t(std::clamp<int64_t>(near, range.low, range.high));
        break;
      default:
        levels[i] = i % 2 ? range.high : range.low;
        break;
    }
  }
  return levels;
}
constexpr int kinds = 7;
constexpr LevelRange ranges[] = {{0, 0},          {0, 1},
                                 {-1, 0},         {-1, 1},
                                 {0, 2},          {5, 7},
                                 {-2, 2},         {-4, 3},
                                 {-7, 7},         {0, 15},
                                 {-15, 15},       {-16, 16},
                                 {-31, 32},       {-127, 127},
                                 {-128, 127},     {0, 300},
                                 {-2047, 2047},   {-2048, 5},
                                 {-16383, 16383}, {-16384, 1},
                                 {-70000, 100},   {INT32_MIN, INT32_MAX},
                                 {-9, -3}};

TEST(PackLevels, ComesBackForEveryPackerRangeAndLengthInTheSizeTold) {
  uint64_t seed = 1;
  for (LevelRange range : ranges)
    for (size_t n : lengths)
      for (int kind = 0; kind < kinds; ++kind) {
        if (n > 1000 && (kind == 1 || kind == 2 || kind == 6) && range.symbols() > 40) continue;
        const Levels levels = make_levels(range, n, kind, ++seed);
        for (LevelPacker packer : all_packers) {
          if (!packer_allows(packer, range)) continue;
          SCOPED_TRACE(testing::Message() << "packer " << int(packer) << ", range " << range.low << ".."
                                          << range.high << ", n = " << n << ", kind " << kind);
          std::string bytes = "before";
          pack_levels(packer, levels, range, bytes);
          ASSERT_EQ(bytes.substr(0, 6), "before");
          bytes.erase(0, 6);
          ASSERT_EQ(unpacked(packer, bytes, range, n), levels);
          ASSERT_EQ((packed_level_bits(packer, levels, range) + 7) / 8, bytes.size());
          ASSERT_TRUE(n > 0 || bytes.empty());
        }
      }
}

TEST(PackLevels, RefusesLevelsAndPackersThatDoNotSuitTheRange) {
  std::string bytes;
  auto refused = [&](LevelPacker packer, const Levels& levels, LevelRange range) {
    try {
      pack_levels(packer, levels, range, bytes);
    } catch (const Error& error) {
      return error.code() == Errc::internal;
    }
    return false;
  };
  EXPECT_TRUE(refused(LevelPacker::fixed, {0, 4}, {-3, 3}));
  EXPECT_TRUE(refused(LevelPacker::fixed, {0, -4}, {-3, 3}));
  EXPECT_TRUE(refused(LevelPacker::base243, {0}, {-2, 2}));
  EXPECT_TRUE(refused(LevelPacker::elias_dense, {1}, {1, 2}));
  EXPECT_TRUE(refused(LevelPacker::entropy, {0}, {0, 16384}));
  EXPECT_EQ(bytes, "");
}

TEST(PackerAllows, TheRangesThatItsLayoutCanHold) {
  EXPECT_TRUE(packer_allows(LevelPacker::fixed, {5, 9}));
  EXPECT_FALSE(packer_allows(LevelPacker::fixed, {1, 0}));
  EXPECT_TRUE(packer_allows(LevelPacker::base243, {4, 6}));
  EXPECT_FALSE(packer_allows(LevelPacker::base243, {0, 1}));
  EXPECT_FALSE(packer_allows(LevelPacker::base243, {0, 3}));
  for (LevelPacker elias : {LevelPacker::elias_sparse, LevelPacker::elias_dense}) {
    EXPECT_TRUE(packer_allows(elias, {INT32_MIN, INT32_MAX}));
    EXPECT_TRUE(packer_allows(elias, {0, 5}));
    EXPECT_FALSE(packer_allows(elias, {1, 5}));
    EXPECT_FALSE(packer_allows(elias, {-5, -1}));
  }
  EXPECT_TRUE(packer_allows(LevelPacker::entropy, {-16383, 16383}));
  EXPECT_FALSE(packer_allows(LevelPacker::entropy, {-16384, 0}));
  EXPECT_FALSE(packer_allows(LevelPacker::entropy, {0, 16384}));
  EXPECT_FALSE(packer_allows(LevelPacker::entropy, {1, 2}));
  EXPECT_FALSE(packer_allows(LevelPacker(5), {0, 1}));
}

TEST(SmallestPacker, IsTheFirstOfTheSmallestRealEncodes) {
  test::Random random(3);
  for (int round = 0; round < 3000; ++round) {
    const LevelRange range = ranges[random.below(std::size(ranges))];
    const auto n = size_t(random.below(round % 50 == 0 ? 70000 : 1000));
    Levels levels = make_levels(range, n, int(random.below(kinds)), random.word());
    const uint64_t zeros = random.below(3) ? 0 : random.below(1000);
    if (range.low <= 0 && range.high >= 0)
      for (int32_t& level : levels)
        if (random.below(1000) < zeros) level = 0;
    uint64_t least = UINT64_MAX, least_exact = UINT64_MAX, entropy = UINT64_MAX;
    LevelPacker first = LevelPacker::fixed;
    for (LevelPacker packer : all_packers) {
      if (!packer_allows(packer, range)) continue;
      const uint64_t bytes = packed(packer, levels, range).size();
      least = std::min(least, bytes);
      if (packer == LevelPacker::entropy) {
        entropy = bytes;
      } else if (bytes < least_exact) {
        least_exact = bytes;
        first = packer;
      }
    }
    const LevelPacker chosen = smallest_packer(levels, range);
    ASSERT_TRUE(packer_allows(chosen, range));
    const uint64_t slack = least / 256 + 8;
    ASSERT_LE(packed(chosen, levels, range).size(), least + slack);
    ASSERT_TRUE(chosen == first || chosen == LevelPacker::entropy);
    ASSERT_FALSE(chosen == LevelPacker::entropy && entropy > least_exact + slack);
    ASSERT_FALSE(chosen == first && entropy < least_exact && least_exact - entropy > slack);
  }
}

TEST(SmallestPacker, IsTheOneThatFitsTheData) {
  test::Random random(4);
  Levels levels(20000);
  for (int32_t& level : levels) level = int32_t(random.below(16));
  EXPECT_EQ(smallest_packer(levels, {0, 15}), LevelPacker::fixed);
  for (int32_t& level : levels) level = int32_t(random.below(3)) - 1;
  EXPECT_EQ(smallest_packer(levels, {-1, 1}), LevelPacker::entropy);  // 1.585 bits against 1.6
  levels.resize(100);
  EXPECT_EQ(smallest_packer(levels, {-1, 1}), LevelPacker::base243);  // no room for a table
  EXPECT_EQ(smallest_packer(Levels(40, 0), {-30000, 30000}), LevelPacker::elias_sparse);
  EXPECT_EQ(smallest_packer(Levels(8, 0), {-30000, 30000}), LevelPacker::elias_sparse);  // dense is as small
  levels.assign(1000, 0);
  for (size_t i = 0; i < levels.size(); i += 2) levels[i] = 1;
  EXPECT_EQ(smallest_packer(levels, {-30000, 30000}), LevelPacker::elias_dense);
  EXPECT_EQ(smallest_packer({}, {-1, 1}), LevelPacker::fixed);
}

TEST(UnpackLevels, RefusesEveryTruncationAndEveryExtension) {
  for (LevelRange range : {LevelRange{-1, 1}, LevelRange{-7, 7}, LevelRange{-300, 300}, LevelRange{0, 9000}})
    for (int kind = 0; kind < kinds; ++kind)
      for (LevelPacker packer : all_packers) {
        if (!packer_allows(packer, range)) continue;
        const Levels levels = make_levels(range, 61, kind, 7);
        const std::string bytes = packed(packer, levels, range);
        for (size_t size = 0; size < bytes.size(); ++size) {
          try {
            unpacked(packer, std::string_view(bytes).substr(0, size), range, levels.size());
            FAIL() << "packer " << int(packer) << " takes " << size << " of " << bytes.size() << " bytes";
          } catch (const Error& error) {
            ASSERT_EQ(error.code(), Errc::damaged);
            ASSERT_EQ(std::string(error.what()).rfind("the block", 0), 0u);
          }
        }
        EXPECT_THROW(unpacked(packer, bytes + '\0', range, levels.size()), Error);
        EXPECT_THROW(unpacked(packer, bytes + std::string(100, 'x'), range, levels.size()), Error);
      }
  EXPECT_THROW(unpacked(LevelPacker::elias_dense, std::string(1, '\0'), {-1, 1}, 0), Error);
}

/// Damaged bytes give Error damaged or levels of the range, and nothing else.
void expect_safe(LevelPacker packer, const std::string& bytes, LevelRange range, size_t n) {
  try {
    for (int32_t level : unpacked(packer, bytes, range, n))
      ASSERT_TRUE(level >= range.low && level <= range.high);
  } catch (const Error& error) {
    ASSERT_EQ(error.code(), Errc::damaged);
  }
}

TEST(UnpackLevels, GivesLevelsInRangeOrRefusesForEveryFlippedBit) {
  for (LevelRange range :
       {LevelRange{-1, 1}, LevelRange{-7, 6}, LevelRange{0, 12}, LevelRange{-300, 300}, LevelRange{-9000, 0}})
    for (int kind = 0; kind < kinds; ++kind)
      for (LevelPacker packer : all_packers) {
        if (!packer_allows(packer, range)) continue;
        const std::string bytes = packed(packer, make_levels(range, 77, kind, 8), range);
        for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
          std::string flipped = bytes;
          flipped[bit / 8] = char(flipped[bit / 8] ^ (0x80 >> bit % 8));
          expect_safe(packer, flipped, range, 77);
        }
      }
}

TEST(UnpackLevels, GivesLevelsInRangeOrRefusesForAnyBytes) {
  test::Random random(5);
  for (int round = 0; round < 20000; ++round) {
    const LevelRange range = ranges[random.below(std::size(ranges))];
    const auto packer = LevelPacker(random.below(level_packers));
    const auto n = size_t(random.below(50));
    const uint64_t kind = random.below(3);
    std::string bytes(random.below(60), '\0');
    for (char& byte : bytes)
      byte = kind == 0 ? char(random.word()) : kind == 1 ? char(random.word() & random.word()) : char(0xff);
    expect_safe(packer, bytes, range, n);
  }
}

TEST(UnpackLevels, RefusesPaddingThatIsNotZero) {
  const Levels levels = {1, 0, -1};
  for (LevelPacker packer :
       {LevelPacker::fixed, LevelPacker::elias_sparse, LevelPacker::elias_dense, LevelPacker::entropy}) {
    std::string bytes = packed(packer, levels, {-1, 1});
    const uint64_t bits = packed_level_bits(packer, levels, {-1, 1});
    ASSERT_NE(bits % 8, 0u);
    bytes.back() = char(bytes.back() | 1);
    EXPECT_THROW(unpacked(packer, bytes, {-1, 1}, 3), Error) << int(packer);
  }
}

TEST(LevelEntropy, IsThatOfTheHistogram) {
  EXPECT_EQ(level_entropy_bits({}), 0);
  EXPECT_EQ(level_entropy_bits(Levels{5, 5, 5}), 0);
  EXPECT_DOUBLE_EQ(level_entropy_bits(Levels{0, 0, 1, 1}), 4);
  EXPECT_DOUBLE_EQ(level_entropy_bits(Levels{1, 2, 3, 4, -1, -2, -3, -4}), 24);
  EXPECT_DOUBLE_EQ(level_entropy_bits(Levels{0, 0, 0, 1}), 8 - 3 * std::log2(3.0));
  EXPECT_DOUBLE_EQ(level_entropy_bits(Levels{INT32_MIN, INT32_MAX, INT32_MIN, INT32_MAX}), 4);
}

}  // namespace
}  // namespace jsq

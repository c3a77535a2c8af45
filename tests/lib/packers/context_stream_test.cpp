// Context streams: what was coded comes back, side symbols too, at every length and number of lanes; damage
// is refused.
#include "lib/packers/context_stream.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "jsq/error.hpp"
#include "kernels/element/philox.hpp"

namespace jsq {
namespace {

uint32_t random_word(uint32_t i, uint32_t stream) {
  return element::philox4x32_10({{i, stream, 0, 0}}, 7, 7).word[0];
}

ContextCoder coder_of(int lowest, int highest, uint16_t mantissa = 32768, int16_t exponent = -15) {
  ContextModel model;
  model.lowest = lowest;
  for (int c = lowest; c <= highest; ++c) {
    Ladder ladder{.rungs = uint32_t(c < 0 ? 2 : 6), .closed = false};
    ladder.odds.fill(int8_t(-2 * c));
    model.tables.push_back(ladder);
  }
  model.escapes = {.rungs = 32, .closed = true};
  model.has_escapes = true;
  Reconstruction values;
  values.mantissa = mantissa;
  values.exponent = exponent;
  ContextCoder coder(model, values);
  coder.prepare_decoding();
  return coder;
}

struct Elements {
  std::vector<ContextClass> classes;
  ActiveLevels active;
  std::vector<float> expected;  ///< level x step, step a power of two
};

Elements random_elements(const ContextCoder& coder, size_t count, int lowest, int highest) {
  Elements made;
  for (uint32_t i = 0; i < count; ++i) {
    const int c = lowest - 3 + int(random_word(i, 1) % uint32_t(highest - lowest + 6));
    const ContextClass k = coder.class_of(c);
    made.classes.push_back(k);
    const double scale = std::exp2(c / 2.0), u = (random_word(i, 2) + 0.5) / 4294967296.0;
    int32_t level = k == 0 ? 0 : int32_t(-scale * std::log(u));
    if (k > 0 && random_word(i, 3) % 997 == 0)
      level = int32_t(random_word(i, 4) >> 2);  // an outlier of any size
    if (random_word(i, 5) & 1) level = -level;
    if (level != 0 || coder.use(k).raw_bits > 0) {
      made.active.positions.push_back(i);
      made.active.levels.push_back(level);
    }
    made.expected.push_back(float(level) * float(coder.values().step()));
  }
  return made;
}

TEST(ContextStream, GivesBackLevelsOfEverySizeInEveryContext) {
  for (const auto& [lowest, highest] :
       {std::pair(-6, 5), std::pair(-4, 2), std::pair(0, 0), std::pair(3, 4), std::pair(4, 5)}) {
    const ContextCoder coder = coder_of(lowest, highest);
    for (size_t count : {0, 1, 7, 8, 9, 63, 1000, 40000}) {
      const Elements made = random_elements(coder, count, lowest, highest + 8);
      std::string bytes;
      coder.encode({}, made.classes, made.active, bytes);
      ContextReader reader(coder, bytes, "stream");
      std::vector<float> values(count, 7.0f), reconstructed(count, 7.0f);
      reader.elements(made.classes, values);
      EXPECT_EQ(values, made.expected) << lowest << ' ' << highest << ' ' << count;
      coder.reconstruct(made.classes, made.active, reconstructed);
      EXPECT_EQ(reconstructed, values);
    }
  }
}

TEST(ContextStream, SideSymbolsComeBackAndAdapt) {
  const ContextCoder coder = coder_of(-2, 2);
  SideWriter side;
  AdaptiveTable writing, reading;
  std::vector<uint32_t> symbols;
  for (uint32_t i = 0; i < 70000; ++i) {
    symbols.push_back(random_word(i, 9) % 16 < 12 ? 3 : random_word(i, 8) % 16);
    side.adaptive(writing, symbols.back());
    if (i % 5 == 0) side.nibble(i / 5 % 16);
  }
  // 3 in 0.766 of the cases, each other symbol in 0.0156: 1.70 bits of entropy, and 4 bits every fifth time.
  // A table that follows quickly is never quite right.
  EXPECT_LT(double(side.bits_q16()) / 65536 / 70000, 1.70 + 0.8 + 0.3);
  std::string bytes;
  coder.encode(side.symbols(), {}, {}, bytes);
  EXPECT_NEAR(double(bytes.size()), double(side.bits_q16()) / 65536 / 8 + 48, 24);
  ContextReader reader(coder, bytes, "stream");
  for (uint32_t i = 0; i < 70000; ++i) {
    ASSERT_EQ(reader.adaptive(reading), symbols[i]) << i;
    if (i % 5 == 0) {
      ASSERT_EQ(reader.nibble(), i / 5 % 16) << i;
    }
  }
  reader.elements({}, {});
}

TEST(ContextStream, WhatIsBelowTheLowestContextTakesNothing) {
  const ContextCoder coder = coder_of(-2, 2);
  const std::vector<ContextClass> classes(100000, 0);
  std::string bytes;
  coder.encode({}, classes, {}, bytes);
  EXPECT_EQ(bytes.size(), 4u);  // one state
}

TEST(ContextStream, EveryTruncationIsRefused) {
  const ContextCoder coder = coder_of(-4, 5);
  const Elements made = random_elements(coder, 3000, -4, 9);
  std::string bytes;
  coder.encode({}, made.classes, made.active, bytes);
  ASSERT_EQ(context_lanes(bytes.size()), 8u);
  std::vector<float> values(made.classes.size());
  for (size_t size = 0; size < bytes.size(); ++size) {
    const std::vector<char> cut(bytes.begin(),
                                bytes.begin() + std::ptrdiff_t(size));  // exact, for sanitizers
    EXPECT_THROW(
        {
          ContextReader reader(coder, {cut.data(), cut.size()}, "stream");
          reader.elements(made.classes, values);
        },
        Error)
        << size;
  }
}

TEST(Reconstruction, ValuesAreThoseOfTheSpecification) {
  Reconstruction values;
  values.mantissa = 40000;
  values.exponent = -20;
  values.has_offsets = true;
  values.offsets = {{5, -3, 1}, {0, 0, 0}};
  // (256 x 1 + 8 x 5) x 40000 x 2^-28, and so on; with raw bits no offsets.
  EXPECT_EQ(values.value({0, 0}, 1), float(296.0 * 40000 / 268435456));
  EXPECT_EQ(values.value({0, 0}, -2), float(-488.0 * 40000 / 268435456));
  EXPECT_EQ(values.value({0, 0}, 9), float((9 * 256 + 8.0) * 40000 / 268435456));
  EXPECT_EQ(values.value({0, 2}, -9), float(-9.0 * 256 * 40000 / 268435456));
  EXPECT_EQ(values.value({0, 0}, 0), 0.0f);
  // 40000 2^-20 = 0.0381: 2 log2 of it is -9.42.
  EXPECT_EQ(values.step_octaves(), -9);
  values.exponent = 120;
  EXPECT_EQ(values.value({1, 0}, 100000), std::numeric_limits<float>::max());
}

}  // namespace
}  // namespace jsq

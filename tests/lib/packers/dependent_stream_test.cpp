// Streams of dependent levels: what was coded comes back at every length and number of lanes, ranges begin
// anew, damage is refused.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "jsq/error.hpp"
#include "kernels/element/philox.hpp"
#include "lib/packers/context_stream.hpp"

namespace jsq {
namespace {

uint32_t random_word(uint32_t i, uint32_t stream) {
  return element::philox4x32_10({{i, stream, 0, 0}}, 7, 7).word[0];
}

ContextCoder coder_of(int lowest, int highest) {
  ContextModel model;
  model.lowest = lowest;
  for (int c = lowest; c <= highest; ++c) {
    Ladder ladder{.rungs = uint32_t(c < 0 ? 2 : 6), .closed = false};
    std::fill_n(ladder.odds.begin(), ladder.rungs, int8_t(-2 * c));
    model.tables.push_back(ladder);
    ladder.odds[0] = int8_t(-2 * c - 5);
    ladder.odds[ladder.rungs++] = 3;
    model.shifted.push_back(ladder);
  }
  model.escapes = {.rungs = 32, .closed = true};
  model.has_escapes = true;
  Reconstruction values;  // a step of 1
  values.exponent = -15;
  ContextCoder coder(model, values);
  coder.prepare_decoding();
  return coder;
}

struct Elements {
  std::vector<ContextClass> classes;
  ActiveLevels active;
  std::vector<float> expected;  ///< by the table of states in SPEC.md
};

Elements random_elements(const ContextCoder& coder, size_t count, int lowest, int highest,
                         std::vector<uint32_t> begins) {
  constexpr int after_even[8] = {0, 5, 1, 6, 2, 4, 3, 7}, after_odd[8] = {2, 7, 3, 4, 0, 6, 1, 5};
  Elements made;
  made.active.begins = std::move(begins);
  int state = 0;
  for (uint32_t i = 0; i < count; ++i) {
    if (std::count(made.active.begins.begin(), made.active.begins.end(), i) > 0) state = 0;
    const int c = lowest - 3 + int(random_word(i, 1) % uint32_t(highest - lowest + 6));
    const ContextClass k = coder.class_of(c);
    made.classes.push_back(k);
    const double scale = std::exp2(c / 2.0), u = (random_word(i, 2) + 0.5) / 4294967296.0;
    int32_t level = k == 0 ? 0 : int32_t(-scale * std::log(u));
    if (k > 0 && random_word(i, 3) % 997 == 0) level = int32_t(random_word(i, 4) >> 2);
    if (random_word(i, 5) & 1) level = -level;
    if (level != 0 || coder.use(k).raw_bits > 0) {
      made.active.positions.push_back(i);
      made.active.levels.push_back(level);
    }
    const double magnitude = std::abs(level) - (level != 0 && state % 2 == 1 ? 0.5 : 0.0);
    made.expected.push_back(float(level < 0 ? -magnitude : magnitude));
    if (k > 0) state = level & 1 ? after_odd[state] : after_even[state];
  }
  return made;
}

TEST(DependentStream, GivesBackLevelsOfEverySizeInEveryContext) {
  for (const auto& [lowest, highest] :
       {std::pair(-6, 5), std::pair(-4, 2), std::pair(0, 0), std::pair(4, 5)}) {
    const ContextCoder coder = coder_of(lowest, highest);
    for (size_t count : {0, 1, 7, 8, 9, 63, 1000, 40000}) {
      std::vector<uint32_t> begins = {0};
      if (count > 20) begins.insert(begins.end(), {7, 8, 20});
      const Elements made = random_elements(coder, count, lowest, highest + 8, begins);
      std::string bytes;
      coder.encode({}, made.classes, made.active, bytes);
      ContextReader reader(coder, bytes, "stream");
      std::vector<float> values(count, 7.0f), reconstructed(count, 7.0f);
      reader.elements(made.classes, values, begins);
      EXPECT_EQ(values, made.expected) << lowest << ' ' << highest << ' ' << count;
      coder.reconstruct(made.classes, made.active, reconstructed);
      EXPECT_EQ(reconstructed, values);
    }
  }
}

TEST(DependentStream, EveryTruncationIsRefused) {
  const ContextCoder coder = coder_of(-4, 5);
  const Elements made = random_elements(coder, 3000, -4, 9, {});
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

TEST(DependentStream, EveryFlippedBitIsReadOrRefused) {
  const ContextCoder coder = coder_of(-2, 5);
  const Elements made = random_elements(coder, 120, -2, 9, {});
  std::string bytes;
  coder.encode({}, made.classes, made.active, bytes);
  std::vector<float> values(made.classes.size());
  size_t refused = 0;
  for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] = char(uint8_t(flipped[bit / 8]) ^ 1u << bit % 8);
    try {
      ContextReader reader(coder, flipped, "stream");
      reader.elements(made.classes, values);
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, bytes.size());
}

TEST(DependentStream, TablesOfBothQuantizersAreReadBack) {
  const ContextModel model = coder_of(-3, 5).model();
  std::string bytes;
  cpu::BitWriter out(bytes);
  model.write(out);
  out.align();
  EXPECT_EQ(bytes.size(), (model.table_bits() + 7) / 8);
  ContextModel back;
  cpu::BitReader in(bytes);
  ASSERT_TRUE(back.read(in, true));
  EXPECT_EQ(back.tables, model.tables);
  EXPECT_EQ(back.shifted, model.shifted);
  cpu::BitReader as_independent(bytes);
  EXPECT_TRUE(!back.read(as_independent) || back.shifted.empty());
}

}  // namespace
}  // namespace jsq

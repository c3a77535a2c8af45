// Ladders, frequencies and their stored form against the formulas of the specification, computed here in
// other ways.
#include "lib/packers/context_model.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "lib/packers/entropy_model.hpp"
#include "tests/kernels/data.hpp"

namespace jsq {
namespace {

TEST(Odds, AreTheProbabilitiesOfQuarterOctaves) {
  for (int index = -odds_limit; index <= odds_limit; ++index) {
    const double odds = std::exp2(index / 4.0), share = odds / (1 + odds);
    EXPECT_NEAR(odds_probability(index), 65536 * share, 1.5) << index;
  }
  // Worked by hand: odds 1 : 1, 2 : 1, 1 : 2, and 2^(1/4) = 77936 / 65536.
  EXPECT_EQ(odds_probability(0), 32768u);
  EXPECT_EQ(odds_probability(4), 43690u);
  EXPECT_EQ(odds_probability(-4), 21845u);
  EXPECT_EQ(odds_probability(1), 77936ull * 65536 / (77936 + 65536));
}

TEST(Odds, IndexIsTheNearestOneOfEveryRatio) {
  for (uint64_t stopped : {1, 2, 3, 7, 100, 12345, 1000000})
    for (uint64_t passed : {1, 2, 3, 5, 64, 99, 54321, 2000000}) {
      const double exact = 4 * std::log2(double(stopped) / double(passed));
      EXPECT_NEAR(odds_index(stopped, passed), std::clamp(exact, -48.0, 48.0), 0.5001)
          << stopped << ':' << passed;
    }
  EXPECT_EQ(odds_index(0, 5), -48);
  EXPECT_EQ(odds_index(5, 0), 48);
  EXPECT_EQ(odds_index(0, 0), 0);
}

TEST(Ladder, SplitsEachMagnitudeEvenlyBetweenItsSigns) {
  // Stops at 0 with 1/2, then at 1 with 1/2 of the rest, then escapes: 1/2, 1/8 + 1/8, 1/4.
  const Ladder ladder{.rungs = 2, .closed = false, .odds = {0, 0}};
  const ContextFrequencies f = signed_frequencies(ladder);
  EXPECT_EQ(f[0], 2048u);
  EXPECT_EQ(f[1], 512u);
  EXPECT_EQ(f[2], 512u);
  EXPECT_EQ(f[escape_symbol], 1024u);
  EXPECT_EQ(std::accumulate(f.begin(), f.end(), 0u), 4096u);
}

TEST(Ladder, ClosedHasNothingBeyondItsLastRung) {
  const Ladder one{};
  EXPECT_EQ(signed_frequencies(one)[0], 4096u);
  const Ladder two{.rungs = 2, .closed = true, .odds = {4}};  // 2/3 at 0, the rest at 1
  const ContextFrequencies f = signed_frequencies(two);
  EXPECT_NEAR(f[0], 4096 * 2 / 3.0, 2);
  EXPECT_EQ(f[escape_symbol], 0u);
  const ContextFrequencies plain = plain_frequencies(two);
  EXPECT_NEAR(plain[1], 4096 / 3.0, 1);
}

TEST(Ladder, EverySymbolThatCanOccurHasAFrequency) {
  Ladder steep{.rungs = most_rungs, .closed = false};
  steep.odds.fill(odds_limit);
  const ContextFrequencies f = signed_frequencies(steep);
  for (uint32_t s = 0; s < context_symbols; ++s) EXPECT_GE(f[s], 1u) << s;
  EXPECT_EQ(std::accumulate(f.begin(), f.end(), 0u), 4096u);
}

std::vector<MagnitudeCounts> some_counts() {
  // Laplacian magnitudes of half-octave scales, 5000 a context, in whole numbers.
  std::vector<MagnitudeCounts> rows;
  for (int c = -6; c <= 5; ++c) {
    MagnitudeCounts row{};
    const double scale = std::exp2(c / 2.0);
    double left = 1;
    for (uint32_t m = 0; m < most_rungs; ++m) {
      const double beyond = std::exp(-(m + 0.6) / scale);
      row[m] = uint64_t(5000 * (left - beyond));
      left = beyond;
    }
    row[most_rungs] = uint64_t(5000 * left);
    rows.push_back(row);
  }
  return rows;
}

TEST(ContextModel, IsReadBackAsItWasWrittenInTheBitsItSays) {
  for (bool open : {false, true}) {
    ContextModel model;
    fit_tables(model, -6, some_counts(), open);
    fit_escapes(model, EscapeCounts{5, 3, 1}, open);
    std::string bytes;
    cpu::BitWriter out(bytes);
    model.write(out);
    out.align();
    EXPECT_EQ((model.table_bits() + 7) / 8, bytes.size());
    cpu::BitReader in(bytes);
    ContextModel back;
    ASSERT_TRUE(back.read(in));
    EXPECT_TRUE(in.align());
    EXPECT_EQ(in.consumed(), bytes.size());
    EXPECT_EQ(back.lowest, model.lowest);
    EXPECT_EQ(back.tables, model.tables);
    EXPECT_EQ(back.has_escapes, model.has_escapes);
    EXPECT_EQ(back.escapes, model.escapes);
  }
}

TEST(ContextModel, TakesAFewBitsARungAndCodesWithinAPercentOfTheEntropy) {
  ContextModel model;
  const std::vector<MagnitudeCounts> counts = some_counts();
  fit_tables(model, -6, counts, false);
  fit_escapes(model, {}, false);
  double entropy = 0, coded = 0, rungs = 0;
  for (size_t t = 0; t < counts.size(); ++t) {
    double total = 0;
    for (uint64_t n : counts[t]) total += double(n);
    const ContextFrequencies f = signed_frequencies(model.tables[t]);
    rungs += model.tables[t].stored_odds();
    for (uint32_t m = 0; m < model.tables[t].rungs; ++m) {
      const double n = double(counts[t][m]);
      if (n == 0) continue;
      entropy += n * (std::log2(total / n) + (m > 0));
      coded += n * std::log2(4096.0 / f[m == 0 ? 0 : 2 * m]);
    }
  }
  EXPECT_LT(coded, 1.01 * entropy);
  EXPECT_LT(double(model.table_bits()), 4 * rungs + 60);
}

TEST(ContextModel, NoDamageMakesTablesThatCannotCode) {
  ContextModel model;
  fit_tables(model, -6, some_counts(), true);
  fit_escapes(model, {}, true);
  std::string bytes;
  cpu::BitWriter out(bytes);
  model.write(out);
  out.align();
  for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    std::string damaged = bytes;
    damaged[bit / 8] = char(damaged[bit / 8] ^ 1 << bit % 8);
    cpu::BitReader in(damaged);
    ContextModel read;
    if (!read.read(in)) continue;
    for (const Ladder& ladder : read.tables) {
      const ContextFrequencies f = signed_frequencies(ladder);
      EXPECT_EQ(std::accumulate(f.begin(), f.end(), 0u), 4096u);
      EXPECT_TRUE(ladder.closed || read.has_escapes);
    }
    for (int c = read.lowest; c <= highest_context && !read.tables.empty(); ++c)
      EXPECT_LT(read.use_of(c).table, read.tables.size());
  }
}

TEST(ContextModel, RawBitsGrowByOneEveryOctave) {
  ContextModel model;
  model.lowest = -2;
  model.tables.assign(8, Ladder{.rungs = 2, .closed = false});
  // Contexts 4 and 5 have one raw bit, 6 and 7 two, and use the tables of 4 and 5.
  EXPECT_EQ(model.use_of(3), (ContextUse{5, 0}));
  EXPECT_EQ(model.use_of(4), (ContextUse{6, 1}));
  EXPECT_EQ(model.use_of(5), (ContextUse{7, 1}));
  EXPECT_EQ(model.use_of(6), (ContextUse{6, 2}));
  EXPECT_EQ(model.use_of(7), (ContextUse{7, 2}));
  EXPECT_EQ(model.use_of(13), (ContextUse{7, 5}));
}

TEST(SignedRice, TakesTheBitsOfItsDefinition) {
  std::string bytes;
  cpu::BitWriter out(bytes);
  // 0 -> 0: "0"; -1 -> 1: "10"; 2 -> 4: "11110"; with one low bit 2 -> 4: "110" "0".
  write_signed_rice(out, 0, 0);
  write_signed_rice(out, -1, 0);
  write_signed_rice(out, 2, 0);
  write_signed_rice(out, 2, 1);
  out.align();
  EXPECT_EQ(bytes, std::string("\x5e\xc0", 2).replace(0, 2, {char(0b01011110), char(0b11000000)}));
  bool possible = true;
  cpu::BitReader in(bytes);
  EXPECT_EQ(read_signed_rice(in, 0, 10, possible), 0);
  EXPECT_EQ(read_signed_rice(in, 0, 10, possible), -1);
  EXPECT_EQ(read_signed_rice(in, 0, 10, possible), 2);
  EXPECT_EQ(read_signed_rice(in, 1, 10, possible), 2);
  EXPECT_TRUE(possible);
}

}  // namespace
}  // namespace jsq

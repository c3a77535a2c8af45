// The entropy model's tables: weights, normalisation and code lengths against their definitions, and the
// stored form.
#include "lib/packers/entropy_model.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "tests/kernels/data.hpp"

namespace jsq {
namespace {

using Weights = std::array<uint64_t, max_symbols>;

/// "Normalisation" of the specification, step by step, in 128-bit integers.
SymbolFrequencies normalised(const Weights& weights) {
  unsigned __int128 total = 0;
  for (uint64_t w : weights) total += w;
  SymbolFrequencies f{};
  if (total == 0) return f;
  for (size_t s = 0; s < 16; ++s)
    if (weights[s]) f[s] = std::max<uint32_t>(1, uint32_t((unsigned __int128)(weights[s]) * 4096 / total));
  for (;;) {
    const uint32_t sum = std::accumulate(f.begin(), f.end(), 0u);
    if (sum == 4096) return f;
    size_t largest = 0;
    for (size_t s = 1; s < 16; ++s)
      if (f[s] > f[largest]) largest = s;
    if (sum < 4096)
      f[largest] += 4096 - sum;
    else
      --f[largest];
  }
}

TEST(Normalise, FollowsTheSpecificationAndSumsTo4096) {
  test::Random random(1);
  for (int round = 0; round < 20000; ++round) {
    Weights weights{};
    const uint64_t kind = random.below(5);
    for (uint64_t& w : weights) {
      switch (kind) {
        case 0:
          w = random.below(8192);
          break;
        case 1:
          w = random.below(3);
          break;
        case 2:
          w = random.word() >> (12 + random.below(52));
          break;  // products of four weights
        case 3:
          w = random.below(4) ? 0 : 1 + random.below(100);
          break;
        default:
          w = 1;
          break;
      }
    }
    if (round % 7 == 0) weights[random.below(16)] = 1ull << 52;
    const SymbolFrequencies f = normalise(weights);
    ASSERT_EQ(f, normalised(weights));
    const bool any = std::any_of(weights.begin(), weights.end(), [](uint64_t w) { return w > 0; });
    ASSERT_EQ(std::accumulate(f.begin(), f.end(), 0u), any ? 4096u : 0u);
    for (size_t s = 0; s < 16; ++s) ASSERT_EQ(f[s] > 0, weights[s] > 0);
  }
}

TEST(Normalise, GivesHandComputedFrequencies) {
  EXPECT_EQ(normalise({1, 1, 1}), (SymbolFrequencies{1366, 1365, 1365}));
  EXPECT_EQ(normalise({0, 7}), (SymbolFrequencies{0, 4096}));
  EXPECT_EQ(normalise({3, 1}), (SymbolFrequencies{3072, 1024}));
  // 1,000,000 and fifteen ones: floor gives 4095 (4095.93), each one is raised to 1, the surplus of 14 comes
  // off the largest.
  Weights skewed;
  skewed.fill(1);
  skewed[3] = 1000000;
  SymbolFrequencies expected;
  expected.fill(1);
  expected[3] = 4081;
  EXPECT_EQ(normalise(skewed), expected);
}

TEST(SymbolWeight, IsTheCountsShareInAtMostFourSignificantBits) {
  test::Random random(2);
  for (int round = 0; round < 200000; ++round) {
    const uint64_t total = 1 + (random.word() >> random.below(60));
    const uint64_t count = random.below(total) + 1;
    const uint32_t weight = symbol_weight(count, total);
    ASSERT_GE(weight, 1u);
    ASSERT_LE(weight, 8191u);
    ASSERT_EQ(weight >> std::max(0, int(std::bit_width(weight)) - 4)
                            << std::max(0, int(std::bit_width(weight)) - 4),
              weight);
    const double exact = double(count) / double(total) * 8191;
    // Half a unit of the fourth bit; the top value is 15 x 2^9.
    ASSERT_TRUE(exact <= 0.5 || std::fabs(double(weight) - exact) <= 0.5 + exact / 15)
        << count << '/' << total;
  }
  EXPECT_EQ(symbol_weight(0, 10), 0u);
  EXPECT_EQ(symbol_weight(1, UINT64_MAX), 1u);
  EXPECT_EQ(symbol_weight(UINT64_MAX, UINT64_MAX), 15u << 9);
  EXPECT_EQ(symbol_weight(10, 10), 15u << 9);
}

TEST(CodeLength, IsTheLogarithmRoundedUpToA65536thOfABit) {
  for (uint32_t f = 1; f <= 4096; ++f) {
    const double exact = 12 - std::log2(double(f));
    const double length = code_length_q16(f) / 65536.0;
    EXPECT_GE(length, exact - 1e-12) << f;
    EXPECT_LE(length, exact + 1.0 / 65536 + 1e-12) << f;
  }
  EXPECT_EQ(code_length_q16(4096), 0u);
  EXPECT_EQ(code_length_q16(1), 12u << 16);
  EXPECT_GT(code_length_q16(0), 32u << 16);  // prohibitive
}

/// A count of every context as real data has it, from a random sparse map.
EntropyCounts random_counts(test::Random& random, uint32_t classes,
                            const std::array<uint8_t, element::max_classes>& width) {
  EntropyCounts counts;
  const uint32_t buckets = 1 + uint32_t(random.below(element::max_activity_buckets));
  for (uint32_t a = 0; a < buckets; ++a)
    for (uint32_t b = 0; b < buckets; ++b) counts.activity[a][b] = random.below(3) ? random.below(1000) : 0;
  for (uint32_t b = 1; b < buckets; ++b) {
    for (uint32_t c = 0; c < classes; ++c)
      counts.classes[b][c] = random.below(4) ? random.word() >> (40 + random.below(20)) : 0;
    for (uint32_t j = 1; j < classes; ++j)
      for (uint32_t s = 0; s < 1u << element::coded_magnitude_bits(width[j]); ++s)
        counts.magnitude[j][b][s] = random.below(3) ? random.word() >> (45 + random.below(19)) : 0;
  }
  return counts;
}

struct Layout {
  uint32_t classes;
  std::array<uint8_t, element::max_classes> width;
};
const Layout layouts[] = {
    {4, {0, 2, 4, 8}}, {9, {0, 1, 2, 3, 4, 5, 6, 7, 8}}, {2, {0, 8}}, {3, {2, 4, 8}}, {1, {5}}, {1, {0}},
    {2, {0, 1}}};

TEST(EntropyModel, ReadsBackWhatItWrote) {
  test::Random random(3);
  for (int round = 0; round < 1500; ++round) {
    const Layout& layout = layouts[random.below(std::size(layouts))];
    const EntropyCounts counts = random_counts(random, layout.classes, layout.width);
    const EntropyModel model =
        fit_entropy_model(counts, layout.classes, layout.width, random.below(2), random.below(2));
    std::string bytes;
    cpu::BitWriter out(bytes);
    model.write(out);
    out.align();
    ASSERT_EQ(bytes.size(), (model.table_bits() + 7) / 8);
    EntropyModel back;
    back.classes = layout.classes;
    back.width = layout.width;
    back.map_coded = model.map_coded;
    back.magnitudes_coded = model.magnitudes_coded;
    back.magnitudes_by_activity = model.magnitudes_by_activity;
    cpu::BitReader in(bytes);
    ASSERT_TRUE(back.read(in));
    ASSERT_TRUE(in.align());
    ASSERT_EQ(in.consumed(), bytes.size());
    ASSERT_TRUE(!model.needs_activities() || back.buckets == model.buckets);
    if (model.map_coded) {
      ASSERT_EQ(back.activity, model.activity);
      ASSERT_EQ(back.class_weight, model.class_weight);
    }
    for (uint32_t j = 1; j < layout.classes; ++j)
      ASSERT_TRUE(!(model.magnitudes_coded >> (j - 1) & 1) || back.magnitude[j] == model.magnitude[j]);
    for (uint64_t cost : {back.cost(counts).map_q16 - model.cost(counts).map_q16,
                          back.cost(counts).magnitudes_q16 - model.cost(counts).magnitudes_q16})
      ASSERT_EQ(cost, 0u);
  }
}

TEST(EntropyModel, EveryTableInUseCanCodeWhatWasCounted) {
  test::Random random(4);
  for (int round = 0; round < 500; ++round) {
    const Layout& layout = layouts[random.below(std::size(layouts))];
    const EntropyCounts counts = random_counts(random, layout.classes, layout.width);
    const EntropyModel model = fit_entropy_model(counts, layout.classes, layout.width, true, true);
    for (uint32_t a = 0; a < model.buckets; ++a) {
      const SymbolFrequencies f = model.activity_frequencies(a);
      for (uint32_t b = 0; b < model.buckets; ++b) ASSERT_TRUE(!counts.activity[a][b] || f[b] > 0);
    }
    for (uint32_t b = 1; b < model.buckets; ++b) {
      const SymbolFrequencies f = model.token_frequencies(b);
      const uint32_t joined = classes_per_token(layout.classes);
      for (uint32_t token = 0; token < token_symbols(layout.classes); ++token) {
        bool possible = true;
        for (uint32_t i = 0, rest = token; i < joined; ++i, rest /= layout.classes)
          possible &= counts.classes[b][rest % layout.classes] > 0;
        ASSERT_TRUE(!possible || f[token] > 0);
      }
    }
    for (uint32_t j = 1; j < layout.classes; ++j)
      for (uint32_t b = 1; b < model.buckets && (model.magnitudes_coded >> (j - 1) & 1); ++b) {
        const SymbolFrequencies f = model.magnitude_frequencies(j, b);
        for (uint32_t s = 0; s < 16; ++s) ASSERT_TRUE(!counts.magnitude[j][b][s] || f[s] > 0);
      }
  }
}

TEST(EntropyModel, CodesMagnitudesOnlyWhereThatSavesBits) {
  const Layout layout = layouts[0];
  EntropyCounts counts;
  counts.activity[0][1] = counts.activity[1][1] = 1000;
  for (uint32_t s = 0; s < 8; ++s) counts.magnitude[2][1][s] = 1000;                 // flat: nothing to gain
  for (uint32_t s = 0; s < 16; ++s) counts.magnitude[3][1][s] = s == 0 ? 10000 : 1;  // skewed
  const EntropyModel model = fit_entropy_model(counts, 4, layout.width, true, true);
  EXPECT_EQ(model.magnitudes_coded, 4);
  EXPECT_EQ(fit_entropy_model(counts, 4, layout.width, true, false).magnitudes_coded, 0);
  EXPECT_FALSE(fit_entropy_model(counts, 4, layout.width, false, false).uses_rans());
  // By hand: 8000 members of 1 sign and 3 raw bits; 10015 of 4 raw bits (sign and 3 low ones) and a code
  // whose fifteen rare symbols have frequency 1 of 4096.
  const double code = 10000 * -std::log2(4081 / 4096.0) + 15 * 12;
  EXPECT_NEAR(double(model.cost(counts).magnitudes_q16) / 65536, 8000 * 4 + 10015 * 4 + code, 0.2);
}

TEST(EntropyModel, CostsTheCrossEntropyOfItsOwnFrequencies) {
  test::Random random(5);
  for (int round = 0; round < 200; ++round) {
    const Layout& layout = layouts[random.below(4)];
    const EntropyCounts counts = random_counts(random, layout.classes, layout.width);
    const EntropyModel model = fit_entropy_model(counts, layout.classes, layout.width, true, true);
    double map = 0, magnitudes = 0, symbols = 0;
    for (uint32_t a = 0; a < model.buckets; ++a)
      for (uint32_t b = 0; b < model.buckets; ++b)
        if (symbols += double(counts.activity[a][b]); counts.activity[a][b])
          map -= double(counts.activity[a][b]) * std::log2(model.activity_frequencies(a)[b] / 4096.0);
    for (uint32_t b = 1; b < model.buckets; ++b) {
      double total = 0;
      for (uint32_t c = 0; c < layout.classes; ++c) total += double(counts.classes[b][c]);
      symbols += total;
      const uint32_t joined = classes_per_token(layout.classes);
      for (uint32_t token = 0; token < token_symbols(layout.classes) && total > 0; ++token) {
        double share = total / joined;
        for (uint32_t i = 0, rest = token; i < joined; ++i, rest /= layout.classes)
          share *= double(counts.classes[b][rest % layout.classes]) / total;
        if (share > 0) map -= share * std::log2(model.token_frequencies(b)[token] / 4096.0);
      }
      for (uint32_t j = 1; j < layout.classes; ++j) {
        const bool coded = model.magnitudes_coded >> (j - 1) & 1;
        for (uint32_t s = 0; s < 16; ++s) {
          const auto count = double(counts.magnitude[j][b][s]);
          if (count == 0) continue;
          symbols += count;
          const double raw = layout.width[j] - (coded ? element::coded_magnitude_bits(layout.width[j]) : 0u);
          magnitudes +=
              count * (raw - (coded ? std::log2(model.magnitude_frequencies(j, b)[s] / 4096.0) : 0.0));
        }
      }
    }
    ASSERT_NEAR(double(model.cost(counts).map_q16) / 65536, map,
                symbols / 65536 + 1e-9 * map);  // each rounded up
    ASSERT_NEAR(double(model.cost(counts).magnitudes_q16) / 65536, magnitudes,
                symbols / 65536 + 1e-9 * magnitudes);
  }
}

TEST(EntropyModel, RefusesImpossibleTables) {
  const auto reads = [](const std::string& bytes) {
    EntropyModel model;
    model.classes = 4;
    model.width = {0, 2, 4, 8};
    model.map_coded = true;
    cpu::BitReader in(bytes);
    return model.read(in);
  };
  EXPECT_TRUE(reads(std::string(1, '\x00')));                       // no activities, no tables
  EXPECT_FALSE(reads(std::string("\xB0", 1) + std::string(9, 0)));  // eleven activities
  EXPECT_FALSE(reads("\x1F\x00"));                  // one activity, table present, weight of 15 bits
  EXPECT_FALSE(reads(std::string("\x18\x00", 2)));  // table present without a weight
  EXPECT_TRUE(reads(std::string("\x18\x80", 2)));   // table present, its one symbol of weight 1
}

TEST(EntropyModel, ReadsOrRefusesAnyBytes) {
  test::Random random(6);
  for (int round = 0; round < 20000; ++round) {
    const Layout& layout = layouts[random.below(std::size(layouts))];
    EntropyModel model;
    model.classes = layout.classes;
    model.width = layout.width;
    model.map_coded = random.below(2);
    const uint32_t classes_with_codes = (1u << (layout.classes - 1)) - 1;
    model.magnitudes_coded = uint8_t(random.word() & classes_with_codes);
    model.magnitudes_by_activity = uint8_t(random.word() & model.magnitudes_coded);
    std::string bytes(random.below(300), '\0');
    for (char& byte : bytes) byte = char(random.below(3) ? random.word() : 0);
    cpu::BitReader in(bytes);
    if (!model.read(in)) continue;
    ASSERT_LE(model.buckets, element::max_activity_buckets);
    for (uint32_t b = 0; b < model.buckets && model.map_coded; ++b) {
      const SymbolFrequencies f = model.activity_frequencies(b);
      const uint32_t sum = std::accumulate(f.begin(), f.end(), 0u);
      ASSERT_TRUE(sum == 0 || sum == 4096);
    }
  }
}

TEST(Tokens, JoinAsManyClassesAsSixteenSymbolsHold) {
  EXPECT_EQ(classes_per_token(2), 4u);
  EXPECT_EQ(token_symbols(2), 16u);
  EXPECT_EQ(token_symbols(3), 9u);
  EXPECT_EQ(token_symbols(4), 16u);
  EXPECT_EQ(token_symbols(5), 5u);
  EXPECT_EQ(token_symbols(9), 9u);
}

TEST(EntropyCounts, MergeAddsEveryCounter) {
  test::Random random(7);
  const EntropyCounts a = random_counts(random, 4, layouts[0].width),
                      b = random_counts(random, 4, layouts[0].width);
  EntropyCounts sum = a;
  sum.merge(b);
  for (uint32_t x = 0; x < element::max_activity_buckets; ++x)
    for (uint32_t s = 0; s < 16; ++s) {
      EXPECT_EQ(sum.activity[x][s], a.activity[x][s] + b.activity[x][s]);
      EXPECT_EQ(sum.classes[x][s], a.classes[x][s] + b.classes[x][s]);
      for (uint32_t j = 0; j < element::max_classes; ++j)
        EXPECT_EQ(sum.magnitude[j][x][s], a.magnitude[j][x][s] + b.magnitude[j][x][s]);
    }
}

}  // namespace
}  // namespace jsq

// Paths of dependent levels against exhaustive search, and against what decides element by element.
#include "lib/quantizers/trellis_quantizer.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "kernels/element/philox.hpp"
#include "lib/packers/dependent_states.hpp"
#include "lib/quantizers/rd_quantizer.hpp"

namespace jsq {
namespace {

double uniform(uint32_t i, uint32_t stream) {
  return (element::philox4x32_10({{i, stream, 0, 0}}, 7, 7).word[0] + 0.5) / 4294967296.0;
}

/// Tables of contexts -2..5 for both quantizers, a step of 1.
ContextCoder coder(bool closed = false) {
  ContextModel model;
  model.lowest = -2;
  for (int c = -2; c <= 5; ++c) {
    Ladder ladder{.rungs = uint32_t(c + 4), .closed = closed && c < 4};
    ladder.odds.fill(int8_t(-c));
    ladder.odds[0] = int8_t(4 - 3 * c);
    model.tables.push_back(ladder);
    ladder.odds[0] = int8_t(-3 * c);
    model.shifted.push_back(ladder);
  }
  model.escapes = {.rungs = 32, .closed = true};
  model.has_escapes = true;
  Reconstruction values;
  values.mantissa = 32768;
  values.exponent = -15;
  values.has_offsets = true;
  values.offsets.assign(8, {3, -2, 1});
  values.shifted_offsets.assign(8, {5, 1, -1});
  return ContextCoder(model, values);
}

struct Elements {
  std::vector<float> values;
  std::vector<ContextClass> classes;
};

Elements elements(const ContextCoder& tables, size_t count, uint32_t stream, int least = -4, int most = 6) {
  Elements made;
  for (uint32_t i = 0; i < count; ++i) {
    const int c = least + int(uniform(i, 3 * stream) * (most - least + 1));
    const double sign = uniform(i, 3 * stream + 1) < 0.5 ? -1 : 1;
    made.classes.push_back(tables.class_of(c));
    made.values.push_back(float(-sign * std::exp2(c / 2.0) * std::log(uniform(i, 3 * stream + 2))));
  }
  return made;
}

/// Error + lambda bits of levels along their path, from the tables alone.
double cost_of(const ContextCoder& tables, const TrellisQuantizer& quantizer, const Elements& made,
               std::span<const int32_t> levels, double lambda) {
  double cost = 0;
  uint32_t state = 0;
  for (size_t i = 0; i < levels.size(); ++i) {
    const double x = std::abs(double(made.values[i]));
    const ContextClass k = made.classes[i];
    if (k == 0) {
      cost += x * x;
      continue;
    }
    const uint32_t q = quantizer_of(state);
    const double off = x - double(tables.values().points(tables.use(k), uint32_t(levels[i]), q)) / 256;
    cost += off * off + lambda * quantizer.bits(q, levels[i], k);
    state = next_state[state][uint32_t(levels[i]) & 1];
  }
  return cost;
}

std::vector<int32_t> magnitudes(const ActiveLevels& active, size_t count) {
  std::vector<int32_t> levels(count);
  for (size_t j = 0; j < active.levels.size(); ++j) levels[active.positions[j]] = std::abs(active.levels[j]);
  return levels;
}

/// The least cost of all sequences of levels up to `most`.
double exhaustive(const ContextCoder& tables, const TrellisQuantizer& quantizer, const Elements& made,
                  int32_t most, double lambda) {
  std::vector<int32_t> levels(made.values.size());
  double least = HUGE_VAL;
  for (;;) {
    bool possible = true;
    for (size_t i = 0; i < levels.size(); ++i) possible = possible && (made.classes[i] > 0 || levels[i] == 0);
    if (possible) least = std::min(least, cost_of(tables, quantizer, made, levels, lambda));
    size_t i = 0;
    while (i < levels.size() && levels[i] == most) levels[i++] = 0;
    if (i == levels.size()) return least;
    ++levels[i];
  }
}

TEST(TrellisQuantizer, FindsWhatExhaustiveSearchFinds) {
  for (const bool closed : {false, true}) {
    const ContextCoder tables = coder(closed);
    for (const double lambda : {0.0, 0.1, 0.7})
      for (uint32_t stream = 1; stream <= 12; ++stream) {
        // A closed table of context -2 ends at 1; otherwise levels further than 2 from a value do not matter.
        Elements made = closed ? elements(tables, 6, stream, -2, -2) : elements(tables, 6, stream, -3, 0);
        for (float& value : made.values) value = std::clamp(value, -3.0f, 3.0f);
        const TrellisQuantizer quantizer(tables, lambda);
        ActiveLevels active;
        EXPECT_NEAR(quantizer.quantize(made.values, made.classes, 0, active),
                    exhaustive(tables, quantizer, made, closed ? 1 : 5, lambda), 1e-9)
            << lambda << ' ' << stream;
      }
  }
}

TEST(TrellisQuantizer, SaysWhatItsLevelsCost) {
  const ContextCoder tables = coder();
  const Elements made = elements(tables, 5000, 1, -4, 14);
  for (const double lambda : {0.05, 0.2}) {
    const TrellisQuantizer quantizer(tables, lambda);
    ActiveLevels active;
    const double cost = quantizer.quantize(made.values, made.classes, 0, active);
    EXPECT_NEAR(cost, cost_of(tables, quantizer, made, magnitudes(active, 5000), lambda), 1e-9 * cost);
    for (size_t j = 0; j < active.levels.size(); ++j)
      if (active.levels[j] != 0) {
        EXPECT_EQ(active.levels[j] < 0, made.values[active.positions[j]] < 0);
      }
  }
}

TEST(TrellisQuantizer, NeverCostsMoreThanDecidingElementByElement) {
  const ContextCoder tables = coder();
  for (const double lambda : {0.0, 0.05, 0.13, 0.5})
    for (uint32_t stream = 1; stream <= 8; ++stream) {
      const Elements made = elements(tables, 700, stream);
      const TrellisQuantizer quantizer(tables, lambda);
      ActiveLevels active;
      const double cost = quantizer.quantize(made.values, made.classes, 0, active);
      std::vector<int32_t> greedy(made.values.size());
      uint32_t state = 0;
      for (size_t i = 0; i < greedy.size(); ++i) {
        if (made.classes[i] == 0) continue;
        double least = HUGE_VAL;
        for (int32_t level = 0; level < 100; ++level) {
          const uint32_t q = quantizer_of(state);
          const double off =
              std::abs(double(made.values[i])) -
              double(tables.values().points(tables.use(made.classes[i]), uint32_t(level), q)) / 256;
          const double own = off * off + lambda * quantizer.bits(q, level, made.classes[i]);
          if (own >= least) continue;
          least = own;
          greedy[i] = level;
        }
        state = next_state[state][uint32_t(greedy[i]) & 1];
      }
      EXPECT_LE(cost, cost_of(tables, quantizer, made, greedy, lambda) + 1e-9);
    }
}

/// Counted tables of one quantizer whose levels have the same entropy cost less error than the classic bound
/// says: with no price on bits, 8 states gain 1.1 dB on a uniform source (Marcellin and Fischer, table of
/// granular gains).
TEST(TrellisQuantizer, GainsADecibelOnUniformValues) {
  const ContextCoder tables = [] {
    ContextModel model = coder().model();
    Reconstruction values;
    values.mantissa = 32768;
    values.exponent = -15;
    return ContextCoder(model, values);
  }();
  Elements made;
  for (uint32_t i = 0; i < 20000; ++i) {
    made.values.push_back(float(40 * uniform(i, 1) - 20));
    made.classes.push_back(tables.class_of(0));
  }
  ActiveLevels active;
  const double error = TrellisQuantizer(tables, 0).quantize(made.values, made.classes, 0, active) / 20000;
  EXPECT_LT(10 * std::log10(error * 12), -1.0);
  EXPECT_GT(10 * std::log10(error * 12), -1.3);
}

TEST(TrellisQuantizer, TheFinerWeightHoldsForTheFirstElementsOnly) {
  const ContextCoder tables = coder();
  const Elements made = elements(tables, 2000, 5);
  const auto coded = [&](double lambda, double finer, size_t first) {
    ActiveLevels active;
    TrellisQuantizer(tables, lambda, finer).quantize(made.values, made.classes, first, active);
    return magnitudes(active, 2000);
  };
  EXPECT_EQ(coded(0.3, 0.05, 0), coded(0.3, 0.3, 0));
  EXPECT_EQ(coded(0.3, 0.05, 2000), coded(0.05, 0.05, 0));
  EXPECT_NE(coded(0.3, 0.05, 1000), coded(0.3, 0.05, 0));
}

TEST(DependentStates, EveryStateIsEnteredTwiceAndBothQuantizersLeadToBoth) {
  std::array<int, dependent_states> entered{};
  for (uint32_t state = 0; state < dependent_states; ++state)
    for (uint32_t parity = 0; parity < 2; ++parity) ++entered[next_state[state][parity]];
  for (int times : entered) EXPECT_EQ(times, 2);
  EXPECT_EQ(next_state[0][0], 0);  // zeros stay where zero is a point and its neighbours are whole steps away
}

}  // namespace
}  // namespace jsq

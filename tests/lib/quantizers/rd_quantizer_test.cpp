// The thresholds of the RD quantizer against exhaustive search over levels.
#include "lib/quantizers/rd_quantizer.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace jsq {
namespace {

ContextCoder coder() {
  ContextModel model;
  model.lowest = -4;
  for (int c = -4; c <= 5; ++c) {
    Ladder ladder{.rungs = uint32_t(std::max(2, c + 4)), .closed = c == -4};
    ladder.odds.fill(int8_t(-2 * c));
    ladder.odds[0] = int8_t(-3 * c);
    model.tables.push_back(ladder);
  }
  model.escapes = {.rungs = 32, .closed = true};
  model.has_escapes = true;
  Reconstruction values;
  values.mantissa = 32768;
  values.exponent = -15;  // a step of 1
  values.has_offsets = true;
  values.offsets.assign(10, {9, -4, 2});
  return ContextCoder(model, values);
}

TEST(RdQuantizer, TakesTheLevelOfLeastErrorAndBitsInEveryContext) {
  const ContextCoder tables = coder();
  for (double lambda : {0.0, 0.05, 0.13, 0.5}) {
    const RdQuantizer quantizer(tables, lambda);
    for (int c = -4; c <= 3; ++c) {
      const ContextClass k = tables.class_of(c);
      const ContextUse use = tables.use(k);
      const Ladder& ladder = tables.model().tables[use.table];
      const int most = ladder.closed ? int(ladder.rungs) - 1 : int(ladder.rungs) + 6;
      for (float x = 0; x < float(most); x += 0.0371f) {
        const auto cost = [&](int level) {
          const double error = x - double(tables.values().points(use, uint32_t(level))) / 256;
          return error * error + lambda * quantizer.bits(level, k);
        };
        double least = cost(0);
        for (int level = 1; level <= most; ++level) least = std::min(least, cost(level));
        EXPECT_LE(cost(quantizer.level(x, k)), least + 1e-5) << lambda << ' ' << c << ' ' << x;
      }
    }
  }
}

TEST(RdQuantizer, LevelsHaveNoEndWhereTheTableIsOpenAndOneWhereItIsClosed) {
  const ContextCoder tables = coder();
  const RdQuantizer quantizer(tables, 0.13);
  for (float x : {100.0f, 12345.0f, 1e9f})
    EXPECT_NEAR(quantizer.level(x, tables.class_of(0)), x, 1 + x * 1e-6) << x;
  EXPECT_NEAR(quantizer.level(12345.4f, tables.class_of(12)), 12345, 1);
  EXPECT_EQ(quantizer.level(1e9f, tables.class_of(-4)), 1);
  EXPECT_EQ(quantizer.level(1e9f, 0), 0);
}

TEST(RdQuantizer, ListsWhatIsNotZeroWithItsSign) {
  const ContextCoder tables = coder();
  const RdQuantizer quantizer(tables, 0.1);
  const std::vector<float> values = {0.0f, 3.2f, -5.1f, 0.1f, -0.2f, 2.0f};
  const std::vector<ContextClass> classes = {tables.class_of(1), tables.class_of(2), tables.class_of(2),
                                             tables.class_of(0), tables.class_of(4), 0};
  ActiveLevels active;
  quantizer.quantize(values, classes, 0, active);
  // Element 4 has raw bits, and is listed whatever its level is; element 5 has no table.
  EXPECT_EQ(active.positions, (std::vector<uint32_t>{1, 2, 4}));
  EXPECT_EQ(active.levels[0], 3);
  EXPECT_EQ(active.levels[1], -5);
  EXPECT_EQ(active.levels[2], 0);
}

}  // namespace
}  // namespace jsq

// The multiple-choice knapsack against exhaustive search, the worked vector of check_vectors.py 19 in both
// directions, and tables of the size of a real model against the Lagrangian bound.
#include "lib/allocators/multiple_choice.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/kernels/data.hpp"

namespace jsq {
namespace {

using Items = std::vector<std::vector<WeighedOption>>;

WeighedOption total(const Items& items, const std::vector<size_t>& choice) {
  WeighedOption sum;
  for (size_t i = 0; i < items.size(); ++i) {
    sum.cost += items[i][choice[i]].cost;
    sum.weight += items[i][choice[i]].weight;
  }
  return sum;
}

/// The least (cost, weight) by trying every choice; cost infinity where nothing fits.
WeighedOption least_of_all(const Items& items, double limit) {
  WeighedOption best{std::numeric_limits<double>::infinity(), 0};
  std::vector<size_t> choice(items.size());
  for (;;) {
    const WeighedOption sum = total(items, choice);
    if (sum.weight <= limit && (sum.cost < best.cost || (sum.cost == best.cost && sum.weight < best.weight)))
      best = sum;
    size_t i = 0;
    while (i < items.size() && ++choice[i] == items[i].size()) choice[i++] = 0;
    if (i == items.size()) return best;
  }
}

TEST(CheapestChoice, SolvesTheWorkedVectorInBothDirections) {
  const Items primal = {{{10, 4}, {20, 2}, {40, 0.5}}, {{100, 3}, {200, 1.5}, {400, 0.4}}};
  const auto choice = cheapest_choice(primal, 3.5);
  ASSERT_TRUE(choice);
  EXPECT_EQ(*choice, (std::vector<size_t>{2, 0}));
  EXPECT_EQ(total(primal, *choice).cost, 140);
  EXPECT_EQ(total(primal, *choice).weight, 3.5);

  const Items dual = {{{4, 10}, {2, 20}, {0.5, 40}}, {{3, 100}, {1.5, 200}, {0.4, 400}}};
  const auto within = cheapest_choice(dual, 220);
  ASSERT_TRUE(within);
  EXPECT_EQ(total(dual, *within).cost, 3.5);
  EXPECT_LE(total(dual, *within).weight, 220);
}

TEST(CheapestChoice, EqualsExhaustiveSearchOnRandomTables) {
  test::Random random(5);
  for (int round = 0; round < 4000; ++round) {
    Items items(1 + random.below(6));
    const bool coarse = round % 2 == 0;  // small whole numbers, so that there are ties
    double lightest = 0, heaviest = 0;
    for (auto& options : items) {
      options.resize(1 + random.below(5));
      double least = 1e300, most = 0;
      for (WeighedOption& option : options) {
        option = coarse ? WeighedOption{double(random.below(6)), double(random.below(6))}
                        : WeighedOption{random.uniform() * 1000, random.uniform()};
        least = std::min(least, option.weight);
        most = std::max(most, option.weight);
      }
      lightest += least;
      heaviest += most;
    }
    double limit = lightest + (heaviest - lightest) * (random.uniform() * 1.2 - 0.1);
    if (coarse) limit = double(int(limit));
    const WeighedOption expected = least_of_all(items, limit);
    const auto choice = cheapest_choice(items, limit);
    ASSERT_EQ(choice.has_value(), expected.cost < 1e300) << round;
    if (!choice) continue;
    const WeighedOption found = total(items, *choice);
    ASSERT_LE(found.weight, limit) << round;
    ASSERT_EQ(found.cost, expected.cost) << round;
    ASSERT_EQ(found.weight, expected.weight) << round;
  }
}

/// Layers of very different sizes with errors that fall by about 4 a bit, as quantizers give them.
Items model(size_t layers, uint64_t seed) {
  test::Random random(seed);
  Items items(layers);
  for (auto& options : items) {
    const double elements = std::exp(4 + 9 * random.uniform()), energy = std::exp(4 * random.normal());
    for (int bits = 1; bits <= 12; ++bits)
      options.push_back({double(int(elements * bits / 8 * (0.9 + 0.1 * random.uniform()))),
                         energy * std::exp(-1.3 * bits) * (0.9 + 0.2 * random.uniform())});
  }
  return items;
}

TEST(CheapestChoice, KeepsAChoiceThatIsExactlyTheLimit) {
  for (uint64_t seed = 0; seed < 4; ++seed) {
    const Items items = model(160, seed);
    double limit = 0, cost = 0;
    for (const auto& options : items) {
      limit += options[4].weight;
      cost += options[4].cost;
    }
    const auto choice = cheapest_choice(items, limit);
    ASSERT_TRUE(choice);
    EXPECT_LE(total(items, *choice).weight, limit);
    EXPECT_LE(total(items, *choice).cost, cost);
  }
}

TEST(CheapestChoice, ComesWithinOneStepOfTheLagrangianBoundOnLargeModels) {
  for (bool dual : {false, true}) {
    Items items = model(400, 77);
    if (dual)
      for (auto& options : items)
        for (WeighedOption& option : options) std::swap(option.cost, option.weight);
    double limit = 0;
    for (const auto& options : items) limit += options[3].weight;
    const auto choice = cheapest_choice(items, limit);
    ASSERT_TRUE(choice);
    EXPECT_LE(total(items, *choice).weight, limit);
    // max over prices of sum min(cost + price weight) - price limit: nothing feasible costs less.
    double bound = 0;
    for (double price = 1e-9; price < 1e12; price *= 1.01) {
      double sum = -price * limit;
      for (const auto& options : items) {
        double least = 1e300;
        for (const WeighedOption& option : options)
          least = std::min(least, option.cost + price * option.weight);
        sum += least;
      }
      bound = std::max(bound, sum);
    }
    EXPECT_GE(total(items, *choice).cost, bound * (1 - 1e-9));
    EXPECT_LE(total(items, *choice).cost, bound * 1.002);
  }
}

TEST(CheapestChoice, RefusesALimitBelowTheLightestOptions) {
  const Items items = {{{1, 2}, {2, 1}}, {{1, 5}}};
  EXPECT_FALSE(cheapest_choice(items, 5.9));
  EXPECT_EQ(*cheapest_choice(items, 6), (std::vector<size_t>{1, 0}));
  EXPECT_EQ(*cheapest_choice(items, 7), (std::vector<size_t>{0, 0}));
  EXPECT_TRUE(cheapest_choice(Items{}, 0)->empty());
  EXPECT_FALSE(cheapest_choice(Items{}, -1));
}

}  // namespace
}  // namespace jsq

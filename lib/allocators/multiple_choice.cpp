#include "lib/allocators/multiple_choice.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>

namespace jsq {
namespace {

/// Partial choices that are followed at an item, pass by pass: a pass that had to drop some leaves a better
/// choice, whose cost prunes the next one.
constexpr size_t most_states[] = {512, 4096};
/// So close to the Lagrangian bound that no choice can be noticeably better.
constexpr double close_enough = 1 + 1e-6;

using Items = std::span<const std::vector<WeighedOption>>;
using Choice = std::vector<size_t>;

/// Less cost, then less weight.
bool better(const WeighedOption& a, const WeighedOption& b) {
  return a.cost < b.cost || (a.cost == b.cost && a.weight < b.weight);
}

WeighedOption total(Items items, const Choice& choice) {
  WeighedOption sum;
  for (size_t i = 0; i < items.size(); ++i) {
    sum.cost += items[i][choice[i]].cost;
    sum.weight += items[i][choice[i]].weight;
  }
  return sum;
}

/// The options of least cost + price x weight, of equals the lightest.
Choice choice_at(Items items, double price) {
  Choice choice;
  for (const auto& options : items) {
    const auto priced = [&](const WeighedOption& option) { return option.cost + price * option.weight; };
    choice.push_back(size_t(std::min_element(options.begin(), options.end(),
                                             [&](const WeighedOption& a, const WeighedOption& b) {
                                               return priced(a) < priced(b) ||
                                                      (priced(a) == priced(b) && a.weight < b.weight);
                                             }) -
                            options.begin()));
  }
  return choice;
}

Choice lightest(Items items) {
  Choice choice;
  for (const auto& options : items)
    choice.push_back(size_t(std::min_element(options.begin(), options.end(),
                                             [](const WeighedOption& a, const WeighedOption& b) {
                                               return a.weight < b.weight ||
                                                      (a.weight == b.weight && a.cost < b.cost);
                                             }) -
                            options.begin()));
  return choice;
}

/// The lowest price of weight at which the priced choice is within the limit: the best Lagrangian bound lies
/// there. Prices at which a choice can change are those that make two options of an item equal.
double price_of_weight(Items items, double limit) {
  std::vector<double> prices = {0};
  for (const auto& options : items)
    for (const WeighedOption& light : options)
      for (const WeighedOption& heavy : options)
        if (light.weight < heavy.weight && light.cost > heavy.cost)
          prices.push_back((light.cost - heavy.cost) / (heavy.weight - light.weight));
  std::sort(prices.begin(), prices.end());
  const auto found = std::partition_point(prices.begin(), prices.end(), [&](double price) {
    return total(items, choice_at(items, price)).weight > limit;
  });
  const double price = found == prices.end() ? prices.back() : *found;
  return price < std::numeric_limits<double>::max() ? price : 0.0;
}

/// Takes for each item in turn the cheapest option that still fits.
void improve(Items items, double limit, Choice& choice) {
  for (size_t i = 0; i < items.size(); ++i) {
    size_t best = choice[i];
    for (size_t c = 0; c < items[i].size(); ++c) {
      choice[i] = c;
      if (better(items[i][c], items[i][best]) && total(items, choice).weight <= limit) best = c;
    }
    choice[i] = best;
  }
}

/// A choice of options for the first items.
struct Partial {
  WeighedOption sum;
  uint32_t before = 0;  ///< index among the partial choices of one item less
  uint32_t option = 0;
};

/// Leaves what nothing else beats in cost and weight, by increasing weight.
void drop_beaten(std::vector<Partial>& states) {
  std::sort(states.begin(), states.end(), [](const Partial& a, const Partial& b) {
    return a.sum.weight < b.sum.weight || (a.sum.weight == b.sum.weight && a.sum.cost < b.sum.cost);
  });
  double least = std::numeric_limits<double>::infinity();
  std::erase_if(states, [&](const Partial& state) {
    if (state.sum.cost >= least) return true;
    least = state.sum.cost;
    return false;
  });
}

/// Follows up to `most` partial choices at every item, and replaces `best` by a better choice if there is
/// one. Returns whether none was dropped, so that `best` is the least.
bool follow(Items items, double limit, double price, size_t most, Choice& best) {
  // What the items from i on cost, at this price, and weigh at least.
  std::vector<double> priced_rest(items.size() + 1), weight_rest(items.size() + 1);
  for (size_t i = items.size(); i-- > 0;) {
    double priced = std::numeric_limits<double>::infinity(), weight = priced;
    for (const WeighedOption& option : items[i]) {
      priced = std::min(priced, option.cost + price * option.weight);
      weight = std::min(weight, option.weight);
    }
    priced_rest[i] = priced_rest[i + 1] + priced;
    weight_rest[i] = weight_rest[i + 1] + weight;
  }
  // Sums in another order may differ in their last bits; pruning leaves room for that.
  constexpr double slack = 1 + 1e-12;
  const WeighedOption known = total(items, best);
  const double most_weight = limit * slack, most_priced = (known.cost + price * limit) * slack;

  bool all = true;
  std::vector<std::vector<Partial>> layers;
  layers.push_back({Partial{}});
  for (size_t i = 0; i < items.size(); ++i) {
    std::vector<Partial> next;
    const std::vector<Partial>& states = layers.back();
    const auto bound = [&](const Partial& state) {
      return state.sum.cost + price * state.sum.weight + priced_rest[i + 1];
    };
    for (uint32_t s = 0; s < states.size(); ++s)
      for (uint32_t c = 0; c < items[i].size(); ++c) {
        const Partial state{
            {states[s].sum.cost + items[i][c].cost, states[s].sum.weight + items[i][c].weight}, s, c};
        if (state.sum.weight + weight_rest[i + 1] <= most_weight && bound(state) <= most_priced)
          next.push_back(state);
      }
    drop_beaten(next);
    if (next.size() > most) {
      all = false;
      // Of neighbours in weight the one with the lowest bound.
      size_t kept = 0;
      for (size_t group = 0; group < most; ++group) {
        const auto first = next.begin() + std::ptrdiff_t(group * next.size() / most),
                   end = next.begin() + std::ptrdiff_t((group + 1) * next.size() / most);
        next[kept++] = *std::min_element(
            first, end, [&](const Partial& a, const Partial& b) { return bound(a) < bound(b); });
      }
      next.resize(kept);
    }
    layers.push_back(std::move(next));
  }
  const Partial* last = nullptr;
  for (const Partial& state : layers.back())
    if (state.sum.weight <= limit && (!last || better(state.sum, last->sum))) last = &state;
  if (!last || !better(last->sum, known)) return all;
  for (size_t i = items.size(); i-- > 0;) {
    best[i] = last->option;
    last = &layers[i][last->before];
  }
  return all;
}

}  // namespace

std::optional<std::vector<size_t>> cheapest_choice(Items items, double limit) {
  Choice best = lightest(items);
  if (!(total(items, best).weight <= limit)) return std::nullopt;
  const double price = price_of_weight(items, limit);
  for (Choice candidate : {choice_at(items, price), best}) {
    if (total(items, candidate).weight > limit) continue;
    improve(items, limit, candidate);
    if (better(total(items, candidate), total(items, best))) best = candidate;
  }
  if (price == 0) return best;  // every item has its cheapest option

  const WeighedOption priced = total(items, choice_at(items, price));
  const double bound = priced.cost + price * (priced.weight - limit);
  for (size_t most : most_states)
    if (follow(items, limit, price, most, best) || total(items, best).cost <= bound * close_enough) break;
  return best;
}

}  // namespace jsq

// The multiple-choice knapsack: one option of each item, the least total cost within a limit on the total
// weight. With (cost, weight) = (bytes, error) it is L-GreCo's problem, with (error, bytes) its dual under a
// budget.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

namespace jsq {

/// One way to code one item; both finite and 0 or more.
struct WeighedOption {
  double cost = 0;
  double weight = 0;
};

/// The index of the chosen option of each item, or nothing where even the lightest ones exceed `limit`. Of
/// choices of one cost the lightest. Totals are sums over the items in order, so a choice whose own sum is
/// the limit is within it.
///
/// Dynamic programming over the items: partial choices that another one beats in cost and weight are dropped,
/// and so are those whose Lagrangian bound exceeds the best choice known. The least cost exactly while no
/// more than 4,096 partial choices are left at an item; beyond that those with the lowest bounds are
/// followed, and the search ends where the cost is within a millionth of the bound. Nothing is discretised.
/// \pre every item has an option. Deterministic.
std::optional<std::vector<size_t>> cheapest_choice(std::span<const std::vector<WeighedOption>> items,
                                                   double limit);

}  // namespace jsq

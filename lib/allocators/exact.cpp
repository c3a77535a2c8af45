// The exact allocation: minimise h' per element under a budget of payload bits (JointSQ, Eqs. 10-14).
// Densities of an element's increments fall with the width, so the LP optimum is a threshold rule with one
// multiplier lambda; what is left at the integral end is settled by a small exact knapsack over the items
// next to lambda.
#include <algorithm>
#include <bit>
#include <limits>
#include <map>

#include "kernels/element/float_bits.hpp"
#include "lib/allocators/allocator.hpp"

namespace jsq {
namespace {

/// Taking an element from class `from` to class `to`. Usually to = from + 1; more where a step is not worth
/// its bits.
struct Increment {
  uint32_t from = 0, to = 0;
  uint32_t bits = 0;
  double profit = 0;   // in units of g^2
  double density = 0;  // profit / charged bits
};

/// The upper hull of (bits, profit) over the widths, with the map's bits charged to the first width above 0.
std::vector<Increment> increments_of(const WidthSet& widths, double first_extra_bits) {
  std::vector<Increment> hull;
  std::vector<double> charged;
  for (uint32_t j = 1; j < widths.size(); ++j) {
    Increment step{j - 1, j, widths.increment_bits(j), widths.increment_profit(j), 0};
    double cost = step.bits + (widths[j - 1] == 0 ? first_extra_bits : 0.0);
    step.density = step.profit / cost;
    while (!hull.empty() && hull.back().density <= step.density) {
      step.from = hull.back().from;
      step.bits += hull.back().bits;
      step.profit += hull.back().profit;
      cost += charged.back();
      step.density = step.profit / cost;
      hull.pop_back();
      charged.pop_back();
    }
    hull.push_back(step);
    charged.push_back(cost);
  }
  return hull;
}

/// Whether a cell's elements are in where some of its keys are, or only where all of them are.
enum class Count { possible, certain };

class Search {
 public:
  Search(MagnitudeIndex& index, std::vector<Increment> increments)
      : index_(index), increments_(std::move(increments)) {}

  /// Cells all of whose keys have density >= lambda in this increment (a prefix, since cells descend).
  size_t cells_with_low_at_least(const Increment& step, double lambda) const {
    return count_prefix(Count::certain, step, lambda, {0, index_.cells().size()});
  }
  size_t cells_with_high_at_least(const Increment& step, double lambda) const {
    return count_prefix(Count::possible, step, lambda, {0, index_.cells().size()});
  }
  const std::vector<Increment>& increments() const { return increments_; }

  /// The smallest lambda for which `fits(bits)`, the bits of the elements that are in; larger lambdas fit
  /// too.
  template <class Fits>
  double smallest_lambda(Count count, Fits fits) const {
    // Non-negative doubles are ordered as their bits are. The prefixes at both ends bound those between.
    uint64_t low = 0, high = std::bit_cast<uint64_t>(std::numeric_limits<double>::max());
    std::vector<Prefix> between(increments_.size(), {0, index_.cells().size()});
    std::vector<size_t> prefix(increments_.size());
    bool high_was_tried = false;
    while (low < high) {
      const uint64_t middle = low + (high - low) / 2;
      uint64_t bits = 0;
      for (size_t s = 0; s < increments_.size(); ++s) {
        prefix[s] = count_prefix(count, increments_[s], std::bit_cast<double>(middle), between[s]);
        bits += increments_[s].bits * index_.before(prefix[s]);
      }
      const bool fit = fits(bits);
      for (size_t s = 0; s < increments_.size(); ++s) (fit ? between[s].least : between[s].most) = prefix[s];
      if (fit)
        high = middle;
      else
        low = middle + 1;
      high_was_tried |= fit;
      // Every lambda left takes what the larger end takes, which fits.
      if (high_was_tried &&
          std::all_of(between.begin(), between.end(), [](Prefix p) { return p.least == p.most; }))
        break;
    }
    return std::bit_cast<double>(low);
  }

 private:
  /// Cells in a prefix: at least, at most.
  struct Prefix {
    size_t least = 0, most = 0;
  };
  size_t count_prefix(Count count, const Increment& step, double lambda, Prefix among) const {
    const auto is_in = [&](const MagnitudeIndex::Cell& c) {
      return step.density * energy_of_key(count == Count::certain ? c.low : c.high()) >= lambda;
    };
    const auto cells = index_.cells().begin();
    return size_t(
        std::partition_point(cells + std::ptrdiff_t(among.least), cells + std::ptrdiff_t(among.most), is_in) -
        cells);
  }
  MagnitudeIndex& index_;
  std::vector<Increment> increments_;
};

/// Elements of one key at one increment: `count` equal items.
struct ItemGroup {
  double density = 0;
  size_t increment = 0;
  uint32_t key = 0;
  uint64_t count = 0;
  uint64_t taken = 0;
};

/// One item of the core problem: element `ordinal` among those with `key`.
struct CoreItem {
  size_t group = 0;
  uint64_t ordinal = 0;
};

constexpr uint64_t core_items = 64;  ///< items on either side of the greedy's end that the core may exchange
constexpr uint64_t core_ties = 8;    ///< of which equal ones; more could not be exchanged with profit

/// Exchanges items around the greedy's end by dynamic programming over elements (each takes a prefix of its
/// items), so that the profit of the core is the best for its capacity. Changes only `taken`.
void settle_core(std::vector<ItemGroup>& groups, const std::vector<Increment>& increments,
                 uint64_t left_bits) {
  std::vector<CoreItem> core;
  uint64_t taken_bits = 0, open_bits = 0;
  uint64_t gathered = 0;
  for (size_t g = groups.size(); g-- > 0 && gathered < core_items;)
    for (uint64_t t = groups[g].taken, ties = 0; t-- > 0 && ties < core_ties && gathered < core_items;
         ++gathered, ++ties) {
      core.push_back({g, t});
      taken_bits += increments[groups[g].increment].bits;
    }
  gathered = 0;
  for (size_t g = 0; g < groups.size() && gathered < core_items && groups[g].density > 0; ++g)
    for (uint64_t t = groups[g].taken, ties = 0;
         t < groups[g].count && ties < core_ties && gathered < core_items; ++t, ++gathered, ++ties) {
      core.push_back({g, t});
      open_bits += increments[groups[g].increment].bits;
    }
  const uint64_t capacity = taken_bits + std::min(left_bits, open_bits);
  if (core.empty()) return;

  // Items of one element in increment order.
  std::map<std::pair<uint32_t, uint64_t>, std::vector<size_t>> elements;
  for (const CoreItem& item : core) elements[{groups[item.group].key, item.ordinal}].push_back(item.group);
  std::vector<std::vector<size_t>> chains;
  for (auto& [element, chain] : elements) {
    std::sort(chain.begin(), chain.end(),
              [&](size_t a, size_t b) { return groups[a].increment < groups[b].increment; });
    chains.push_back(chain);
  }

  const size_t width = size_t(capacity) + 1;
  std::vector<double> best(width, 0.0), next(width);
  std::vector<std::vector<uint8_t>> choice(chains.size(), std::vector<uint8_t>(width, 0));
  for (size_t e = 0; e < chains.size(); ++e) {
    next = best;
    uint64_t bits = 0;
    double profit = 0;
    for (size_t length = 1; length <= chains[e].size(); ++length) {
      const ItemGroup& group = groups[chains[e][length - 1]];
      bits += increments[group.increment].bits;
      profit += increments[group.increment].profit * energy_of_key(group.key);
      for (size_t c = size_t(bits); c < width; ++c)
        if (best[c - bits] + profit > next[c]) {
          next[c] = best[c - bits] + profit;
          choice[e][c] = uint8_t(length);
        }
    }
    std::swap(best, next);
  }
  for (const CoreItem& item : core)
    groups[item.group].taken =
        std::min(groups[item.group].taken, item.ordinal);  // the core's items are decided anew
  std::vector<uint64_t> chosen(groups.size(), 0);
  size_t c = width - 1;
  for (size_t e = chains.size(); e-- > 0;) {
    const uint8_t length = choice[e][c];
    for (size_t l = 0; l < length; ++l) {
      ++chosen[chains[e][l]];
      c -= increments[groups[chains[e][l]].increment].bits;
    }
  }
  for (size_t g = 0; g < groups.size(); ++g) groups[g].taken += chosen[g];
}

/// Bits that ties kept from being spent near the greedy's end buy the best single increments that fit.
void spend_rest(MagnitudeIndex& index, const std::vector<Increment>& increments, uint64_t left,
                std::vector<uint64_t>& taken) {
  for (;;) {
    std::vector<uint64_t> ranks;
    std::vector<size_t> candidates;
    for (size_t s = 0; s < increments.size(); ++s) {
      const uint64_t available = s == 0 ? index.elements() : taken[s - 1];
      if (increments[s].bits > left || taken[s] >= available) continue;
      candidates.push_back(s);
      ranks.push_back(taken[s] + 1);
    }
    if (candidates.empty()) return;
    const std::vector<uint32_t> keys = index.keys_of_ranks(ranks);
    size_t best = increments.size();
    double best_profit = 0;
    for (size_t i = 0; i < candidates.size(); ++i) {
      const double profit = increments[candidates[i]].profit * energy_of_key(keys[i]);
      if (profit > best_profit) {
        best_profit = profit;
        best = candidates[i];
      }
    }
    if (best == increments.size()) return;
    ++taken[best];
    left -= increments[best].bits;
  }
}

}  // namespace

ClassCounts allocate_exact(MagnitudeIndex& index, const WidthSet& widths, uint64_t payload_bits,
                           double first_extra_bits) {
  ClassCounts counts(widths.size(), 0);
  counts[0] = index.elements();
  const uint64_t budget = payload_bits - index.elements() * widths[0];
  if (budget / std::max(1u, widths.widest() - widths[0]) >= index.elements()) {
    std::fill(counts.begin(), counts.end(), index.elements());
    return counts;
  }
  const Search search(index, increments_of(widths, first_extra_bits));

  // Bracket lambda with room for the core on both sides, and split the cells inside until they are single
  // keys.
  const uint64_t margin = core_items * widths.widest();
  double low = 0, high = 0;
  for (;;) {
    high = search.smallest_lambda(Count::possible, [&](uint64_t bits) { return bits + margin <= budget; });
    const double below =
        search.smallest_lambda(Count::certain, [&](uint64_t bits) { return bits < budget + margin; });
    // One step of a double below the smallest lambda that does not reach far enough.
    low = below > 0 ? std::bit_cast<double>(std::bit_cast<uint64_t>(below) - 1) : 0.0;
    if (budget < margin) high = std::numeric_limits<double>::max();
    std::vector<size_t> coarse;
    for (const Increment& step : search.increments()) {
      const size_t first = search.cells_with_low_at_least(step, high);
      const size_t last = search.cells_with_high_at_least(step, low);
      for (size_t i = first; i < last; ++i)
        if (index.cells()[i].shift > 0) coarse.push_back(i);
    }
    if (coarse.empty()) break;
    std::sort(coarse.begin(), coarse.end());
    coarse.erase(std::unique(coarse.begin(), coarse.end()), coarse.end());
    index.split(coarse, true);
  }

  // Whole groups above the bracket are in; inside it, greedily by density (ties: lower increment, larger
  // key).
  std::vector<ItemGroup> groups;
  uint64_t left = budget;
  std::vector<uint64_t> taken(search.increments().size(), 0);
  for (size_t s = 0; s < search.increments().size(); ++s) {
    const Increment& step = search.increments()[s];
    const size_t first = search.cells_with_low_at_least(step, high);
    const size_t last = search.cells_with_high_at_least(step, low);
    taken[s] = index.before(first);
    left -= taken[s] * step.bits;
    for (size_t i = first; i < last; ++i) {
      const MagnitudeIndex::Cell& cell = index.cells()[i];
      groups.push_back({step.density * energy_of_key(cell.low), s, cell.low, cell.count, 0});
    }
  }
  std::stable_sort(groups.begin(), groups.end(),
                   [](const ItemGroup& a, const ItemGroup& b) { return a.density > b.density; });
  for (ItemGroup& group : groups) {
    if (group.density <= 0) break;  // zeros gain nothing from bits
    const uint32_t bits = search.increments()[group.increment].bits;
    group.taken = std::min(group.count, left / bits);
    left -= group.taken * bits;
    if (group.taken < group.count) break;
  }
  // Charged map bits make lambda a price of the whole file, not of the payload: then the greedy's order is
  // the answer.
  if (first_extra_bits == 0) settle_core(groups, search.increments(), left);
  uint64_t spent = 0;
  for (const ItemGroup& group : groups) taken[group.increment] += group.taken;
  for (size_t s = 0; s < taken.size(); ++s) spent += taken[s] * search.increments()[s].bits;
  if (first_extra_bits == 0) spend_rest(index, search.increments(), budget - spent, taken);
  for (size_t s = 0; s < taken.size(); ++s)
    for (uint32_t j = search.increments()[s].from + 1; j <= search.increments()[s].to; ++j)
      counts[j] = taken[s];
  return counts;
}

namespace {

/// Elements with a key of at least `key`, a cell's elements taken as spread evenly over its keys.
double interpolated_count(const MagnitudeIndex& index, uint32_t key) {
  const auto& cells = index.cells();
  const auto at = std::partition_point(cells.begin(), cells.end(),
                                       [&](const MagnitudeIndex::Cell& c) { return c.low >= key; });
  const auto i = size_t(at - cells.begin());
  double count = double(index.before(i));
  if (at != cells.end() && key <= at->high())
    count += double(at->count) * double(at->high() - key + 1) / double(1u << at->shift);
  return count;
}

}  // namespace

Allocation allocate_by_threshold(MagnitudeIndex& index, const WidthSet& widths, uint64_t payload_bits,
                                 double first_extra_bits) {
  const std::vector<Increment> steps = increments_of(widths, first_extra_bits);
  const double budget = double(payload_bits) - double(index.elements() * widths[0]);
  const auto bits_at = [&](double lambda) {
    double bits = 0;
    for (const Increment& step : steps)
      bits += step.bits * interpolated_count(index, key_of_energy(lambda / step.density));
    return bits;
  };
  uint64_t low = 0, high = std::bit_cast<uint64_t>(std::numeric_limits<double>::max());
  while (low < high) {
    const uint64_t middle = low + (high - low) / 2;
    if (bits_at(std::bit_cast<double>(middle)) <= budget)
      high = middle;
    else
      low = middle + 1;
  }
  const double lambda = std::bit_cast<double>(low);

  const uint32_t classes = widths.size();
  Allocation allocation;
  allocation.widths = widths;
  allocation.at_least.assign(classes, 0);
  allocation.threshold_key.assign(classes, element::first_nonfinite_key);
  allocation.cutoff_index.assign(classes, UINT64_MAX);
  allocation.low_key.assign(classes, 0);
  allocation.high_key.assign(classes, 0);
  allocation.at_least[0] = index.elements();
  for (const Increment& step : steps)
    for (uint32_t j = step.from + 1; j <= step.to; ++j) {
      allocation.threshold_key[j] = key_of_energy(lambda / step.density);
      allocation.at_least[j] = uint64_t(interpolated_count(index, allocation.threshold_key[j]));
    }
  allocation.payload_bits = payload_bits_of(widths, allocation.at_least);
  const uint32_t max_key = index.population().summary().max_key;
  for (uint32_t j = 0; j < classes; ++j) {
    const uint32_t from = j == 0 ? 0 : allocation.threshold_key[j];
    const uint32_t to = std::min(max_key, j + 1 < classes ? allocation.threshold_key[j + 1] - 1 : max_key);
    if (from > to) continue;
    if (from < index.first_key() && j == 0 && widths[0] == 0) {
      // Nothing needs the range of what is left out, but that there is one.
      if (allocation.members(0) > 0) allocation.high_key[0] = to;
      continue;
    }
    // Ranges end where there are elements: an outlier alone has a narrow one.
    const auto& cells = index.cells();
    const auto top = std::partition_point(cells.begin(), cells.end(),
                                          [&](const MagnitudeIndex::Cell& c) { return c.low > to; });
    const auto behind = std::partition_point(top, cells.end(),
                                             [&](const MagnitudeIndex::Cell& c) { return c.high() >= from; });
    if (top == behind) continue;
    allocation.low_key[j] = std::max(from, std::prev(behind)->low);
    allocation.high_key[j] = std::min(to, top->high());
  }
  return allocation;
}

}  // namespace jsq

#include "lib/quantizers/trellis_quantizer.hpp"

#include <algorithm>
#include <cmath>

#include "lib/packers/dependent_states.hpp"

namespace jsq {
namespace {

constexpr double largest_scaled = 2147483000.0;
/// Levels of one parity that are tried on each side of a value, where a bit weighs as much as many steps.
constexpr int most_tries = 16;

struct Branch {
  uint8_t state, parity;
};

/// The two ways into each state.
constexpr auto branches_into = [] {
  std::array<std::array<Branch, 2>, dependent_states> into{};
  std::array<uint32_t, dependent_states> found{};
  for (uint8_t state = 0; state < dependent_states; ++state)
    for (uint8_t parity = 0; parity < 2; ++parity) {
      const uint32_t next = next_state[state][parity];
      into[next][found[next]++] = {state, parity};
    }
  return into;
}();

}  // namespace

TrellisQuantizer::TrellisQuantizer(const ContextCoder& coder, double lambda, double finer)
    : lambda_(lambda),
      finer_(finer),
      inverse_step_(1 / coder.values().step()),
      bits_{LevelBits(coder, 0), LevelBits(coder, 1)},
      values_(coder.values()) {
  for (size_t k = 0; k < context_classes; ++k) uses_[k] = coder.use(ContextClass(k));
  for (uint32_t q = 0; q < 2; ++q) {
    known_[q].resize(context_classes);
    if (coder.model().tables.empty()) continue;
    for (size_t k = 1; k < context_classes; ++k) {
      const Ladder& ladder = coder.model().tables_of(q)[uses_[k].table];
      most_[q][k] = ladder.closed ? int32_t(ladder.rungs) - 1 : largest_level;
      for (int32_t level = 0; level < known_levels; ++level) {
        known_[q][k].value[size_t(level)] = double(values_.points(uses_[k], uint32_t(level), q)) / 256;
        known_[q][k].bits[size_t(level)] = bits_[q](level, ContextClass(k));
      }
    }
  }
}

double TrellisQuantizer::value(uint32_t quantizer, int32_t level, ContextClass k) const {
  if (level < known_levels) return known_[quantizer][k].value[size_t(level)];
  return double(values_.points(uses_[k], uint32_t(level), quantizer)) / 256;
}

double TrellisQuantizer::length(uint32_t quantizer, int32_t level, ContextClass k) const {
  if (level < known_levels) return known_[quantizer][k].bits[size_t(level)];
  return bits_[quantizer](level, k);
}

/// Outwards from x, until what the distance alone costs is more than the best.
TrellisQuantizer::Choice TrellisQuantizer::best_of(uint32_t quantizer, int32_t parity, double x,
                                                   ContextClass k, double lambda) const {
  const int32_t most = most_[quantizer][k], whole = std::min(int32_t(x + 0.5 * quantizer), most);
  const int32_t below = whole - ((whole ^ parity) & 1);
  Choice best{HUGE_VAL, 0};
  const auto consider = [&](int32_t level) {
    const double off = x - value(quantizer, level, k), error = off * off;
    if (error >= best.cost) return false;
    const double cost = error + lambda * length(quantizer, level, k);
    if (cost < best.cost) best = {cost, level};
    return true;
  };
  // Levels farther away cost error, and are dear alike until tables know them.
  int32_t level = below;
  int tries = 0;
  for (; tries < most_tries && level >= 0 && consider(level); ++tries) level -= 2;
  if (tries == most_tries)
    for (level = std::min(level, int32_t(known_levels - 2) | parity); level >= 0; level -= 2) consider(level);
  level = below + 2;
  for (tries = 0; tries < most_tries && level <= most && consider(level); ++tries) level += 2;
  return best;
}

double TrellisQuantizer::quantize(std::span<const float> values, std::span<const ContextClass> classes,
                                  size_t first_finer, ActiveLevels& active) const {
  struct Step {
    std::array<int32_t, 4> levels;  ///< [quantizer][parity]
    uint32_t position;
    uint8_t second;  ///< of each state: whether the second way into it was better
  };
  static thread_local std::vector<Step> steps_of_thread;
  std::vector<Step>& steps = steps_of_thread;
  steps.clear();
  std::array<double, dependent_states> costs;
  costs.fill(HUGE_VAL);
  costs[0] = 0;
  double of_class_0 = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double x = std::min(std::abs(double(values[i])) * inverse_step_, largest_scaled);
    const ContextClass k = classes[i];
    if (k == 0) {
      of_class_0 += x * x;
      continue;
    }
    Step step;
    step.position = uint32_t(i);
    step.second = 0;
    std::array<double, 4> cost;
    const double lambda = i < first_finer ? finer_ : lambda_;
    for (uint32_t q = 0; q < 2; ++q)
      for (int32_t parity = 0; parity < 2; ++parity) {
        const Choice choice = best_of(q, parity, x, k, lambda);
        cost[2 * q + uint32_t(parity)] = choice.cost;
        step.levels[2 * q + uint32_t(parity)] = choice.level;
      }
    std::array<double, dependent_states> next;
    for (uint32_t state = 0; state < dependent_states; ++state) {
      const auto [first, second] = branches_into[state];
      const double by_first = costs[first.state] + cost[2 * quantizer_of(first.state) + first.parity],
                   by_second = costs[second.state] + cost[2 * quantizer_of(second.state) + second.parity];
      next[state] = by_second < by_first ? by_second : by_first;
      step.second |= uint8_t((by_second < by_first) << state);
    }
    costs = next;
    steps.push_back(step);
  }

  auto state = uint32_t(std::min_element(costs.begin(), costs.end()) - costs.begin());
  const double least = costs[state];
  const size_t before = active.levels.size();
  for (size_t j = steps.size(); j-- > 0;) {
    const Step& step = steps[j];
    const Branch way = branches_into[state][step.second >> state & 1];
    state = way.state;
    const int32_t level = step.levels[2 * quantizer_of(state) + way.parity];
    const size_t i = step.position;
    if (level == 0 && uses_[classes[i]].raw_bits == 0) continue;
    active.positions.push_back(step.position);
    active.levels.push_back(values[i] < 0 ? -level : level);
  }
  std::reverse(active.positions.begin() + std::ptrdiff_t(before), active.positions.end());
  std::reverse(active.levels.begin() + std::ptrdiff_t(before), active.levels.end());
  return least + of_class_0;
}

}  // namespace jsq

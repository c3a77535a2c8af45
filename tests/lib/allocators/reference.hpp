// What the allocators are held to: independent answers from sorting and dynamic programming over all widths.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "jsq/allocation.hpp"

namespace jsq::test {

/// Widths of the elements, and what they cost and leave.
struct Assignment {
  std::vector<uint32_t> widths;
  uint64_t bits = 0;
  double noise = 0;  ///< sum 4^-b g^2 / |g|^2 (0 for zero vectors)
};

inline double energy_of(std::span<const float> values) {
  double energy = 0;
  for (float g : values) energy += double(g) * double(g);
  return energy;
}

inline Assignment assignment_of(std::span<const float> values, const std::vector<uint32_t>& widths) {
  Assignment result{widths, 0, 0};
  for (size_t i = 0; i < values.size(); ++i) {
    result.bits += widths[i];
    result.noise += std::ldexp(double(values[i]) * double(values[i]), -2 * int(widths[i]));
  }
  const double energy = energy_of(values);
  result.noise = energy > 0 ? result.noise / energy : 0.0;
  return result;
}

inline Assignment assignment_of(std::span<const float> values, const Allocation& allocation) {
  const std::vector<uint8_t> classes = class_map(values, allocation);
  std::vector<uint32_t> widths(values.size());
  for (size_t i = 0; i < values.size(); ++i) widths[i] = allocation.widths[classes[i]];
  return assignment_of(values, widths);
}

/// best[c] = the least noise that at most c bits allow, for every c up to `most` (infinity where none): all
/// assignments, by dynamic programming over elements. O(d most |B|).
inline std::vector<double> least_noise(std::span<const float> values, const std::vector<uint32_t>& widths,
                                       uint64_t most) {
  std::vector<double> best(most + 1, 0.0);
  for (float g : values) {
    std::vector<double> next(most + 1, HUGE_VAL);
    for (uint64_t c = 0; c <= most; ++c)
      for (uint32_t b : widths)
        if (b <= c) next[c] = std::min(next[c], best[c - b] + std::ldexp(double(g) * double(g), -2 * int(b)));
    best = next;
  }
  const double energy = energy_of(values);
  for (double& noise : best) noise = energy > 0 ? noise / energy : (std::isinf(noise) ? noise : 0.0);
  return best;
}

/// The optimum for widths {0, 2, 4, 8} from a sort: greedy over increments by density, then the two repairs
/// of the integral end. Class sizes {d, n1, n2, n3}.
inline std::vector<uint64_t> sorted_optimum(std::span<const float> values, uint64_t budget) {
  std::vector<double> e;
  for (float g : values)
    if (g != 0) e.push_back(double(g) * double(g));
  std::sort(e.begin(), e.end(), std::greater<>());
  const double profit[3] = {15.0 / 16, 15.0 / 256, 255.0 / 65536};
  const uint32_t weight[3] = {2, 2, 4};
  uint64_t n[3] = {0, 0, 0};
  uint64_t left = budget;
  const auto density = [&](int j, uint64_t rank) {
    return rank < e.size() ? profit[j] / weight[j] * e[rank] : -1.0;
  };
  for (;;) {
    int next = 0;
    for (int j = 1; j < 3; ++j)
      if (density(j, n[j]) > density(next, n[next])) next = j;
    if (density(next, n[next]) < 0) break;
    if (weight[next] <= left) {
      ++n[next];
      left -= weight[next];
      continue;
    }
    if (weight[next] == 2 || left < 2) break;
    // A step of 4 bits with 2 or 3 left: the best step of 2 bits, or the step of 4 for the worst of 2 that
    // may go.
    const double gain_of_8 = profit[2] * e[n[2]];
    double best = 0;
    int choice = -1;
    for (int j = 0; j < 2; ++j) {
      const bool allowed = n[j] < e.size() && (j == 0 || n[1] < n[0]);
      if (allowed && profit[j] * e[n[j]] > best) best = profit[j] * e[n[j]], choice = j;
    }
    for (int j = 0; j < 2; ++j) {
      // Its successor must not be selected, nor be the new step.
      const bool allowed = n[j] > 0 && (j == 0 ? n[1] < n[0] : n[2] + 1 < n[1]);
      if (allowed && gain_of_8 - profit[j] * e[n[j] - 1] > best)
        best = gain_of_8 - profit[j] * e[n[j] - 1], choice = 2 + j;
    }
    if (choice >= 2) {
      ++n[2];
      --n[choice - 2];
      left -= 2;
    } else if (choice >= 0) {
      ++n[choice];
      left -= 2;
    }
    break;
  }
  return {values.size(), n[0], n[1], n[2]};
}

/// h' of class sizes over sorted magnitudes.
inline double noise_of_sizes(std::span<const float> values, const std::vector<uint32_t>& widths,
                             const std::vector<uint64_t>& at_least) {
  std::vector<double> e;
  for (float g : values) e.push_back(double(g) * double(g));
  std::sort(e.begin(), e.end(), std::greater<>());
  double noise = 0, energy = 0;
  for (size_t r = 0; r < e.size(); ++r) {
    size_t j = 0;
    while (j + 1 < at_least.size() && r < at_least[j + 1]) ++j;
    noise += std::ldexp(e[r], -2 * int(widths[j]));
    energy += e[r];
  }
  return energy > 0 ? noise / energy : 0.0;
}

/// Whether an allocation's own figures, its class map and its ranges agree; the first disagreement in words,
/// or "".
inline std::string inconsistency(std::span<const float> values, const Allocation& a) {
  const uint32_t classes = a.widths.size();
  const std::vector<uint8_t> map = class_map(values, a);
  std::vector<uint64_t> members(classes);
  std::vector<uint32_t> low(classes, UINT32_MAX), high(classes, 0);
  uint64_t bits = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const uint32_t key = std::bit_cast<uint32_t>(std::fabs(values[i]));
    ++members[map[i]];
    low[map[i]] = std::min(low[map[i]], key);
    high[map[i]] = std::max(high[map[i]], key);
    bits += a.widths[map[i]];
  }
  if (a.at_least.size() != classes || a.at_least[0] != values.size()) return "the number of elements";
  if (bits != a.payload_bits)
    return "payload bits " + std::to_string(a.payload_bits) + ", the map has " + std::to_string(bits);
  for (uint32_t j = 0; j < classes; ++j) {
    const std::string where = "class " + std::to_string(j) + ": ";
    if (members[j] != a.members(j))
      return where + std::to_string(a.members(j)) + " members, the map has " + std::to_string(members[j]);
    if (members[j] > 0 && (a.low_key[j] != low[j] || a.high_key[j] != high[j])) return where + "its range";
    if (members[j] == 0 && (a.low_key[j] != 0 || a.high_key[j] != 0))
      return where + "the range of an empty class";
  }
  // Wider never for a smaller magnitude; among equals, never for a higher index.
  std::vector<size_t> order(values.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t x, size_t y) { return std::fabs(values[x]) > std::fabs(values[y]); });
  for (size_t r = 1; r < order.size(); ++r)
    if (map[order[r]] > map[order[r - 1]])
      return "element " + std::to_string(order[r]) + " is above element " + std::to_string(order[r - 1]);
  return "";
}

}  // namespace jsq::test

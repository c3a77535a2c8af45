// JointSQ's noise models, each named for the equation it evaluates (Xie et al., CVPR 2024).
#include <algorithm>
#include <cmath>

#include "jsq/allocation.hpp"
#include "kernels/element/float_bits.hpp"

namespace jsq {

NoiseReport noise_of_classes(const WidthSet& widths, const std::vector<uint64_t>& members,
                             const std::vector<double>& class_energy) {
  NoiseReport report;
  double energy = 0;
  for (double e : class_energy) energy += e;
  if (!(energy > 0)) return report;
  for (uint32_t j = 0; j < widths.size(); ++j) {
    const double share = std::ldexp(class_energy[j] / energy, -2 * int(widths[j]));
    report.per_element += share;
    report.eq6 += share * double(members[j]);
    report.eq6_nonzero += share * (widths[j] == 0 ? 1.0 : double(members[j]));
  }
  return report;
}

NoiseReport analyze_noise(std::span<const float> values, const Allocation& allocation) {
  const std::vector<uint8_t> classes = class_map(values, allocation);
  std::vector<double> class_energy(allocation.widths.size());
  std::vector<uint64_t> members(allocation.widths.size());
  for (size_t i = 0; i < values.size(); ++i) {
    class_energy[classes[i]] += double(values[i]) * double(values[i]);
    ++members[classes[i]];
  }
  NoiseReport report = noise_of_classes(allocation.widths, members, class_energy);
  double best = HUGE_VAL;
  for (uint32_t b = 1; b <= 8; ++b) {
    const uint64_t kept = std::min<uint64_t>(values.size(), allocation.payload_bits / b);
    const double h = std::ldexp(double(kept), -2 * int(b));
    if (kept > 0 && h < best) {
      best = h;
      report.uniform = h;
      report.uniform_bits = b;
    }
  }
  return report;
}

ExchangeReport exchange_between(std::span<const float> values, const Allocation& from, const Allocation& to) {
  const std::vector<uint8_t> before = class_map(values, from), after = class_map(values, to);
  ExchangeReport report;
  double energy = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double g = double(values[i]), square = g * g;
    const int old_width = int(from.widths[before[i]]), new_width = int(to.widths[after[i]]);
    energy += square;
    const double fall = std::ldexp(square, -2 * old_width) - std::ldexp(square, -2 * new_width);
    (fall > 0 ? report.gain : report.loss) += std::abs(fall);
  }
  if (!(energy > 0)) return {};
  report.gain /= energy;
  report.loss /= energy;
  return report;
}

}  // namespace jsq

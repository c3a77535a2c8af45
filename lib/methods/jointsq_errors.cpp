#include "lib/methods/jointsq_errors.hpp"

#include <algorithm>

namespace jsq {
namespace {

/// (g - g^)^2 of a magnitude in class c.
double error_of(const element::ClassPlan& plan, uint32_t c, uint32_t key) {
  const float g = element::magnitude_of_key(key);
  float decoded = 0;
  if (plan.width[c] > 0)
    decoded = element::dequantize_in_class(
        plan.quantizer, plan.width[c], plan.scale[c],
        element::quantize_in_class(plan.quantizer, plan.width[c], plan.scale[c], g, 0.5f));
  const double error = double(g) - double(decoded);
  return error * error;
}

/// The mean of (g - g^)^2 over keys [from, to], all in class c.
double mean_error(const element::ClassPlan& plan, uint32_t c, uint32_t from, uint32_t to) {
  const double step = plan.width[c] > 0 ? double(plan.scale[c].step) : 0.0;
  if (double(element::magnitude_of_key(to)) - double(element::magnitude_of_key(from)) > 2 * step && step > 0)
    return step * step / 12;
  constexpr uint32_t points = 8;
  if (to - from < points) {
    double sum = 0;
    for (uint32_t key = from; key <= to; ++key) sum += error_of(plan, c, key);
    return sum / (to - from + 1);
  }
  double sum = 0;
  for (uint32_t k = 0; k < points; ++k)
    sum += error_of(plan, c, from + uint32_t(uint64_t(to - from) * (2 * k + 1) / (2 * points)));
  return sum / points;
}

}  // namespace

double modelled_squared_error(const MagnitudeIndex& index, const element::ClassPlan& plan) {
  const auto class_of = [&](uint32_t key) {
    uint32_t c = 0;
    while (c + 1 < plan.classes && key >= plan.threshold[c + 1]) ++c;
    return c;
  };
  const uint32_t largest = index.population().summary().max_key;
  double sum = error_of(plan, class_of(largest), largest);
  for (const MagnitudeIndex::Cell& cell : index.cells()) {
    const uint32_t last = std::min(cell.high(), largest);
    const double each = double(cell.count - (cell.high() >= largest)) / (double(last) - cell.low + 1);
    for (uint32_t from = cell.low; from <= last;) {
      const uint32_t c = class_of(from);
      const uint32_t to = c + 1 < plan.classes ? std::min(last, plan.threshold[c + 1] - 1) : last;
      sum += each * (double(to) - from + 1) * mean_error(plan, c, from, to);
      from = to + 1;
    }
  }
  return sum;
}

}  // namespace jsq

// Sums of parts in 16 lanes of double, compiled once per SIMD level.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/axis_sums.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>

#include "kernels/cpu/axis_sums.hpp"
#include "kernels/element/summary.hpp"

HWY_BEFORE_NAMESPACE();
namespace jsq::cpu::HWY_NAMESPACE {

constexpr size_t lanes = element::sum_lanes;

HWY_INLINE double sum_part(const float* values, size_t count) {
  double sums[lanes] = {};
  size_t i = 0;
  for (; i + lanes <= count; i += lanes)
    for (size_t l = 0; l < lanes; ++l) sums[l] += element::finite_magnitude(values[i + l]);
  for (size_t l = 0; i + l < count; ++l) sums[l] += element::finite_magnitude(values[i + l]);
  for (size_t half = lanes / 2; half > 0; half /= 2)
    for (size_t l = 0; l < half; ++l) sums[l] += sums[l + half];
  return sums[0];
}

/// Adds `parts` parts of `length` elements to a sum each.
void add_parts(const float* values, size_t parts, size_t length, double* sums) {
  if (length == 1) {
    for (size_t p = 0; p < parts; ++p) sums[p] += element::finite_magnitude(values[p]);
    return;
  }
  for (size_t p = 0; p < parts; ++p) sums[p] += sum_part(values + p * length, length);
}

}  // namespace jsq::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jsq::cpu {

HWY_EXPORT(add_parts);

double sum_of_part(std::span<const float> values) {
  double sum = 0;
  if (!values.empty()) HWY_DYNAMIC_DISPATCH(add_parts)(values.data(), 1, values.size(), &sum);
  return sum;
}

void add_to_axis(const element::Axis& axis, uint64_t first, std::span<const float> chunk,
                 std::span<double> sums) {
  for (size_t at = 0; at < chunk.size();) {
    const uint64_t in_period = (first + at) % axis.period,
                   index = std::min(in_period / axis.length, axis.indices - 1),
                   left = index * axis.length + axis.length_of(index) - in_period;
    size_t parts = 1, length = size_t(std::min<uint64_t>(left, chunk.size() - at));
    if (length == axis.length) {  // a whole one; others like it may follow
      const uint64_t alike = axis.indices - index - (axis.length_of(axis.indices - 1) == length ? 0 : 1);
      parts = size_t(std::min<uint64_t>(std::max<uint64_t>(alike, 1), (chunk.size() - at) / length));
    }
    HWY_DYNAMIC_DISPATCH(add_parts)(chunk.data() + at, parts, length, sums.data() + index);
    at += parts * length;
  }
}

}  // namespace jsq::cpu
#endif

// Error sums in 16 lanes of double, compiled once per SIMD level.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/error_sums.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/error_sums.hpp"
#include "kernels/cpu/exact_product.hpp"
#include "kernels/cpu/summary.hpp"

HWY_BEFORE_NAMESPACE();
namespace jsq::cpu::HWY_NAMESPACE {

constexpr size_t lanes = 16;
constexpr bool fused = multiplies_and_adds(HWY_TARGET);

struct ErrorLanes {
  double squared_error[lanes] = {}, dot[lanes] = {}, decoded_energy[lanes] = {}, error_sum[lanes] = {},
         max_error[lanes] = {};

  HWY_INLINE void add(const float* values, const float* decoded) {
    for (size_t l = 0; l < lanes; ++l) {
      const double value = values[l], point = decoded[l], error = point - value;
      squared_error[l] += error * error;
      dot[l] = add_exact_product<fused>(dot[l], value, point);
      decoded_energy[l] = add_exact_product<fused>(decoded_energy[l], point, point);
      error_sum[l] += error;
      const double magnitude = __builtin_fabs(error);  // one operation; a comparison takes three
      max_error[l] = magnitude > max_error[l] ? magnitude : max_error[l];
    }
  }
};

void add_stretch(const float* values, const float* decoded, size_t count, ErrorSums& total) {
  ErrorLanes sums;
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) sums.add(values + i, decoded + i);
  if (i < count) {  // zeros in the place of what is not there add nothing
    float last_values[lanes] = {}, last_decoded[lanes] = {};
    for (size_t l = 0; i + l < count; ++l) last_values[l] = values[i + l];
    for (size_t l = 0; i + l < count; ++l) last_decoded[l] = decoded[i + l];
    sums.add(last_values, last_decoded);
  }
  for (size_t half = lanes / 2; half > 0; half /= 2) {
    for (size_t l = 0; l < half; ++l) {
      sums.squared_error[l] += sums.squared_error[l + half];
      sums.dot[l] += sums.dot[l + half];
      sums.decoded_energy[l] += sums.decoded_energy[l + half];
      sums.error_sum[l] += sums.error_sum[l + half];
      sums.max_error[l] =
          sums.max_error[l] > sums.max_error[l + half] ? sums.max_error[l] : sums.max_error[l + half];
    }
  }
  total.squared_error += sums.squared_error[0];
  total.dot += sums.dot[0];
  total.decoded_energy += sums.decoded_energy[0];
  total.error_sum += sums.error_sum[0];
  total.max_error = sums.max_error[0] > total.max_error ? sums.max_error[0] : total.max_error;
}

}  // namespace jsq::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jsq::cpu {

HWY_EXPORT(add_stretch);

ErrorSums error_sums(std::span<const float> values, std::span<const float> decoded) {
  ErrorSums total;
  for (size_t at = 0; at < values.size(); at += sum_chunk) {
    const size_t n = values.size() - at < sum_chunk ? values.size() - at : sum_chunk;
    HWY_DYNAMIC_DISPATCH(add_stretch)(values.data() + at, decoded.data() + at, n, total);
  }
  return total;
}

}  // namespace jsq::cpu
#endif

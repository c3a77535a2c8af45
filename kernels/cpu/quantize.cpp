// Straight-line loops over batches of kept elements, compiled once per SIMD level. Arithmetic is that of
// quantize_in_class and dequantize_in_class for `cell`, operation by operation, so every level gives the same result.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/quantize.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/quantize.hpp"

HWY_BEFORE_NAMESPACE();
namespace jsq::cpu::HWY_NAMESPACE {

constexpr size_t lanes = 16;

struct Lanes {
  uint32_t members[element::max_classes][lanes] = {};
  double class_energy[element::max_classes][lanes] = {};
  double squared_error[lanes] = {}, dot[lanes] = {}, decoded_energy[lanes] = {}, error_sum[lanes] = {}, max_error[lanes] = {};
};

struct Tables {
  float low[16] = {}, high[16] = {}, divisor[16] = {}, step[16] = {}, last[16] = {};
  int32_t half[16] = {};
};

/// Sixteen elements: g and c in, codes out, sums added for the first `n` of them (all sixteen when Whole).
template <bool Whole>
HWY_INLINE void quantize_sixteen(const Tables& t, uint32_t first_class, uint32_t class_count, const float* g, const int32_t* c,
                                 size_t n, int32_t* codes, Lanes& sums) {
  float decoded[lanes];
  for (size_t l = 0; l < lanes; ++l) {
    const float magnitude = element::magnitude_of_key(element::magnitude_key(g[l]));
    const float low = t.low[c[l]], step = t.step[c[l]], last = t.last[c[l]];
    const float y = (magnitude - low) / t.divisor[c[l]];
    const float cell = y < last ? y : last;
    const int32_t index = int32_t(cell);
    const float centre = low + (float(index) + 0.5f) * step;
    const float value = centre > t.high[c[l]] ? t.high[c[l]] : centre;
    const bool negative = element::bits_as<int32_t>(g[l]) < 0;
    decoded[l] = negative ? -value : value;
    codes[l] = index + (negative ? t.half[c[l]] : 0);
  }
  double energy[lanes];
  for (size_t l = 0; l < lanes; ++l) {
    const bool counts = Whole || l < n;
    const double value = counts ? double(g[l]) : 0.0, point = counts ? double(decoded[l]) : 0.0, error = point - value;
    energy[l] = value * value;
    sums.squared_error[l] += error * error;
    sums.dot[l] += value * point;
    sums.decoded_energy[l] += point * point;
    sums.error_sum[l] += error;
    const double magnitude = error < 0 ? -error : error;
    sums.max_error[l] = magnitude > sums.max_error[l] ? magnitude : sums.max_error[l];
  }
  for (uint32_t j = first_class; j < class_count; ++j) {
    for (size_t l = 0; l < lanes; ++l) sums.class_energy[j][l] += c[l] == int32_t(j) ? energy[l] : 0.0;
    for (size_t l = 0; l < lanes; ++l) sums.members[j][l] += c[l] == int32_t(j) && (Whole || l < n) ? 1u : 0u;
  }
}

void quantize_all(const element::ClassPlan& plan, const float* values, const uint8_t* classes, const uint32_t* kept, size_t count,
                  uint8_t* kept_classes, uint8_t* codes, KeptSums& result) {
  Tables tables;
  for (float& divisor : tables.divisor) divisor = 1;
  for (uint32_t j = 0; j < plan.classes; ++j) {
    tables.low[j] = plan.scale[j].low;
    tables.high[j] = plan.scale[j].high;
    tables.divisor[j] = plan.scale[j].divisor;
    tables.step[j] = plan.scale[j].step;
    tables.half[j] = plan.width[j] ? 1 << (plan.width[j] - 1) : 0;
    tables.last[j] = plan.width[j] ? float(tables.half[j] - 1) : 0.0f;
  }
  Lanes sums;
  const uint32_t first_class = plan.width[0] == 0 ? 1 : 0;  // class 0 is not kept when it has no bits
  size_t k = 0;
  for (; k + lanes <= count; k += lanes) {
    float g[lanes];
    int32_t c[lanes], code[lanes];
    for (size_t l = 0; l < lanes; ++l) g[l] = values[kept[k + l]];
    for (size_t l = 0; l < lanes; ++l) c[l] = classes[kept[k + l]];
    quantize_sixteen<true>(tables, first_class, plan.classes, g, c, lanes, code, sums);
    for (size_t l = 0; l < lanes; ++l) kept_classes[k + l] = uint8_t(c[l]);
    for (size_t l = 0; l < lanes; ++l) codes[k + l] = uint8_t(code[l]);
  }
  if (const size_t n = count - k; n > 0) {
    float g[lanes];
    int32_t c[lanes] = {}, code[lanes];
    for (float& unused : g) unused = tables.low[0];  // within class 0, so that no lane converts out of range
    for (size_t l = 0; l < n; ++l) g[l] = values[kept[k + l]];
    for (size_t l = 0; l < n; ++l) c[l] = classes[kept[k + l]];
    quantize_sixteen<false>(tables, first_class, plan.classes, g, c, n, code, sums);
    for (size_t l = 0; l < n; ++l) kept_classes[k + l] = uint8_t(c[l]);
    for (size_t l = 0; l < n; ++l) codes[k + l] = uint8_t(code[l]);
  }
  const auto fold = [](double* lane) {
    for (size_t half = lanes / 2; half > 0; half /= 2)
      for (size_t l = 0; l < half; ++l) lane[l] += lane[l + half];
    return lane[0];
  };
  for (uint32_t j = 0; j < plan.classes; ++j) {
    result.class_energy[j] = fold(sums.class_energy[j]);
    for (size_t l = 0; l < lanes; ++l) result.members[j] += sums.members[j][l];
  }
  result.squared_error = fold(sums.squared_error);
  result.dot = fold(sums.dot);
  result.decoded_energy = fold(sums.decoded_energy);
  result.error_sum = fold(sums.error_sum);
  for (size_t l = 0; l < lanes; ++l) result.max_error = sums.max_error[l] > result.max_error ? sums.max_error[l] : result.max_error;
}

}  // namespace jsq::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jsq::cpu {

HWY_EXPORT(quantize_all);

KeptSums quantize_cells(const element::ClassPlan& plan, const float* values, const uint8_t* classes,
                        std::span<const uint32_t> kept, uint8_t* kept_classes, uint8_t* codes) {
  KeptSums sums;
  HWY_DYNAMIC_DISPATCH(quantize_all)(plan, values, classes, kept.data(), kept.size(), kept_classes, codes, sums);
  return sums;
}

}  // namespace jsq::cpu
#endif

// Loops over batches of kept elements, compiled once per SIMD level. Arithmetic is that of quantize_in_class
// and dequantize_in_class for `cell`, operation by operation, so every level gives the same result.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/quantize.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/quantize.hpp"

HWY_BEFORE_NAMESPACE();
namespace jsq::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

constexpr size_t lanes = 16;

struct Lanes {
  uint32_t members[element::max_classes][lanes] = {};
  double class_energy[element::max_classes][lanes] = {};
  double squared_error[lanes] = {}, dot[lanes] = {}, decoded_energy[lanes] = {}, error_sum[lanes] = {},
         max_error[lanes] = {};
};

/// What the quantizer knows of a class, as floats and as the bit of a negative code.
struct ClassNumbers {
  float low = 0, high = 0, divisor = 1, step = 0, last = 0;
  int32_t half = 0;
};

/// Codes and decoded values of sixteen elements. Classes are few, so that choosing by comparison is faster
/// than gathering.
HWY_INLINE void quantize_lanes(const ClassNumbers* numbers, uint32_t first_class, uint32_t class_count,
                               const float* g, const int32_t* c, int32_t* codes, float* decoded) {
  const hn::CappedTag<float, lanes> d;
  const hn::RebindToSigned<decltype(d)> di;
  for (size_t l = 0; l < lanes; l += hn::Lanes(d)) {
    const auto value = hn::LoadU(d, g + l);
    const auto classes = hn::LoadU(di, c + l);
    auto low = hn::Set(d, numbers[first_class].low), high = hn::Set(d, numbers[first_class].high);
    auto divisor = hn::Set(d, numbers[first_class].divisor), step = hn::Set(d, numbers[first_class].step);
    auto last = hn::Set(d, numbers[first_class].last);
    auto half = hn::Set(di, numbers[first_class].half);
    for (uint32_t j = first_class + 1; j < class_count; ++j) {
      const auto is_int = hn::Eq(classes, hn::Set(di, int32_t(j)));
      const auto is = hn::RebindMask(d, is_int);
      low = hn::IfThenElse(is, hn::Set(d, numbers[j].low), low);
      high = hn::IfThenElse(is, hn::Set(d, numbers[j].high), high);
      divisor = hn::IfThenElse(is, hn::Set(d, numbers[j].divisor), divisor);
      step = hn::IfThenElse(is, hn::Set(d, numbers[j].step), step);
      last = hn::IfThenElse(is, hn::Set(d, numbers[j].last), last);
      half = hn::IfThenElse(is_int, hn::Set(di, numbers[j].half), half);
    }
    const auto y = hn::Div(hn::Sub(hn::Abs(value), low), divisor);
    const auto index = hn::ConvertTo(di, hn::IfThenElse(hn::Lt(y, last), y, last));
    const auto centre = hn::Add(low, hn::Mul(hn::Add(hn::ConvertTo(d, index), hn::Set(d, 0.5f)), step));
    const auto magnitude = hn::IfThenElse(hn::Gt(centre, high), high, centre);
    hn::StoreU(hn::CopySignToAbs(magnitude, value), d, decoded + l);
    const auto negative = hn::Lt(hn::BitCast(di, value), hn::Zero(di));
    hn::StoreU(hn::Add(index, hn::IfThenElseZero(negative, half)), di, codes + l);
  }
}

/// Sixteen elements: g and c in, codes out, sums added for the first `n` of them (all sixteen when Whole).
template <bool Whole>
HWY_INLINE void quantize_sixteen(const ClassNumbers* numbers, uint32_t first_class, uint32_t class_count,
                                 const float* g, const int32_t* c, size_t n, int32_t* codes, Lanes& sums) {
  float decoded[lanes];
  quantize_lanes(numbers, first_class, class_count, g, c, codes, decoded);
  double energy[lanes];
  for (size_t l = 0; l < lanes; ++l) {
    const bool counts = Whole || l < n;
    const double value = counts ? double(g[l]) : 0.0, point = counts ? double(decoded[l]) : 0.0,
                 error = point - value;
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

/// What the quantizer knows of every class.
HWY_INLINE void fill_numbers(const element::ClassPlan& plan, ClassNumbers* numbers) {
  for (uint32_t j = 0; j < plan.classes; ++j) {
    const int32_t half = plan.width[j] ? 1 << (plan.width[j] - 1) : 0;
    numbers[j] = {plan.scale[j].low,
                  plan.scale[j].high,
                  plan.scale[j].divisor,
                  plan.scale[j].step,
                  half ? float(half - 1) : 0.0f,
                  half};
  }
}

void code_all(const element::ClassPlan& plan, const float* values, const uint8_t* classes,
              const uint32_t* kept, size_t count, uint8_t* kept_classes, uint8_t* codes) {
  ClassNumbers numbers[element::max_classes];
  fill_numbers(plan, numbers);
  const uint32_t first_class = plan.width[0] == 0 ? 1 : 0;
  for (size_t k = 0; k < count; k += lanes) {
    const size_t n = count - k < lanes ? count - k : lanes;
    float g[lanes], decoded[lanes];
    int32_t c[lanes], code[lanes];
    if (n < lanes) {
      for (int32_t& unused : c) unused = int32_t(first_class);
      for (float& unused : g) unused = numbers[first_class].low;
      for (size_t l = 0; l < n; ++l) g[l] = values[kept[k + l]];
      for (size_t l = 0; l < n; ++l) c[l] = classes[kept[k + l]];
    } else {
      for (size_t l = 0; l < lanes; ++l) g[l] = values[kept[k + l]];
      for (size_t l = 0; l < lanes; ++l) c[l] = classes[kept[k + l]];
    }
    quantize_lanes(numbers, first_class, plan.classes, g, c, code, decoded);
    if (n < lanes) {
      for (size_t l = 0; l < n; ++l) kept_classes[k + l] = uint8_t(c[l]);
      for (size_t l = 0; l < n; ++l) codes[k + l] = uint8_t(code[l]);
    } else {
      for (size_t l = 0; l < lanes; ++l) kept_classes[k + l] = uint8_t(c[l]);
      for (size_t l = 0; l < lanes; ++l) codes[k + l] = uint8_t(code[l]);
    }
  }
}

void quantize_all(const element::ClassPlan& plan, const float* values, const uint8_t* classes,
                  const uint32_t* kept, size_t count, uint8_t* kept_classes, uint8_t* codes,
                  KeptSums& result) {
  ClassNumbers numbers[element::max_classes];
  fill_numbers(plan, numbers);
  Lanes sums;
  const uint32_t first_class = plan.width[0] == 0 ? 1 : 0;  // class 0 is not kept when it has no bits
  size_t k = 0;
  for (; k + lanes <= count; k += lanes) {
    float g[lanes];
    int32_t c[lanes], code[lanes];
    for (size_t l = 0; l < lanes; ++l) g[l] = values[kept[k + l]];
    for (size_t l = 0; l < lanes; ++l) c[l] = classes[kept[k + l]];
    quantize_sixteen<true>(numbers, first_class, plan.classes, g, c, lanes, code, sums);
    for (size_t l = 0; l < lanes; ++l) kept_classes[k + l] = uint8_t(c[l]);
    for (size_t l = 0; l < lanes; ++l) codes[k + l] = uint8_t(code[l]);
  }
  if (const size_t n = count - k; n > 0) {
    float g[lanes];
    int32_t c[lanes], code[lanes];
    for (int32_t& unused : c) unused = int32_t(first_class);
    for (float& unused : g)
      unused = numbers[first_class].low;  // within its class, so that no lane converts out of range
    for (size_t l = 0; l < n; ++l) g[l] = values[kept[k + l]];
    for (size_t l = 0; l < n; ++l) c[l] = classes[kept[k + l]];
    quantize_sixteen<false>(numbers, first_class, plan.classes, g, c, n, code, sums);
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
  for (size_t l = 0; l < lanes; ++l)
    result.max_error = sums.max_error[l] > result.max_error ? sums.max_error[l] : result.max_error;
}

}  // namespace jsq::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jsq::cpu {

HWY_EXPORT(quantize_all);
HWY_EXPORT(code_all);

void code_cells(const element::ClassPlan& plan, const float* values, const uint8_t* classes,
                std::span<const uint32_t> kept, uint8_t* kept_classes, uint8_t* codes) {
  HWY_DYNAMIC_DISPATCH(code_all)(plan, values, classes, kept.data(), kept.size(), kept_classes, codes);
}

KeptSums quantize_cells(const element::ClassPlan& plan, const float* values, const uint8_t* classes,
                        std::span<const uint32_t> kept, uint8_t* kept_classes, uint8_t* codes) {
  KeptSums sums;
  HWY_DYNAMIC_DISPATCH(quantize_all)
  (plan, values, classes, kept.data(), kept.size(), kept_classes, codes, sums);
  return sums;
}

}  // namespace jsq::cpu
#endif

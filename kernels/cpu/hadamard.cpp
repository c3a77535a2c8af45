// Butterflies in plain loops, compiled once per SIMD level: the first four stages inside 16 neighbours, the
// others two at a time, so that each pass over the block does the work of two. Neither changes which numbers
// are added.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/hadamard.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/hadamard.hpp"
#include "kernels/cpu/uniforms.hpp"
#include "kernels/element/hadamard.hpp"

HWY_BEFORE_NAMESPACE();
namespace jsq::cpu::HWY_NAMESPACE {

constexpr size_t lanes = 16;

/// One stage inside 16 neighbours: lane l becomes x[l ^ distance] + x[l], or - x[l] in the upper half of its
/// pair.
template <size_t distance>
HWY_INLINE void stage_of_sixteen(float* HWY_RESTRICT x) {
  float partner[lanes];
  for (size_t l = 0; l < lanes; ++l) partner[l] = x[l ^ distance];
  for (size_t l = 0; l < lanes; ++l) x[l] = partner[l] + (l & distance ? -x[l] : x[l]);
}

void one_stage(float* values, size_t count, size_t distance) {
  for (size_t first = 0; first < count; first += 2 * distance) {
    float *low = values + first, *high = low + distance;
    for (size_t i = 0; i < distance; ++i) {
      const float a = low[i], b = high[i];
      low[i] = a + b;
      high[i] = a - b;
    }
  }
}

/// The stages `distance` and 2 distance in one pass.
void two_stages(float* values, size_t count, size_t distance) {
  for (size_t first = 0; first < count; first += 4 * distance) {
    float* HWY_RESTRICT w = values + first;
    float* HWY_RESTRICT x = w + distance;
    float* HWY_RESTRICT y = x + distance;
    float* HWY_RESTRICT z = y + distance;
    for (size_t i = 0; i < distance; ++i) {
      const float a = w[i] + x[i], b = w[i] - x[i], c = y[i] + z[i], d = y[i] - z[i];
      w[i] = a + c;
      x[i] = b + d;
      y[i] = a - c;
      z[i] = b - d;
    }
  }
}

void transform(float* values, size_t count) {
  size_t distance = 1;
  if (count >= lanes) {
    for (size_t first = 0; first < count; first += lanes) {
      float x[lanes];
      for (size_t l = 0; l < lanes; ++l) x[l] = values[first + l];
      stage_of_sixteen<1>(x);
      stage_of_sixteen<2>(x);
      stage_of_sixteen<4>(x);
      stage_of_sixteen<8>(x);
      for (size_t l = 0; l < lanes; ++l) values[first + l] = x[l];
    }
    distance = lanes;
  }
  for (; 4 * distance <= count; distance *= 4) two_stages(values, count, distance);
  if (2 * distance <= count) one_stage(values, count, distance);
}

void change_signs(float* values, const uint32_t* words, size_t count) {
  for (size_t i = 0; i < count; ++i) values[i] = element::with_random_sign(values[i], words[i]);
}

}  // namespace jsq::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jsq::cpu {

HWY_EXPORT(transform);
HWY_EXPORT(change_signs);

void walsh_hadamard(std::span<float> values) {
  HWY_DYNAMIC_DISPATCH(transform)(values.data(), values.size());
}

void apply_random_signs(std::span<float> values, uint64_t seed, uint64_t first_element, uint32_t tensor) {
  constexpr size_t batch = 1024;
  uint32_t words[batch];
  for (size_t at = 0; at < values.size(); at += batch) {
    const auto part = values.subspan(at, values.size() - at < batch ? values.size() - at : batch);
    fill_words(seed, first_element + at, tensor, element::RandomPurpose::signs, {words, part.size()});
    HWY_DYNAMIC_DISPATCH(change_signs)(part.data(), words, part.size());
  }
}

}  // namespace jsq::cpu
#endif

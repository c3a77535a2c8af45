// Moments in 16 lanes of double, compiled once per SIMD level.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/moments.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <limits>

#include "kernels/cpu/moments.hpp"

HWY_BEFORE_NAMESPACE();
namespace jsq::cpu::HWY_NAMESPACE {

constexpr size_t lanes = element::sum_lanes;
constexpr float nothing = std::numeric_limits<float>::quiet_NaN();

struct MomentLanes {
  double of[element::moment_count][lanes] = {};
  uint32_t pairs[lanes] = {};

  HWY_INLINE void add(const float* values, const float* before, const element::ChunkCentres& centres) {
    for (size_t l = 0; l < lanes; ++l) {
      const element::MomentTerms terms = element::moment_terms(values[l], before[l], centres);
      for (size_t m = 0; m < element::moment_count; ++m) of[m][l] += terms.of[m];
      pairs[l] += terms.paired;
    }
  }
};

void add_moments(const float* values, size_t count, const element::ChunkCentres& centres,
                 element::ChunkMoments& total) {
  MomentLanes sums;
  const auto add_some = [&](size_t i) {  // what is not there is not finite, and adds nothing
    float here[lanes], before[lanes];
    for (size_t l = 0; l < lanes; ++l) here[l] = i + l < count ? values[i + l] : nothing;
    for (size_t l = 0; l < lanes; ++l) before[l] = i + l > 0 && i + l <= count ? values[i + l - 1] : nothing;
    sums.add(here, before, centres);
  };
  add_some(0);
  size_t i = lanes;
  for (; i + lanes <= count; i += lanes) sums.add(values + i, values + i - 1, centres);
  if (i < count) add_some(i);
  for (size_t half = lanes / 2; half > 0; half /= 2) {
    for (size_t l = 0; l < half; ++l) {
      for (auto& moment : sums.of) moment[l] += moment[l + half];
      sums.pairs[l] += sums.pairs[l + half];
    }
  }
  for (size_t m = 0; m < element::moment_count; ++m) total.of[m] = sums.of[m][0];
  total.pairs = sums.pairs[0];
}

}  // namespace jsq::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jsq::cpu {

HWY_EXPORT(add_moments);

element::ChunkMoments moments_of_chunk(std::span<const float> values, const element::ChunkSums& sums) {
  element::ChunkMoments moments;
  HWY_DYNAMIC_DISPATCH(add_moments)
  (values.data(), values.size(), element::centres_of(sums, values.size()), moments);
  moments.first = values.front();
  moments.last = values.back();
  return moments;
}

}  // namespace jsq::cpu
#endif

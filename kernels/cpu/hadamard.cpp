// Butterflies in plain loops, compiled once per SIMD level: the first four stages inside 16 neighbours, the
// others two at a time, so that each pass over the block does the work of two. Neither changes which numbers
// are added.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/hadamard.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>

#include "kernels/cpu/hadamard.hpp"
#include "kernels/cpu/uniforms.hpp"
#include "kernels/element/hadamard.hpp"

HWY_BEFORE_NAMESPACE();
namespace jsq::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

constexpr size_t lanes = 16;

#if HWY_TARGET <= HWY_AVX3

/// The first four stages, sixteen neighbours in a register: lane l becomes x[l ^ distance] + x[l], or - x[l]
/// in the upper half of its pair.
void first_stages(float* values, size_t count) {
  const hn::FixedTag<float, lanes> d;
  const hn::FixedTag<int32_t, lanes> di;
  alignas(64) int32_t across4[lanes], across8[lanes];
  alignas(64) int32_t signs[4][lanes];
  for (int32_t l = 0; l < int32_t(lanes); ++l) {
    across4[l] = l ^ 4;
    across8[l] = l ^ 8;
    for (int32_t k = 0; k < 4; ++k) signs[k][l] = (l >> k & 1) != 0 ? INT32_MIN : 0;
  }
  const auto at4 = hn::SetTableIndices(d, across4), at8 = hn::SetTableIndices(d, across8);
  const auto sign1 = hn::BitCast(d, hn::Load(di, signs[0])), sign2 = hn::BitCast(d, hn::Load(di, signs[1])),
             sign4 = hn::BitCast(d, hn::Load(di, signs[2])), sign8 = hn::BitCast(d, hn::Load(di, signs[3]));
  for (size_t first = 0; first < count; first += lanes) {
    auto x = hn::LoadU(d, values + first);
    x = hn::Add(hn::Shuffle2301(x), hn::Xor(x, sign1));
    x = hn::Add(hn::Shuffle1032(x), hn::Xor(x, sign2));
    x = hn::Add(hn::TableLookupLanes(x, at4), hn::Xor(x, sign4));
    x = hn::Add(hn::TableLookupLanes(x, at8), hn::Xor(x, sign8));
    hn::StoreU(x, d, values + first);
  }
}

#else

/// One stage inside 16 neighbours: lane l becomes x[l ^ distance] + x[l], or - x[l] in the upper half of its
/// pair.
template <size_t distance>
HWY_INLINE void stage_of_sixteen(float* HWY_RESTRICT x) {
  float partner[lanes];
  for (size_t l = 0; l < lanes; ++l) partner[l] = x[l ^ distance];
  for (size_t l = 0; l < lanes; ++l) x[l] = partner[l] + (l & distance ? -x[l] : x[l]);
}

void first_stages(float* values, size_t count) {
  for (size_t first = 0; first < count; first += lanes) {
    float x[lanes];
    for (size_t l = 0; l < lanes; ++l) x[l] = values[first + l];
    stage_of_sixteen<1>(x);
    stage_of_sixteen<2>(x);
    stage_of_sixteen<4>(x);
    stage_of_sixteen<8>(x);
    for (size_t l = 0; l < lanes; ++l) values[first + l] = x[l];
  }
}

#endif

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
#if HWY_TARGET != HWY_SCALAR
  const hn::CappedTag<float, lanes> d;
  for (size_t first = 0; first < count && distance >= lanes; first += 4 * distance)
    for (size_t i = first; i < first + distance; i += hn::Lanes(d)) {
      const auto w = hn::LoadU(d, values + i), x = hn::LoadU(d, values + i + distance),
                 y = hn::LoadU(d, values + i + 2 * distance), z = hn::LoadU(d, values + i + 3 * distance);
      const auto a = hn::Add(w, x), b = hn::Sub(w, x), c = hn::Add(y, z), e = hn::Sub(y, z);
      hn::StoreU(hn::Add(a, c), d, values + i);
      hn::StoreU(hn::Add(b, e), d, values + i + distance);
      hn::StoreU(hn::Sub(a, c), d, values + i + 2 * distance);
      hn::StoreU(hn::Sub(b, e), d, values + i + 3 * distance);
    }
  if (distance >= lanes) return;
#endif
  for (size_t first = 0; first < count; first += 4 * distance) {
    float* HWY_RESTRICT w = values + first;
    float* HWY_RESTRICT x = w + distance;
    float* HWY_RESTRICT y = x + distance;
    float* HWY_RESTRICT z = y + distance;
    for (size_t i = 0; i < distance; ++i) {
      const float a = w[i] + x[i], b = w[i] - x[i], c = y[i] + z[i], e = y[i] - z[i];
      w[i] = a + c;
      x[i] = b + e;
      y[i] = a - c;
      z[i] = b - e;
    }
  }
}

void transform(float* values, size_t count) {
  size_t distance = 1;
  if (count >= lanes) {
    first_stages(values, count);
    distance = lanes;
  }
  for (; 4 * distance <= count; distance *= 4) two_stages(values, count, distance);
  if (2 * distance <= count) one_stage(values, count, distance);
}

void change_signs(float* values, const uint32_t* signs, size_t count) {
  for (size_t i = 0; i < count; ++i) values[i] = element::with_random_sign(values[i], signs[i]);
}

/// The signs of whole words.
void spread_signs(const uint32_t* words, size_t count, uint32_t* signs) {
  constexpr uint32_t each = element::signs_of_word;
  for (size_t w = 0; w < count; ++w)
    for (uint32_t l = 0; l < each; ++l) signs[each * w + l] = element::sign_of_word(words[w], l);
}

}  // namespace jsq::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jsq::cpu {

HWY_EXPORT(transform);
HWY_EXPORT(change_signs);
HWY_EXPORT(spread_signs);

void walsh_hadamard(std::span<float> values) {
  HWY_DYNAMIC_DISPATCH(transform)(values.data(), values.size());
}

void fill_random_signs(uint64_t seed, uint64_t first_element, uint32_t tensor, std::span<uint32_t> signs) {
  constexpr size_t each = element::signs_of_word, batch = 32;
  uint32_t words[batch];
  for (size_t at = 0; at < signs.size();) {
    const uint64_t element = first_element + at;
    const size_t skipped = size_t(element % each), left = signs.size() - at;
    const size_t count = std::min((skipped + left + each - 1) / each, batch);
    fill_words(seed, element / each, tensor, element::RandomPurpose::signs, {words, count});
    if (skipped == 0 && left >= each) {
      const size_t whole = std::min(left / each, count);
      HWY_DYNAMIC_DISPATCH(spread_signs)(words, whole, signs.data() + at);
      at += whole * each;
    } else {  // the end of a word, or its beginning
      for (size_t l = skipped; l < each && at < signs.size(); ++l)
        signs[at++] = element::sign_of_word(words[0], uint32_t(l));
    }
  }
}

void apply_random_signs(std::span<float> values, std::span<const uint32_t> signs) {
  HWY_DYNAMIC_DISPATCH(change_signs)(values.data(), signs.data(), values.size());
}

}  // namespace jsq::cpu
#endif

// The scalar quantizers in batches of 16 lanes, compiled once per SIMD level. What happens to an element is
// said in kernels/element alone; the loops here are plain, and the compiler turns them into vectors.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/dither.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/dither.hpp"
#include "kernels/cpu/summary.hpp"

HWY_BEFORE_NAMESPACE();
namespace jsq::cpu::HWY_NAMESPACE {

constexpr size_t lanes = 16;

// The three grids, as the loops see them.

struct UniformGrid {
  float scale, s;
  HWY_INLINE int32_t level(float g, float u) const { return element::uniform_level(g, scale, s, u); }
  HWY_INLINE int32_t nearest(float g) const { return element::uniform_level_nearest(g, scale, s); }
  HWY_INLINE float value(int32_t level) const { return element::uniform_value(level, scale, s); }
  HWY_INLINE double error(float g) const { return element::uniform_error(g, scale, s); }
};

struct ExponentialGrid {
  float scale;
  int32_t s;
  HWY_INLINE int32_t level(float g, float u) const { return element::exponential_level(g, scale, s, u); }
  HWY_INLINE int32_t nearest(float g) const { return element::exponential_level_nearest(g, scale, s); }
  HWY_INLINE float value(int32_t level) const { return element::exponential_value(level, scale, s); }
  HWY_INLINE double error(float g) const { return element::exponential_error(g, scale, s); }
};

struct NaturalGrid {
  int32_t lowest, highest;
  HWY_INLINE int32_t level(float g, float u) const { return element::natural_level(g, {lowest, highest}, u); }
  HWY_INLINE int32_t nearest(float g) const { return element::natural_level_nearest(g, {lowest, highest}); }
  HWY_INLINE float value(int32_t level) const { return element::natural_value(level, {lowest, highest}); }
  HWY_INLINE double error(float g) const { return element::natural_error(g, {lowest, highest}); }
};

/// The same counted from the largest power down.
struct MirroredGrid {
  int32_t lowest, highest, last;
  HWY_INLINE int32_t level(float g, float u) const {
    return element::mirrored_level(element::natural_level(g, {lowest, highest}, u), last);
  }
  HWY_INLINE int32_t nearest(float g) const {
    return element::mirrored_level(element::natural_level_nearest(g, {lowest, highest}), last);
  }
  HWY_INLINE float value(int32_t level) const {
    return element::natural_value(element::mirrored_level(level, last), {lowest, highest});
  }
  HWY_INLINE double error(float g) const { return element::natural_error(g, {lowest, highest}); }
};

/// The same of the exponents of normal numbers.
struct MirroredNormalGrid {
  int32_t last;
  HWY_INLINE float value(int32_t level) const {
    return element::normal_value(element::mirrored_level(level, last));
  }
};

HWY_INLINE double fold(double* lane) {
  for (size_t half = lanes / 2; half > 0; half /= 2)
    for (size_t l = 0; l < half; ++l) lane[l] += lane[l + half];
  return lane[0];
}

/// Sixteen elements; `uniforms` is null for rounding to nearest.
template <bool stochastic, class Grid>
HWY_INLINE void round_sixteen(const Grid& grid, const float* HWY_RESTRICT values,
                              const float* HWY_RESTRICT uniforms, int32_t* HWY_RESTRICT levels,
                              double* HWY_RESTRICT error) {
  if constexpr (stochastic) {
    for (size_t l = 0; l < lanes; ++l) levels[l] = grid.level(values[l], uniforms[l]);
    for (size_t l = 0; l < lanes; ++l) error[l] += grid.error(values[l]);
  } else {
    for (size_t l = 0; l < lanes; ++l) levels[l] = grid.nearest(values[l]);
    for (size_t l = 0; l < lanes; ++l) {
      const double off = double(grid.value(levels[l])) - double(values[l]);
      error[l] += off * off;
    }
  }
}

/// One stretch. A short last batch is filled up with zeros, whose error is zero on every grid.
template <bool stochastic, class Grid>
double round_stretch(const Grid& grid, const float* values, const float* uniforms, int32_t* levels,
                     size_t count) {
  double error[lanes] = {};
  size_t i = 0;
  for (; i + lanes <= count; i += lanes)
    round_sixteen<stochastic>(grid, values + i, stochastic ? uniforms + i : nullptr, levels + i, error);
  if (i < count) {
    float last_values[lanes] = {}, last_uniforms[lanes] = {};
    int32_t last_levels[lanes];
    for (size_t l = 0; i + l < count; ++l) last_values[l] = values[i + l];
    for (size_t l = 0; stochastic && i + l < count; ++l) last_uniforms[l] = uniforms[i + l];
    round_sixteen<stochastic>(grid, last_values, last_uniforms, last_levels, error);
    for (size_t l = 0; i + l < count; ++l) levels[i + l] = last_levels[l];
  }
  return fold(error);
}

template <class Grid>
void level_all(const Grid& grid, const float* HWY_RESTRICT values, const float* HWY_RESTRICT uniforms,
               int32_t* HWY_RESTRICT levels, size_t count) {
  if (uniforms)
    for (size_t i = 0; i < count; ++i) levels[i] = grid.level(values[i], uniforms[i]);
  else
    for (size_t i = 0; i < count; ++i) levels[i] = grid.nearest(values[i]);
}

template <class Grid>
double round_all(const Grid& grid, const float* values, const float* uniforms, int32_t* levels, size_t count,
                 Expected expected) {
  if (expected == Expected::nothing) {
    level_all(grid, values, uniforms, levels, count);
    return 0;
  }
  double error = 0;
  for (size_t at = 0; at < count; at += sum_chunk) {
    const size_t n = count - at < sum_chunk ? count - at : sum_chunk;
    error += uniforms ? round_stretch<true>(grid, values + at, uniforms + at, levels + at, n)
                      : round_stretch<false>(grid, values + at, nullptr, levels + at, n);
  }
  return error;
}

template <class Grid>
void restore_all(const Grid& grid, const int32_t* HWY_RESTRICT levels, float* HWY_RESTRICT values,
                 size_t count) {
  for (size_t i = 0; i < count; ++i) values[i] = grid.value(levels[i]);
}

double round_uniform(float scale, float s, const float* values, const float* uniforms, int32_t* levels,
                     size_t count, Expected expected) {
  return round_all(UniformGrid{scale, s}, values, uniforms, levels, count, expected);
}
double round_exponential(float scale, int32_t s, const float* values, const float* uniforms, int32_t* levels,
                         size_t count, Expected expected) {
  return round_all(ExponentialGrid{scale, s}, values, uniforms, levels, count, expected);
}
double round_natural(element::ExponentRange range, const float* values, const float* uniforms,
                     int32_t* levels, size_t count, Expected expected) {
  return round_all(NaturalGrid{range.lowest, range.highest}, values, uniforms, levels, count, expected);
}
double round_mirrored(element::ExponentRange range, const float* values, const float* uniforms,
                      int32_t* levels, size_t count, Expected expected) {
  return round_all(MirroredGrid{range.lowest, range.highest, element::last_natural_level(range)}, values,
                   uniforms, levels, count, expected);
}
void round_mirrored_by_words(element::ExponentRange range, const float* HWY_RESTRICT values,
                             const uint32_t* HWY_RESTRICT words, int32_t* HWY_RESTRICT levels, size_t count) {
  const int32_t last = element::last_natural_level(range);
  for (size_t i = 0; i < count; ++i)
    levels[i] = element::with_sign_of(
        values[i], element::mirrored_level(element::normal_index(values[i], range, words[i]), last));
}
void restore_mirrored(element::ExponentRange range, const int32_t* levels, float* values, size_t count) {
  if (range.lowest == element::lowest_normal_exponent)
    return restore_all(MirroredNormalGrid{element::last_natural_level(range)}, levels, values, count);
  restore_all(MirroredGrid{range.lowest, range.highest, element::last_natural_level(range)}, levels, values,
              count);
}
void restore_uniform(float scale, float s, const int32_t* levels, float* values, size_t count) {
  restore_all(UniformGrid{scale, s}, levels, values, count);
}
void restore_exponential(float scale, int32_t s, const int32_t* levels, float* values, size_t count) {
  restore_all(ExponentialGrid{scale, s}, levels, values, count);
}
void restore_natural(element::ExponentRange range, const int32_t* levels, float* values, size_t count) {
  restore_all(NaturalGrid{range.lowest, range.highest}, levels, values, count);
}

uint64_t add_codes(int32_t* HWY_RESTRICT sums, const int32_t* HWY_RESTRICT codes,
                   const float* HWY_RESTRICT uniforms, size_t count) {
  uint64_t total = 0;
  for (size_t at = 0; at < count; at += sum_chunk) {
    const size_t end = count - at < sum_chunk ? count : at + sum_chunk;
    uint32_t saturated = 0;
    for (size_t i = at; i < end; ++i) {
      const element::CodeSum sum = element::exponential_add(sums[i], codes[i], uniforms[i]);
      sums[i] = sum.code;
      saturated += sum.saturated ? 1u : 0u;
    }
    total += saturated;
  }
  return total;
}

float largest_magnitude(const float* values, size_t count) {
  uint32_t key = 0;
  for (size_t i = 0; i < count; ++i) {
    const uint32_t other = element::magnitude_key(values[i]);
    key = other > key ? other : key;
  }
  return element::magnitude_of_key(key);
}

struct Square {
  HWY_INLINE double operator()(float g) const { return double(g) * double(g); }
};
struct Magnitude {
  HWY_INLINE double operator()(float g) const {
    return double(element::magnitude_of_key(element::magnitude_key(g)));
  }
};

struct SquareAbout {
  double centre;
  HWY_INLINE double operator()(float g) const { return (double(g) - centre) * (double(g) - centre); }
};

template <class Term>
double sum_all(const Term& term, const float* values, size_t count) {
  double total = 0;
  for (size_t at = 0; at < count; at += sum_chunk) {
    const size_t end = count - at < sum_chunk ? count : at + sum_chunk;
    double lane[lanes] = {};
    size_t i = at;
    for (; i + lanes <= end; i += lanes)
      for (size_t l = 0; l < lanes; ++l) lane[l] += term(values[i + l]);
    for (size_t l = 0; i + l < end; ++l) lane[l] += term(values[i + l]);
    total += fold(lane);
  }
  return total;
}

double squares(const float* values, size_t count) {
  return sum_all(Square(), values, count);
}
double squares_from(double centre, const float* values, size_t count) {
  return sum_all(SquareAbout{centre}, values, count);
}
double magnitudes(const float* values, size_t count) {
  return sum_all(Magnitude(), values, count);
}

}  // namespace jsq::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jsq::cpu {

HWY_EXPORT(round_uniform);
HWY_EXPORT(round_exponential);
HWY_EXPORT(round_natural);
HWY_EXPORT(round_mirrored);
HWY_EXPORT(round_mirrored_by_words);
HWY_EXPORT(restore_mirrored);
HWY_EXPORT(restore_uniform);
HWY_EXPORT(restore_exponential);
HWY_EXPORT(restore_natural);
HWY_EXPORT(add_codes);
HWY_EXPORT(largest_magnitude);
HWY_EXPORT(squares);
HWY_EXPORT(magnitudes);
HWY_EXPORT(squares_from);

namespace {
const float* or_nearest(std::span<const float> uniforms) {
  return uniforms.empty() ? nullptr : uniforms.data();
}
}  // namespace

double uniform_levels(std::span<const float> values, float scale, float s, std::span<const float> uniforms,
                      std::span<int32_t> levels, Expected expected) {
  return HWY_DYNAMIC_DISPATCH(round_uniform)(scale, s, values.data(), or_nearest(uniforms), levels.data(),
                                             values.size(), expected);
}
void uniform_values(std::span<const int32_t> levels, float scale, float s, std::span<float> values) {
  HWY_DYNAMIC_DISPATCH(restore_uniform)(scale, s, levels.data(), values.data(), levels.size());
}

double exponential_levels(std::span<const float> values, float scale, int32_t s,
                          std::span<const float> uniforms, std::span<int32_t> levels, Expected expected) {
  return HWY_DYNAMIC_DISPATCH(round_exponential)(scale, s, values.data(), or_nearest(uniforms), levels.data(),
                                                 values.size(), expected);
}
void exponential_values(std::span<const int32_t> levels, float scale, int32_t s, std::span<float> values) {
  HWY_DYNAMIC_DISPATCH(restore_exponential)(scale, s, levels.data(), values.data(), levels.size());
}

double natural_levels(std::span<const float> values, element::ExponentRange range,
                      std::span<const float> uniforms, std::span<int32_t> levels, Expected expected) {
  return HWY_DYNAMIC_DISPATCH(round_natural)(range, values.data(), or_nearest(uniforms), levels.data(),
                                             values.size(), expected);
}
void natural_values(std::span<const int32_t> levels, element::ExponentRange range, std::span<float> values) {
  HWY_DYNAMIC_DISPATCH(restore_natural)(range, levels.data(), values.data(), levels.size());
}

double mirrored_levels(std::span<const float> values, element::ExponentRange range,
                       std::span<const float> uniforms, std::span<int32_t> levels, Expected expected) {
  return HWY_DYNAMIC_DISPATCH(round_mirrored)(range, values.data(), or_nearest(uniforms), levels.data(),
                                              values.size(), expected);
}
void mirrored_levels_of_words(std::span<const float> values, element::ExponentRange range,
                              std::span<const uint32_t> words, std::span<int32_t> levels) {
  HWY_DYNAMIC_DISPATCH(round_mirrored_by_words)
  (range, values.data(), words.data(), levels.data(), values.size());
}
void mirrored_values(std::span<const int32_t> levels, element::ExponentRange range, std::span<float> values) {
  HWY_DYNAMIC_DISPATCH(restore_mirrored)(range, levels.data(), values.data(), levels.size());
}

uint64_t add_exponential_codes(std::span<int32_t> sums, std::span<const int32_t> codes,
                               std::span<const float> uniforms) {
  return HWY_DYNAMIC_DISPATCH(add_codes)(sums.data(), codes.data(), uniforms.data(), sums.size());
}

float max_magnitude(std::span<const float> values) {
  return HWY_DYNAMIC_DISPATCH(largest_magnitude)(values.data(), values.size());
}
double sum_squares(std::span<const float> values) {
  return HWY_DYNAMIC_DISPATCH(squares)(values.data(), values.size());
}
double squares_about(std::span<const float> values, double centre) {
  return HWY_DYNAMIC_DISPATCH(squares_from)(centre, values.data(), values.size());
}
double sum_magnitudes(std::span<const float> values) {
  return HWY_DYNAMIC_DISPATCH(magnitudes)(values.data(), values.size());
}

}  // namespace jsq::cpu
#endif

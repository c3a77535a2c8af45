// The scalar quantizers over arrays: levels and values of the uniform, the exponential and the natural grid
// (kernels/element/dither.hpp and natural.hpp), their expected errors, and the norms that serve as scales.
//
// Every sum is formed in stretches of 65,536 elements: lane l adds elements l, l + 16, ... in double, the 16
// lanes are folded by halving, stretches are added left to right. So a caller may cut an array at multiples
// of 65,536, and every SIMD level gives the same bits. Spans of one call have one size and do not overlap.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/element/natural.hpp"

namespace jsq::cpu {

/// Whether an error is asked for beside levels; where not, 0 is returned.
enum class Expected : uint8_t { nothing, error };

/// Levels of finite values on the uniform grid of s steps. `uniforms` holds one number in [0, 1) an element,
/// or nothing for rounding to nearest. Returns the expected squared error (uniform_error); with nearest
/// rounding the squared error of the decoded values.
double uniform_levels(std::span<const float> values, float scale, float s, std::span<const float> uniforms,
                      std::span<int32_t> levels, Expected expected = Expected::error);
void uniform_values(std::span<const int32_t> levels, float scale, float s, std::span<float> values);

/// The same on the exponential grid 0, 2^-s, ..., 1 times the scale.
double exponential_levels(std::span<const float> values, float scale, int32_t s,
                          std::span<const float> uniforms, std::span<int32_t> levels,
                          Expected expected = Expected::error);
void exponential_values(std::span<const int32_t> levels, float scale, int32_t s, std::span<float> values);

/// The same on the powers of two of a range of exponents.
double natural_levels(std::span<const float> values, element::ExponentRange range,
                      std::span<const float> uniforms, std::span<int32_t> levels,
                      Expected expected = Expected::error);
void natural_values(std::span<const int32_t> levels, element::ExponentRange range, std::span<float> values);

/// The same with levels as element::mirrored_level counts them, from the largest power of two on: gradients
/// have few exponents below that of their largest magnitude, and small numbers code well.
double mirrored_levels(std::span<const float> values, element::ExponentRange range,
                       std::span<const float> uniforms, std::span<int32_t> levels,
                       Expected expected = Expected::error);
/// The levels alone, of the uniforms of random words.  \pre range.lowest = element::lowest_normal_exponent
void mirrored_levels_of_words(std::span<const float> values, element::ExponentRange range,
                              std::span<const uint32_t> words, std::span<int32_t> levels);
void mirrored_values(std::span<const int32_t> levels, element::ExponentRange range, std::span<float> values);

/// sums[i] <- exponential_add(sums[i], codes[i], uniforms[i]). Returns how many sums saturated.
uint64_t add_exponential_codes(std::span<int32_t> sums, std::span<const int32_t> codes,
                               std::span<const float> uniforms);

/// The largest magnitude, 0 for no elements: the L-infinity norm.
float max_magnitude(std::span<const float> values);
/// The sum of squares, equal to the energy of a summary.
double sum_squares(std::span<const float> values);
/// Sum of (g - centre)^2.
double squares_about(std::span<const float> values, double centre);
/// The sum of magnitudes: the L1 norm.
double sum_magnitudes(std::span<const float> values);

}  // namespace jsq::cpu

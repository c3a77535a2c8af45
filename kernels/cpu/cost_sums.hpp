// What numbers would cost, looked up by their magnitude: the passes of an encoder that weighs choices by
// error and bits over samples of the data.
#pragma once

#include <cstddef>
#include <cstdint>

namespace jsq::cpu {

/// Magnitudes by sixteenths of an octave, from 2^-10 on; what lies below or beyond has the first or last key.
constexpr uint32_t cost_shift = 19, cost_keys = 384, first_cost_key = (127u - 10) << (23 - cost_shift);

/// keys[i] = the key of |values[i]| scale.
void fill_cost_keys(const float* values, size_t count, float scale, uint16_t* keys);

/// Sum of table[bases[i] + keys[i]]: lane l of 16 adds elements l, l + 16, ... in float, the lanes are folded
/// by halving. The same at every SIMD level.  \pre indices below 2^31
double sum_costs(const float* table, const uint32_t* bases, const uint16_t* keys, size_t count);
/// The same with all bases 0.
double sum_costs(const float* table, const uint16_t* keys, size_t count);

/// Sum of table[cost_keys classes[i] + keys[i]], of every 4096 elements as above, which are added in double.
double sum_class_costs(const float* table, const uint8_t* classes, const uint16_t* keys, size_t count);

/// sums[i] += |values[i]| weight, in double.
void add_magnitudes(const float* values, size_t count, double weight, double* sums);

}  // namespace jsq::cpu

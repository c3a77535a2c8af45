// Systematic sampling by magnitude: how many of equally spaced samples fall on each element.
#pragma once

#include <cstdint>
#include <span>

namespace jsq::cpu {

/// Sum of |g| in double: groups of four add up as (a + b) + (c + d), and groups follow one another.
double sum_in_fours(std::span<const float> values);

/// counts[i], with the sign of values[i]: the samples j = 0, 1, ... with start + (sum of magnitudes before i)
/// <= (j + offset) / rate < the same with element i, where sums are those of sum_in_fours and within a group
/// a, a + b, (a + b) + c, (a + b) + (c + d). Returns the sum of f (1 - f) of the fractions f of rate |g|, in
/// eight lanes. \pre every count is below 2^31.
double count_samples(std::span<const float> values, double start, double rate, double offset,
                     std::span<int32_t> counts);

}  // namespace jsq::cpu

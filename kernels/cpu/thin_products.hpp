// Products of a tall or wide matrix with a factor of a few columns, and the sum of outer products that such
// factors stand for: what the low-rank methods need. The matrix is f32 and row-major, the
// factors are f32 with contiguous columns, sums are double in an order that no SIMD level changes.
#pragma once

#include <cstddef>
#include <span>

namespace jsq::cpu {

/// Columns of a factor that one call takes at most.
constexpr size_t most_thin_columns = 8;

/// Number (i, k) is numbers[k * stride + i].
template <class Number>
struct ThinFactor {
  Number* numbers = nullptr;
  size_t stride = 0;
  size_t columns = 0;  ///< 1..most_thin_columns, except in outer_product_sum
};

/// products(o, k) = sum over i of rows(o, i) factor(i, k), for the `count` rows of `width` elements at
/// `rows`. Lane l of 8 adds the products of i = l, l + 8, ... in order, and the lanes are folded by halving.
/// Every product is exact. O(count width columns).
void rows_times_factor(const float* rows, size_t count, size_t width, ThinFactor<const float> factor,
                       ThinFactor<double> products);

/// sums(i, k) += rows(o, i) weights(o, k), for o = 0..count-1 in this order, of rows of `width` elements that
/// begin `stride` elements apart.
void add_weighted_rows(const float* rows, size_t count, size_t width, size_t stride,
                       ThinFactor<const float> weights, ThinFactor<double> sums);

/// values(i) = (weights[0] factor(i, 0) + weights[1] factor(i, 1) + ...) scale, in f32 and in this order; 0
/// for a factor without columns. One row of a product of two factors.
void outer_product_sum(std::span<const float> weights, ThinFactor<const float> factor, float scale,
                       std::span<float> values);

}  // namespace jsq::cpu

// Products with thin factors in f32 where digits beyond do not matter: half the width of double, and twice as
// many numbers at a time. The same bits at every SIMD level: products are rounded, and then added.
#pragma once

#include <cstddef>

#include "kernels/cpu/thin_products.hpp"

namespace jsq::cpu {

/// Columns of a factor that one call takes at most.
constexpr size_t most_single_columns = 24;

/// products(o, k) = sum over i of rows(o, i) factor(i, k), for the `count` rows of `width` elements at
/// `rows`. Lane l of 16 adds the products of i = l, l + 16, ... in order, and the lanes are folded by
/// halving; of every 4096 elements on their own, whose sums are added in double.
void single_rows_times_factor(const float* rows, size_t count, size_t width, ThinFactor<const float> factor,
                              ThinFactor<double> products);

/// sums(i, k) += rows(o, i) weights(o, k) added in f32 for o = 0..count-1 in this order, of rows of `width`
/// elements that begin `stride` elements apart.
void add_single_rows(const float* rows, size_t count, size_t width, size_t stride,
                     ThinFactor<const float> weights, ThinFactor<double> sums);

}  // namespace jsq::cpu

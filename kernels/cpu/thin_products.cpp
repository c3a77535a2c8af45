// Plain loops over tiles of rows and columns, compiled once per SIMD level. A tile only decides which sums
// are formed side by side; each sum has its own lanes and its own order.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/thin_products.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>

#include "kernels/cpu/exact_product.hpp"
#include "kernels/cpu/thin_products.hpp"

HWY_BEFORE_NAMESPACE();
namespace jsq::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

constexpr size_t lanes = 8;
constexpr bool fused = multiplies_and_adds(HWY_TARGET);

HWY_INLINE double fold(const double* lane) {
  const double a = lane[0] + lane[4], b = lane[1] + lane[5], c = lane[2] + lane[6], d = lane[3] + lane[7];
  return (a + c) + (b + d);
}

/// `tile_rows` x `tile_columns` dot products side by side.
template <size_t tile_rows, size_t tile_columns>
HWY_INLINE void dot_tile(const float* HWY_RESTRICT rows, size_t width, const float* HWY_RESTRICT factor,
                         size_t stride, double* HWY_RESTRICT products, size_t product_stride) {
  double sums[tile_rows][tile_columns][lanes] = {};
  size_t i = 0;
  // Sixteen sums stay in registers only if their loops are unrolled; fewer do without, and are then not torn
  // apart by vectors across rows.
  if constexpr (tile_columns == 4) {
    for (; i + lanes <= width; i += lanes) {
#pragma GCC unroll 4
      for (size_t k = 0; k < tile_columns; ++k)
#pragma GCC unroll 4
        for (size_t o = 0; o < tile_rows; ++o)
          for (size_t l = 0; l < lanes; ++l)
            sums[o][k][l] =
                add_exact_product<fused>(sums[o][k][l], rows[o * width + i + l], factor[k * stride + i + l]);
    }
  } else {
    for (; i + lanes <= width; i += lanes)
      for (size_t k = 0; k < tile_columns; ++k)
        for (size_t o = 0; o < tile_rows; ++o)
          for (size_t l = 0; l < lanes; ++l)
            sums[o][k][l] =
                add_exact_product<fused>(sums[o][k][l], rows[o * width + i + l], factor[k * stride + i + l]);
  }
  if (i < width) {  // the rest, filled up with zeros: 0 x 0 added to a lane changes nothing
    float last_rows[tile_rows][lanes] = {}, last_factor[tile_columns][lanes] = {};
    for (size_t l = 0; l < width - i; ++l) {
      for (size_t o = 0; o < tile_rows; ++o) last_rows[o][l] = rows[o * width + i + l];
      for (size_t k = 0; k < tile_columns; ++k) last_factor[k][l] = factor[k * stride + i + l];
    }
    for (size_t k = 0; k < tile_columns; ++k)
      for (size_t o = 0; o < tile_rows; ++o)
        for (size_t l = 0; l < lanes; ++l)
          sums[o][k][l] = add_exact_product<fused>(sums[o][k][l], last_rows[o][l], last_factor[k][l]);
  }
  for (size_t k = 0; k < tile_columns; ++k)
    for (size_t o = 0; o < tile_rows; ++o) products[k * product_stride + o] = fold(sums[o][k]);
}

template <size_t tile_rows>
HWY_INLINE void dot_rows(const float* rows, size_t width, ThinFactor<const float> factor, double* products,
                         size_t product_stride) {
  size_t k = 0;
  for (; k + 4 <= factor.columns; k += 4)
    dot_tile<tile_rows, 4>(rows, width, factor.numbers + k * factor.stride, factor.stride,
                           products + k * product_stride, product_stride);
  if (k + 2 <= factor.columns) {
    dot_tile<tile_rows, 2>(rows, width, factor.numbers + k * factor.stride, factor.stride,
                           products + k * product_stride, product_stride);
    k += 2;
  }
  if (k < factor.columns)
    dot_tile<tile_rows, 1>(rows, width, factor.numbers + k * factor.stride, factor.stride,
                           products + k * product_stride, product_stride);
}

void dots(const float* rows, size_t count, size_t width, ThinFactor<const float> factor,
          ThinFactor<double> products) {
  size_t o = 0;
  if (factor.columns == 1)
    for (; o + 8 <= count; o += 8)
      dot_tile<8, 1>(rows + o * width, width, factor.numbers, factor.stride, products.numbers + o,
                     products.stride);
  for (; o + 4 <= count; o += 4)
    dot_rows<4>(rows + o * width, width, factor, products.numbers + o, products.stride);
  for (; o < count; ++o) dot_rows<1>(rows + o * width, width, factor, products.numbers + o, products.stride);
}

/// `tile_rows` rows added to `tile_columns` columns of sums.
template <size_t tile_rows, size_t tile_columns>
HWY_INLINE void add_tile(const float* HWY_RESTRICT rows, size_t width, size_t row_stride,
                         ThinFactor<const float> weights, size_t row, double* HWY_RESTRICT sums,
                         size_t stride) {
  double weight[tile_columns][tile_rows];
  for (size_t k = 0; k < tile_columns; ++k)
    for (size_t o = 0; o < tile_rows; ++o) weight[k][o] = weights.numbers[k * weights.stride + row + o];
  const hn::CappedTag<double, lanes> d;
  const hn::Rebind<float, decltype(d)> f;
  size_t i = 0;
  for (; i + hn::Lanes(d) <= width; i += hn::Lanes(d)) {
    hn::Vec<decltype(d)> value[tile_rows];
    for (size_t o = 0; o < tile_rows; ++o)
      value[o] = hn::PromoteTo(d, hn::LoadU(f, rows + o * row_stride + i));
    for (size_t k = 0; k < tile_columns; ++k) {
      auto sum = hn::LoadU(d, sums + k * stride + i);
      // Products are exact: one rounding, fused or not.
      for (size_t o = 0; o < tile_rows; ++o) sum = hn::MulAdd(value[o], hn::Set(d, weight[k][o]), sum);
      hn::StoreU(sum, d, sums + k * stride + i);
    }
  }
  for (; i < width; ++i)
    for (size_t k = 0; k < tile_columns; ++k) {
      double sum = sums[k * stride + i];
      for (size_t o = 0; o < tile_rows; ++o)
        sum = add_exact_product<fused>(sum, rows[o * row_stride + i], weight[k][o]);
      sums[k * stride + i] = sum;
    }
}

template <size_t tile_rows>
HWY_INLINE void add_to_columns(const float* rows, size_t width, size_t row_stride,
                               ThinFactor<const float> weights, size_t row, ThinFactor<double> sums) {
  const auto column = [&](size_t k) {
    return ThinFactor<const float>{weights.numbers + k * weights.stride, weights.stride, weights.columns};
  };
  size_t k = 0;
  for (; k + 4 <= sums.columns; k += 4)
    add_tile<tile_rows, 4>(rows, width, row_stride, column(k), row, sums.numbers + k * sums.stride,
                           sums.stride);
  if (k + 2 <= sums.columns) {
    add_tile<tile_rows, 2>(rows, width, row_stride, column(k), row, sums.numbers + k * sums.stride,
                           sums.stride);
    k += 2;
  }
  if (k < sums.columns)
    add_tile<tile_rows, 1>(rows, width, row_stride, column(k), row, sums.numbers + k * sums.stride,
                           sums.stride);
}

void add_rows(const float* rows, size_t count, size_t width, size_t stride, ThinFactor<const float> weights,
              ThinFactor<double> sums) {
  size_t o = 0;
  for (; o + 8 <= count; o += 8) add_to_columns<8>(rows + o * stride, width, stride, weights, o, sums);
  for (; o + 4 <= count; o += 4) add_to_columns<4>(rows + o * stride, width, stride, weights, o, sums);
  for (; o < count; ++o) add_to_columns<1>(rows + o * stride, width, stride, weights, o, sums);
}

template <size_t tile_columns>
HWY_INLINE void add_outer(const float* HWY_RESTRICT weights, const float* HWY_RESTRICT factor, size_t stride,
                          float* HWY_RESTRICT values, size_t count, bool first, float scale) {
  for (size_t i = 0; i < count; ++i) {
    float value = first ? weights[0] * factor[i] : values[i] + weights[0] * factor[i];
    for (size_t k = 1; k < tile_columns; ++k) value += weights[k] * factor[k * stride + i];
    values[i] = value * scale;
  }
}

void outer_sum(const float* weights, ThinFactor<const float> factor, float scale, float* values,
               size_t count) {
  constexpr size_t stretch = 2048;
  for (size_t at = 0; at < count; at += stretch) {
    const size_t n = count - at < stretch ? count - at : stretch;
    size_t k = 0;
    for (; k + 4 <= factor.columns; k += 4)
      add_outer<4>(weights + k, factor.numbers + k * factor.stride + at, factor.stride, values + at, n,
                   k == 0, k + 4 == factor.columns ? scale : 1.0f);
    for (; k < factor.columns; ++k)
      add_outer<1>(weights + k, factor.numbers + k * factor.stride + at, factor.stride, values + at, n,
                   k == 0, k + 1 == factor.columns ? scale : 1.0f);
  }
}

}  // namespace jsq::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jsq::cpu {

HWY_EXPORT(dots);
HWY_EXPORT(add_rows);
HWY_EXPORT(outer_sum);

void rows_times_factor(const float* rows, size_t count, size_t width, ThinFactor<const float> factor,
                       ThinFactor<double> products) {
  HWY_DYNAMIC_DISPATCH(dots)(rows, count, width, factor, products);
}

void add_weighted_rows(const float* rows, size_t count, size_t width, size_t stride,
                       ThinFactor<const float> weights, ThinFactor<double> sums) {
  HWY_DYNAMIC_DISPATCH(add_rows)(rows, count, width, stride, weights, sums);
}

void outer_product_sum(std::span<const float> weights, ThinFactor<const float> factor, float scale,
                       std::span<float> values) {
  if (factor.columns == 0) std::fill(values.begin(), values.end(), 0.0f);
  HWY_DYNAMIC_DISPATCH(outer_sum)(weights.data(), factor, scale, values.data(), values.size());
}

}  // namespace jsq::cpu
#endif

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/single_products.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <vector>

#include "kernels/cpu/single_products.hpp"

HWY_BEFORE_NAMESPACE();
namespace jsq::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

constexpr size_t single_lanes = 16, chunk = 4096;
using Singles = hn::CappedTag<float, single_lanes>;
/// Sums side by side: as many as registers hold.
constexpr size_t tile_side = HWY_TARGET <= HWY_AVX3 ? 4 : 2, most_tile = HWY_TARGET <= HWY_AVX3 ? 24 : 8;

HWY_INLINE float fold(float* lane) {
  for (size_t half = single_lanes / 2; half > 0; half /= 2)
    for (size_t l = 0; l < half; ++l) lane[l] += lane[l + half];
  return lane[0];
}

/// Vectors of one set of lanes.
HWY_INLINE constexpr size_t parts() {
  return single_lanes / hn::MaxLanes(Singles());
}

/// `tile_rows` x `tile_columns` sums of at most `chunk` elements, which are added to the products.
template <size_t tile_rows, size_t tile_columns>
HWY_INLINE void single_tile(const float* HWY_RESTRICT rows, size_t width, size_t count,
                            const float* HWY_RESTRICT factor, size_t stride, double* HWY_RESTRICT products,
                            size_t product_stride) {
  const Singles d;
  const size_t lanes = hn::Lanes(d);
  hn::Vec<Singles> sums[tile_rows][tile_columns][parts()];
  for (auto& of_row : sums)
    for (auto& of_column : of_row)
      for (auto& sum : of_column) sum = hn::Zero(d);
  size_t i = 0;
  for (; i + single_lanes <= count; i += single_lanes)
    for (size_t p = 0; p < parts(); ++p) {
      hn::Vec<Singles> values[tile_rows];
      for (size_t o = 0; o < tile_rows; ++o) values[o] = hn::LoadU(d, rows + o * width + i + p * lanes);
      for (size_t k = 0; k < tile_columns; ++k) {
        const auto by = hn::LoadU(d, factor + k * stride + i + p * lanes);
        for (size_t o = 0; o < tile_rows; ++o) sums[o][k][p] = hn::Add(sums[o][k][p], hn::Mul(values[o], by));
      }
    }
  for (size_t k = 0; k < tile_columns; ++k)
    for (size_t o = 0; o < tile_rows; ++o) {
      alignas(64) float lane[single_lanes];
      for (size_t p = 0; p < parts(); ++p) hn::Store(sums[o][k][p], d, lane + p * lanes);
      for (size_t l = 0; l < count - i; ++l) lane[l] += rows[o * width + i + l] * factor[k * stride + i + l];
      products[k * product_stride + o] += double(fold(lane));
    }
}

template <size_t tile_rows>
HWY_INLINE void single_tiles(const float* rows, size_t width, size_t count, ThinFactor<const float> factor,
                             double* products, size_t product_stride) {
  size_t k = 0;
  for (; k + tile_side <= factor.columns; k += tile_side)
    single_tile<tile_rows, tile_side>(rows, width, count, factor.numbers + k * factor.stride, factor.stride,
                                      products + k * product_stride, product_stride);
  for (; k < factor.columns; ++k)
    single_tile<tile_rows, 1>(rows, width, count, factor.numbers + k * factor.stride, factor.stride,
                              products + k * product_stride, product_stride);
}

void single_dots(const float* rows, size_t count, size_t width, ThinFactor<const float> factor,
                 ThinFactor<double> products) {
  for (size_t k = 0; k < factor.columns; ++k) std::fill_n(products.numbers + k * products.stride, count, 0.0);
  for (size_t at = 0; at < width; at += chunk) {
    const size_t n = std::min(chunk, width - at);
    const ThinFactor<const float> own{factor.numbers + at, factor.stride, factor.columns};
    size_t o = 0;
    for (; o + tile_side <= count; o += tile_side)
      single_tiles<tile_side>(rows + o * width + at, width, n, own, products.numbers + o, products.stride);
    for (; o < count; ++o)
      single_tiles<1>(rows + o * width + at, width, n, own, products.numbers + o, products.stride);
  }
}

/// All rows added to `tile` columns of sums, a vector of elements at a time. `weights`: [row][column].
template <size_t tile>
void single_sums(const float* HWY_RESTRICT rows, size_t count, size_t width, size_t stride,
                 const float* HWY_RESTRICT weights, size_t columns, double* HWY_RESTRICT sums,
                 size_t sum_stride) {
  const Singles d;
  const size_t lanes = hn::Lanes(d);
  size_t i = 0;
  for (; i + lanes <= width; i += lanes) {
    hn::Vec<Singles> own[tile];
    for (auto& sum : own) sum = hn::Zero(d);
    for (size_t o = 0; o < count; ++o) {
      const auto values = hn::LoadU(d, rows + o * stride + i);
      for (size_t k = 0; k < tile; ++k)
        own[k] = hn::Add(own[k], hn::Mul(values, hn::Set(d, weights[o * tile + k])));
    }
    for (size_t k = 0; k < std::min(tile, columns); ++k) {
      alignas(64) float found[single_lanes];
      hn::Store(own[k], d, found);
      for (size_t l = 0; l < lanes; ++l) sums[k * sum_stride + i + l] += double(found[l]);
    }
  }
  for (; i < width; ++i)
    for (size_t k = 0; k < std::min(tile, columns); ++k) {
      float sum = 0;
      for (size_t o = 0; o < count; ++o) sum += rows[o * stride + i] * weights[o * tile + k];
      sums[k * sum_stride + i] += double(sum);
    }
}

void single_rows(const float* rows, size_t count, size_t width, size_t stride,
                 ThinFactor<const float> weights, ThinFactor<double> sums) {
  static thread_local std::vector<float> by_row;
  for (size_t k = 0; k < weights.columns;) {
    const size_t left = weights.columns - k;
    const size_t tile = std::min(most_tile, (left + 3) / 4 * 4), columns = std::min(tile, left);
    by_row.assign(count * tile, 0.0f);
    for (size_t c = 0; c < columns; ++c)
      for (size_t o = 0; o < count; ++o) by_row[o * tile + c] = weights.numbers[(k + c) * weights.stride + o];
    double* const own = sums.numbers + k * sums.stride;
    const auto add = [&](auto size) {
      single_sums<size()>(rows, count, width, stride, by_row.data(), columns, own, sums.stride);
    };
    switch (tile / 4) {
      case 1:
        add(std::integral_constant<size_t, 4>());
        break;
      case 2:
        add(std::integral_constant<size_t, 8>());
        break;
#if HWY_TARGET <= HWY_AVX3
      case 3:
        add(std::integral_constant<size_t, 12>());
        break;
      case 4:
        add(std::integral_constant<size_t, 16>());
        break;
      case 5:
        add(std::integral_constant<size_t, 20>());
        break;
      default:
        add(std::integral_constant<size_t, 24>());
#endif
    }
    k += columns;
  }
}

}  // namespace jsq::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jsq::cpu {

HWY_EXPORT(single_dots);
HWY_EXPORT(single_rows);

void single_rows_times_factor(const float* rows, size_t count, size_t width, ThinFactor<const float> factor,
                              ThinFactor<double> products) {
  HWY_DYNAMIC_DISPATCH(single_dots)(rows, count, width, factor, products);
}

void add_single_rows(const float* rows, size_t count, size_t width, size_t stride,
                     ThinFactor<const float> weights, ThinFactor<double> sums) {
  HWY_DYNAMIC_DISPATCH(single_rows)(rows, count, width, stride, weights, sums);
}

}  // namespace jsq::cpu
#endif

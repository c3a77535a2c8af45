// Products with thin factors in f32 against sums written out in the order that the interface names, bit by
// bit on every SIMD level.
#include "kernels/cpu/single_products.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <vector>

#include "tests/kernels/data.hpp"
#include "tests/kernels/simd_levels.hpp"

namespace jsq::cpu {
namespace {

struct Case {
  size_t rows, width, columns;
};
constexpr Case cases[] = {{1, 1, 1},    {2, 3, 1},     {5, 15, 2},  {8, 16, 3},    {9, 17, 4},
                          {13, 31, 5},  {3, 40, 9},    {4, 64, 12}, {17, 300, 13}, {1, 1000, 1},
                          {20, 1, 16},  {7, 33, 17},   {6, 48, 20}, {11, 129, 23}, {5, 257, 24},
                          {3, 4096, 4}, {6, 10000, 5}, {4, 4097, 2}};

/// Lanes 0..15 in f32, folded by halving; pieces of 4096 in double.
double in_lanes(const float* a, const float* b, size_t n) {
  double sum = 0;
  for (size_t begin = 0; begin < n; begin += 4096) {
    std::array<float, 16> lane{};
    for (size_t i = 0; i < std::min<size_t>(4096, n - begin); ++i) {
      const float product = a[begin + i] * b[begin + i];
      lane[i % 16] += product;
    }
    for (size_t half : {8u, 4u, 2u, 1u})
      for (size_t l = 0; l < half; ++l) lane[l] += lane[l + half];
    sum += double(lane[0]);
  }
  return sum;
}

TEST(SingleRowsTimesFactor, AddsProductsInSixteenLanes) {
  for (const auto& [rows, width, columns] : cases) {
    const std::vector<float> matrix = test::make_data(test::Kind::heavy, rows * width),
                             factor = test::make_data(test::Kind::gauss, width * columns, 2);
    test::for_each_simd_level([&, rows = rows, width = width, columns = columns] {
      std::vector<double> found(rows * columns, 3.0);
      single_rows_times_factor(matrix.data(), rows, width, {factor.data(), width, columns},
                               {found.data(), rows, columns});
      for (size_t o = 0; o < rows; ++o)
        for (size_t k = 0; k < columns; ++k)
          ASSERT_EQ(found[k * rows + o], in_lanes(&matrix[o * width], &factor[k * width], width))
              << rows << 'x' << width << ' ' << o << ' ' << k;
    });
  }
}

TEST(AddSingleRows, AddsRowsInOrderAndTheirSumOnce) {
  for (const auto& [rows, width, columns] : cases) {
    const size_t stride = width + 3;
    const std::vector<float> matrix = test::make_data(test::Kind::heavy, rows * stride),
                             weights = test::make_data(test::Kind::gauss, rows * columns, 3);
    test::for_each_simd_level([&, rows = rows, width = width, columns = columns] {
      std::vector<double> found(width * columns, 0.25);
      add_single_rows(matrix.data(), rows, width, stride, {weights.data(), rows, columns},
                      {found.data(), width, columns});
      for (size_t i = 0; i < width; ++i)
        for (size_t k = 0; k < columns; ++k) {
          float sum = 0;
          for (size_t o = 0; o < rows; ++o) {
            const float product = matrix[o * stride + i] * weights[k * rows + o];
            sum += product;
          }
          ASSERT_EQ(found[k * width + i], 0.25 + double(sum)) << rows << 'x' << width << ' ' << i << ' ' << k;
        }
    });
  }
}

}  // namespace
}  // namespace jsq::cpu

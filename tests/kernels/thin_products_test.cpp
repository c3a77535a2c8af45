// Products with thin factors against sums written out in the order that the interface names, bit by bit on
// every SIMD level.
#include "kernels/cpu/thin_products.hpp"

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "tests/kernels/data.hpp"
#include "tests/kernels/simd_levels.hpp"

namespace jsq::cpu {
namespace {

struct Case {
  size_t rows, width, columns;
};
constexpr Case cases[] = {{1, 1, 1},  {2, 3, 1},  {5, 7, 2},    {8, 8, 3},    {9, 9, 4},  {13, 31, 5},
                          {3, 40, 6}, {4, 64, 7}, {17, 300, 8}, {1, 1000, 1}, {20, 1, 8}, {11, 2500, 4}};

/// Lanes 0..7, folded by halving.
double in_lanes(const float* a, const float* b, size_t n) {
  std::array<double, 8> lane{};
  for (size_t i = 0; i < n; ++i) lane[i % 8] += double(a[i]) * double(b[i]);
  for (size_t half : {4u, 2u, 1u})
    for (size_t l = 0; l < half; ++l) lane[l] += lane[l + half];
  return lane[0];
}

TEST(RowsTimesFactor, AddsProductsInEightLanes) {
  for (const auto& [rows, width, columns] : cases) {
    const std::vector<float> matrix = test::make_data(test::Kind::heavy, rows * width),
                             factor = test::make_data(test::Kind::gauss, width * columns, 2);
    test::for_each_simd_level([&, rows = rows, width = width, columns = columns] {
      std::vector<double> found(rows * columns);
      rows_times_factor(matrix.data(), rows, width, {factor.data(), width, columns},
                        {found.data(), rows, columns});
      for (size_t o = 0; o < rows; ++o)
        for (size_t k = 0; k < columns; ++k)
          ASSERT_EQ(found[k * rows + o], in_lanes(&matrix[o * width], &factor[k * width], width))
              << rows << 'x' << width << ' ' << o << ' ' << k;
    });
  }
}

TEST(AddWeightedRows, AddsRowsInOrder) {
  for (const auto& [rows, width, columns] : cases) {
    const std::vector<float> matrix = test::make_data(test::Kind::heavy, rows * width),
                             weights = test::make_data(test::Kind::gauss, rows * columns, 3);
    test::for_each_simd_level([&, rows = rows, width = width, columns = columns] {
      std::vector<double> found(width * columns, 0.25);
      add_weighted_rows(matrix.data(), rows, width, width, {weights.data(), rows, columns},
                        {found.data(), width, columns});
      for (size_t i = 0; i < width; ++i)
        for (size_t k = 0; k < columns; ++k) {
          double expected = 0.25;
          for (size_t o = 0; o < rows; ++o)
            expected += double(matrix[o * width + i]) * double(weights[k * rows + o]);
          ASSERT_EQ(found[k * width + i], expected) << rows << 'x' << width << ' ' << i << ' ' << k;
        }
    });
  }
}

TEST(OuterProductSum, AddsColumnsInOrderInF32AndScalesTheSum) {
  for (size_t width : {1u, 7u, 2048u, 5000u})
    for (size_t columns : {1u, 2u, 4u, 5u, 11u}) {
      const std::vector<float> factor = test::make_data(test::Kind::heavy, width * columns),
                               weights = test::make_data(test::Kind::gauss, columns, 4);
      test::for_each_simd_level([&] {
        std::vector<float> found(width, -1.0f);
        outer_product_sum(weights, {factor.data(), width, columns}, 0.25f, found);
        for (size_t i = 0; i < width; ++i) {
          float expected = weights[0] * factor[i];
          for (size_t k = 1; k < columns; ++k) expected += weights[k] * factor[k * width + i];
          ASSERT_EQ(found[i], expected * 0.25f) << width << ' ' << columns << ' ' << i;
        }
      });
    }
}

}  // namespace
}  // namespace jsq::cpu

// Thin products on the device: the sums of their definition, whatever part of a matrix is there at a time.
#include "kernels/cuda/low_rank.hpp"

#include <array>
#include <bit>

#include "tests/gpu/device.hpp"
#include "tests/kernels/data.hpp"

namespace jsq {
namespace {

using test::Kind;
using test::make_data;

class ThinProductsOnDevice : public test::OnDevice {};

/// Lane l of 8 adds elements l, l + 8, ...; lanes are folded by halving.
double dot(const float* a, const float* b, size_t n) {
  std::array<double, 8> lane{};
  for (size_t i = 0; i < n; ++i) lane[i % 8] += double(a[i]) * double(b[i]);
  for (size_t half = 4; half > 0; half /= 2)
    for (size_t l = 0; l < half; ++l) lane[l] += lane[l + half];
  return lane[0];
}

/// Products of a matrix behind another tensor, of which one mebielement is on the device at a time.
void expect_products(uint64_t width, uint64_t runs, uint64_t panel, uint64_t group, size_t columns) {
  SCOPED_TRACE(std::to_string(runs) + " runs of " + std::to_string(width));
  const std::vector<std::vector<float>> tensors = {make_data(Kind::gauss, 700),
                                                   make_data(Kind::heavy, size_t(width * runs))};
  const std::vector<float>& matrix = tensors[1];
  const std::vector<float> factor = make_data(Kind::gauss, size_t(width * columns)),
                           weights = make_data(Kind::gauss, size_t(runs * columns));
  const auto pool = test::pool_values(tensors, 1);
  const auto found = cuda::panel_products(*pool, {1, width, runs}, panel, {factor.data(), width, columns});
  const uint64_t panels = (width + panel - 1) / panel;
  ASSERT_EQ(found.size(), columns * runs * panels);
  for (size_t k = 0; k < columns; ++k)
    for (uint64_t run = 0; run < runs; ++run)
      for (uint64_t p = 0; p < panels; ++p) {
        const uint64_t first = p * panel, n = std::min(panel, width - first);
        ASSERT_EQ(std::bit_cast<uint64_t>(found[(k * runs + run) * panels + p]),
                  std::bit_cast<uint64_t>(dot(&matrix[run * width + first], &factor[k * width + first], n)))
            << "column " << k << " run " << run << " panel " << p;
      }
  const auto sums = cuda::weighted_runs(*pool, {1, width, runs}, group, {weights.data(), runs, columns});
  ASSERT_EQ(sums.size(), columns * width);
  for (size_t k = 0; k < columns; ++k)
    for (uint64_t i = 0; i < width; ++i) {
      double all = 0;
      for (uint64_t begin = 0; begin < runs; begin += group) {
        double sum = 0;
        for (uint64_t run = begin; run < std::min(runs, begin + group); ++run)
          sum += double(matrix[run * width + i]) * double(weights[k * runs + run]);
        all += sum;
      }
      ASSERT_EQ(std::bit_cast<uint64_t>(sums[k * width + i]), std::bit_cast<uint64_t>(all))
          << "column " << k << " element " << i;
    }
}

TEST_F(ThinProductsOnDevice, AreTheSameInStretchesThatCutRuns) {
  expect_products(300007, 7, 65536, 2, 1);
  expect_products(1001, 2100, 65536, 263, 1);
}

TEST_F(ThinProductsOnDevice, HaveTheOrderOfTheirDefinitionForEveryNumberOfColumnsInStretches) {
  for (size_t columns = 1; columns <= 8; ++columns) expect_products(37, 70, 65536, 35, columns);
}

}  // namespace
}  // namespace jsq

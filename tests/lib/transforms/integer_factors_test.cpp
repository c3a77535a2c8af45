// Predictions from integer factors: the stated formula in wide integers, whatever part is asked for, at the
// ends of the range too.
#include "lib/transforms/integer_factors.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/cpu/kernel_planes.hpp"

#include "tests/kernels/data.hpp"

namespace jsq {
namespace {

using Wide = __int128;

Wide floor_div(Wide a, Wide b) {
  const Wide q = a / b;
  return q - ((a % b != 0) && ((a < 0) != (b < 0)));
}

/// |Q| as a fraction root / 2^shift (shift may be negative), by search.
void root_of(const std::vector<int32_t>& right, Wide& root, int& e) {
  Wide squares = 0;
  for (int32_t q : right) squares += Wide(q) * q;
  e = 0;
  while (squares >> 46 != 0 && squares != 0) squares = squares >> 2, --e;
  while (squares != 0 && squares < (Wide(1) << 44)) squares = squares << 2, ++e;
  Wide low = 0, high = Wide(1) << 24;
  while (high - low > 1) {
    const Wide middle = (low + high) / 2;
    (middle * middle <= squares ? low : high) = middle;
  }
  root = low;
}

std::vector<int32_t> expected_weights(const std::vector<int32_t>& right, uint32_t kappa20) {
  Wide root = 0;
  int e = 0;
  root_of(right, root, e);
  std::vector<int32_t> weights;
  for (int32_t q : right) {
    if (root == 0) {
      weights.push_back(0);
      continue;
    }
    const Wide over = Wide(kappa20) * q * (Wide(1) << 4) * (e > 0 ? Wide(1) << e : 1),
               under = root * (e < 0 ? Wide(1) << -e : 1);
    weights.push_back(int32_t(floor_div(2 * over + under, 2 * under)));
  }
  return weights;
}

IntegerFactors random_factors(test::Random& random, uint32_t rank, size_t rows, size_t columns,
                              int32_t most) {
  IntegerFactors f{uint32_t(1 + random.below(most_kappa20)), rank, rows, columns, {}, {}};
  const auto any = [&] { return int32_t(random.below(uint64_t(2 * most) + 1)) - most; };
  for (size_t i = 0; i < rank * rows; ++i) f.left.push_back(any());
  for (size_t i = 0; i < rank * columns; ++i) f.right.push_back(any());
  return f;
}

TEST(WeighDirection, IsTheFormulaForEverySizeOfNumbers) {
  test::Random random(1);
  for (int32_t most : {0, 1, 2, 40, 3000, most_factor})
    for (size_t n : {1u, 2u, 9u, 700u, 40000u}) {
      std::vector<int32_t> right(n), weights(n);
      for (int32_t& q : right) q = int32_t(random.below(uint64_t(2 * most) + 1)) - most;
      for (uint32_t kappa20 : {1u, 19u << 16, 1234567u, most_kappa20}) {
        weigh_direction(right, kappa20, weights);
        ASSERT_EQ(weights, expected_weights(right, kappa20)) << n << ' ' << most << ' ' << kappa20;
      }
    }
}

TEST(WeighDirection, HasTheLengthOfKappaIn256ths) {
  test::Random random(2);
  for (size_t n : {1u, 30u, 5000u}) {
    std::vector<int32_t> right(n), weights(n);
    for (int32_t& q : right) q = int32_t(random.below(20001)) - 10000;
    weigh_direction(right, 24u << 16, weights);
    double squares = 0;
    for (int32_t w : weights) squares += double(w) * w;
    EXPECT_NEAR(std::sqrt(squares) / 65536 / 256, 1.5, 1e-4);
  }
}

/// The whole prediction, [row][column].
std::vector<double> predicted(const FactorPrediction& prediction, size_t rows, size_t columns) {
  std::vector<double> values(rows * columns), column(rows + cpu::plane_lanes);
  for (size_t k = 0; k < columns; ++k) {
    std::fill(column.begin(), column.end(), 0.0);
    prediction.add(0, rows, k, 1, column.data());
    for (size_t i = 0; i < rows; ++i) values[i * columns + k] = column[i];
  }
  return values;
}

TEST(FactorPrediction, IsTheSumOfOuterProductsInWideIntegers) {
  test::Random random(3);
  for (uint32_t rank : {0u, 1u, 3u, most_rank})
    for (int32_t most : {3, 200, most_factor}) {
      const IntegerFactors f = random_factors(random, rank, 7, 13, most);
      const std::vector<double> values = predicted(FactorPrediction(f), 7, 13);
      std::vector<std::vector<int32_t>> weights;
      for (uint32_t j = 0; j < rank; ++j)
        weights.push_back(
            expected_weights({f.right.begin() + j * 13, f.right.begin() + (j + 1) * 13}, f.kappa20));
      for (size_t i = 0; i < 7; ++i)
        for (size_t k = 0; k < 13; ++k) {
          Wide sum = 32768;
          for (uint32_t j = 0; j < rank; ++j) sum += Wide(f.left[j * 7 + i]) * weights[j][k];
          ASSERT_EQ(int64_t(values[i * 13 + k]), int64_t(floor_div(sum, 65536)));
        }
    }
}

TEST(FactorPrediction, IsAddedToWhatIsThereWhateverPartIsAskedFor) {
  test::Random random(4);
  const IntegerFactors f = random_factors(random, 5, 20, 31, 900);
  const FactorPrediction prediction(f);
  const std::vector<double> whole = predicted(prediction, 20, 31);
  for (size_t k = 0; k < 31; ++k) {
    std::vector<double> part(cpu::padded_plane(4), 1000);
    prediction.add(11, 4, k, 1, part.data());
    for (size_t i = 0; i < 4; ++i) EXPECT_EQ(part[i], 1000 + whole[(11 + i) * 31 + k]);
    prediction.add(11, 4, k, -0.5, part.data());
    for (size_t i = 0; i < 4; ++i) EXPECT_EQ(part[i], 1000 + whole[(11 + i) * 31 + k] / 2);
  }
}

TEST(FactorPrediction, IsNearTheProductInSteps) {
  // U = 3 units of kappa = 2 steps along (1, 1) / sqrt 2.
  const FactorPrediction prediction({32u << 16, 1, 1, 2, {3}, {5, 5}});
  const std::vector<double> values = predicted(prediction, 1, 2);
  EXPECT_NEAR(values[0] / 256, 3 * 2 / std::sqrt(2.0), 0.01);
  EXPECT_EQ(values[0], values[1]);
}

}  // namespace
}  // namespace jsq

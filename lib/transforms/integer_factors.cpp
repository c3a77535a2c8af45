#include "lib/transforms/integer_factors.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace jsq {

void weigh_direction(std::span<const int32_t> right, uint32_t kappa20, std::span<int32_t> weighted) {
  uint64_t squares = 0;
  for (int32_t q : right) squares += uint64_t(int64_t(q) * q);
  if (squares == 0) {
    std::fill(weighted.begin(), weighted.end(), 0);
    return;
  }
  // 2^44 <= S 4^e < 2^46
  const int e = (46 - int(std::bit_width(squares))) >> 1;
  const uint64_t scaled = e >= 0 ? squares << (2 * e) : squares >> (-2 * e);
  const auto root = int64_t(std::sqrt(double(scaled)));  // exact: below 2^52, and sqrt is correctly rounded
  // Q 2^e <= |Q| 2^e < 2^23 + 1, so that nothing exceeds 2^53.
  const int64_t factor = int64_t(kappa20) << (4 + std::max(e, 0)), divisor = root << std::max(-e, 0);
  for (size_t k = 0; k < right.size(); ++k) {
    const int64_t numerator = 2 * factor * right[k] + divisor;
    const int64_t quotient = numerator / (2 * divisor);
    weighted[k] = int32_t(quotient - (numerator < 0 && quotient * 2 * divisor != numerator));
  }
}

FactorPrediction::FactorPrediction(const IntegerFactors& factors)
    : rank_(factors.rank), rows_(factors.rows), columns_(factors.columns) {
  left_.assign(factors.left.begin(), factors.left.end());
  right_.resize(rank_ * columns_);
  std::vector<int32_t> weighted(columns_);
  for (uint32_t j = 0; j < rank_; ++j) {
    weigh_direction(std::span(factors.right).subspan(j * columns_, columns_), factors.kappa20, weighted);
    std::copy(weighted.begin(), weighted.end(), right_.begin() + std::ptrdiff_t(j * columns_));
  }
}

void FactorPrediction::predict(size_t first_row, size_t rows, size_t first_column, size_t columns,
                               std::span<int64_t> values) const {
  static thread_local std::vector<double> sums_of_thread;
  std::vector<double>& sums = sums_of_thread;
  sums.assign(rows * columns, 32768.0);
  for (uint32_t j = 0; j < rank_; ++j) {
    const double* left = left_.data() + j * rows_ + first_row;
    const double* right = right_.data() + j * columns_ + first_column;
    if (columns == 1) {
      const double weight = right[0];
      for (size_t i = 0; i < rows; ++i) sums[i] += left[i] * weight;
      continue;
    }
    double* sum = sums.data();
    for (size_t i = 0; i < rows; ++i, sum += columns) {
      const double weight = left[i];
      if (weight == 0) continue;
      for (size_t k = 0; k < columns; ++k) sum[k] += weight * right[k];
    }
  }
  for (size_t i = 0; i < rows * columns; ++i) values[i] = int64_t(sums[i]) >> 16;
}

}  // namespace jsq

#include "lib/transforms/integer_factors.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/cpu/kernel_planes.hpp"

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

FactorPrediction::FactorPrediction(const IntegerFactors& factors, uint32_t kappa20)
    : rank_(factors.rank), stride_(factors.rows + cpu::plane_lanes) {
  const size_t columns = factors.columns;
  left_.resize(rank_ * stride_);
  right_.resize(rank_ * columns);
  std::vector<int32_t> weighted(columns);
  for (uint32_t j = 0; j < rank_; ++j) {
    std::copy_n(factors.left.begin() + std::ptrdiff_t(j * factors.rows), factors.rows,
                left_.begin() + std::ptrdiff_t(j * stride_));
    weigh_direction(std::span(factors.right).subspan(j * columns, columns), kappa20, weighted);
    for (size_t k = 0; k < columns; ++k) right_[k * rank_ + j] = weighted[k];
  }
}

void FactorPrediction::add(size_t first_row, size_t rows, size_t column, double factor,
                           double* values) const {
  cpu::add_predictions(left_.data() + first_row, stride_, right_.data() + column * rank_, rank_, rows, factor,
                       values);
}

}  // namespace jsq

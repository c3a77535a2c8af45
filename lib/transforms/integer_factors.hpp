// Low-rank prediction from integers: a matrix of m x n numbers as a sum of outer products, whose factors are
// small integers and whose values come out the same on every machine.
//
// Component j has a left vector U_j of m integers in units of kappa steps and a right vector Q_j of n
// integers that stands for the direction Q_j / |Q_j|. In 1/256 step the prediction of (i, k) is
//   floor((sum over j of U_ji q_jk + 2^15) / 2^16),   q_jk = floor(2^4 kappa20 Q_jk / |Q_j| + 1/2),
// with kappa = kappa20 / 2^20 and |Q_j| as directions() computes it. All |U|, |Q| < 2^15, so that |q| <=
// 2^28, and 64 components sum to less than 2^50: such sums are exact in double too, in any order.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace jsq {

constexpr uint32_t most_rank = 64;
constexpr int32_t most_factor = 32767;
constexpr uint32_t most_kappa20 = 255u << 16;

struct IntegerFactors {
  uint32_t kappa20 = 1u << 20;
  uint32_t rank = 0;
  size_t rows = 0, columns = 0;  ///< m, n
  std::vector<int32_t> left;     ///< [component][row]
  std::vector<int32_t> right;    ///< [component][column]
};

/// q_j of one right vector. With S the sum of squares and e the integer for which 2^44 <= S 4^e < 2^46, |Q|
/// is taken as floor(sqrt(floor(S 4^e))) 2^-e; for S = 0 all are 0.  \pre |Q| <= most_factor, fewer than 2^24
/// entries
void weigh_direction(std::span<const int32_t> right, uint32_t kappa20, std::span<int32_t> weighted);

/// Ready to predict.
class FactorPrediction {
 public:
  FactorPrediction() = default;
  explicit FactorPrediction(const IntegerFactors& factors) : FactorPrediction(factors, factors.kappa20) {}
  /// With another kappa than that of the factors.
  FactorPrediction(const IntegerFactors& factors, uint32_t kappa20);

  uint32_t rank() const { return rank_; }
  /// What is multiplied for row `row` and column `column` of component `j`.
  int32_t left(size_t row, uint32_t j) const { return int32_t(left_[j * stride_ + row]); }
  int32_t right(size_t column, uint32_t j) const { return int32_t(right_[column * rank_ + j]); }
  /// Adds `factor` times the predictions, in 1/256 step, of `rows` rows from first_row on, of one column.
  /// \pre there is room for cpu::padded_plane(rows) values
  void add(size_t first_row, size_t rows, size_t column, double factor, double* values) const;

 private:
  uint32_t rank_ = 0;
  size_t stride_ = 0;
  std::vector<float> left_;    ///< [component][row], each component padded with zeros to stride_
  std::vector<double> right_;  ///< [column][component], weighted
};

}  // namespace jsq

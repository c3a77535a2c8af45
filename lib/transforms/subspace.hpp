// The leading directions of a matrix, cheaply: randomised subspace iteration with oversampling and
// Rayleigh-Ritz (Halko, Martinsson and Tropp, SIAM Review 53 (2011), algorithms 4.4 and 5.1).
#pragma once

#include <cstdint>
#include <vector>

#include <Eigen/Core>

namespace jsq {

using MatrixF = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Makes the order of sums in products of matrices one that no machine changes. Called before any product
/// that decides bytes.
void fix_product_blocking();

/// The matrix is near left right^T.
struct Subspace {
  Eigen::VectorXd singular;  ///< descending
  Eigen::MatrixXf left;      ///< m x singular.size(), orthonormal columns
  Eigen::MatrixXf right;     ///< n x singular.size(): the transposed matrix times left
};

struct SubspaceOptions {
  uint32_t rank = 32;  ///< directions that are wanted
  uint32_t oversampling = 4;
  uint32_t iterations = 1;
  uint64_t seed = 0;  ///< of the +-1 that it starts from
};

/// At most min(rank, m, n) directions with a singular value above 0. One thread, in an order that depends on
/// the shape alone: the same result for any number of threads. (2 iterations + 1) products of the matrix with
/// rank + oversampling columns.
Subspace leading_subspace(const MatrixF& matrix, const SubspaceOptions& options);

}  // namespace jsq

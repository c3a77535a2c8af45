// The leading directions of a matrix, cheaply: randomised subspace iteration with oversampling and
// Rayleigh-Ritz (Halko, Martinsson and Tropp, SIAM Review 53 (2011), algorithms 4.4 and 5.1).
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include <Eigen/Core>

#include "lib/transforms/line_source.hpp"

namespace jsq {

/// Makes the order of sums in products of matrices one that no machine changes. Called before any product
/// that decides bytes.
void fix_product_blocking();

/// The power of two that brings a number near 1; 1 for 0.
double near_one(double number);

/// The matrix is near left right^T.
struct Subspace {
  Eigen::VectorXd singular;  ///< descending
  Eigen::MatrixXf left;      ///< m x singular.size(), orthonormal columns
  Eigen::MatrixXf right;     ///< n x singular.size(), orthogonal columns of lengths `singular`
};

struct SubspaceOptions {
  uint32_t rank = 32;  ///< directions that are wanted at most
  uint32_t oversampling = 4;
  uint32_t iterations = 1;
  uint64_t seed = 0;  ///< of the +-1 that it starts from
  /// Directions that are looked for at first; while most of them are useful, twice as many.
  uint32_t first = 16;
  /// How many of the leading directions are useful; all, where empty. Later iterations leave out the others.
  std::function<uint32_t(const Subspace&)> useful;
  /// One iteration where at most half of the directions that were found are useful, or all were looked for:
  /// others make the leading ones better, too.
  bool sparing = false;
  double scale = 1;  ///< a power of two that brings numbers of the matrix near 1
  /// Some lines of a large matrix, where directions are looked for first, and some others that tell what
  /// these are worth: what directions were made from flatters them. Then the whole is read twice. `useful` is
  /// asked of the latter, with singular values and right columns brought to the size that the whole should
  /// have. Null: all lines.
  const LineSource *sample = nullptr, *judge = nullptr;
};

/// Whether so many useful directions are most of those that were found.
constexpr bool wants_more(uint32_t useful, size_t found) {
  return 4 * size_t(useful) > 3 * found;
}

/// At most min(rank, m, n) directions with a singular value above 0: the same for any number of threads. The
/// matrix is read 2 iterations times, more often where more directions are looked for, and multiplied with as
/// many columns as there are directions, and the oversampling. From a sample, `right` is the transposed
/// matrix times `left`.
Subspace leading_subspace(const LineSource& matrix, const SubspaceOptions& options);
/// The same of a matrix in memory, which is brought near 1 beforehand.
Subspace leading_subspace(const MatrixF& matrix, const SubspaceOptions& options);

}  // namespace jsq

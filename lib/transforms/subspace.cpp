#include "lib/transforms/subspace.hpp"

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>

#include "kernels/element/philox.hpp"

namespace jsq {
namespace {

/// Orthonormal columns that span those of `columns`, with their lengths along the principal axes: from the
/// eigenvectors of the Gram matrix. Directions of next to no length are left out.
struct Axes {
  Eigen::VectorXd lengths;
  Eigen::MatrixXf columns;
};
Axes principal_axes(const Eigen::MatrixXf& columns) {
  // In double: squares of small directions would drown in the rounding of large ones.
  const Eigen::MatrixXd wide = columns.cast<double>();
  const Eigen::MatrixXd gram = wide.transpose() * wide;
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(gram);
  const Eigen::VectorXd& values = solver.eigenvalues();  // ascending
  const Eigen::Index k = values.size();
  const double largest = k > 0 ? values[k - 1] : 0;
  Eigen::Index kept = 0;
  while (kept < k && values[k - 1 - kept] > 1e-12 * largest && values[k - 1 - kept] > 0) ++kept;
  Axes axes;
  axes.lengths.resize(kept);
  Eigen::MatrixXf turn(k, kept);
  for (Eigen::Index j = 0; j < kept; ++j) {
    axes.lengths[j] = std::sqrt(values[k - 1 - j]);
    turn.col(j) = (solver.eigenvectors().col(k - 1 - j) / axes.lengths[j]).cast<float>();
  }
  axes.columns.noalias() = columns * turn;
  return axes;
}

/// Some orthonormal columns that span those of `columns`: by the Cholesky factor of the Gram matrix, or by
/// principal axes where that has next to no rank.
Eigen::MatrixXf orthonormal(const Eigen::MatrixXf& columns) {
  const Eigen::MatrixXd wide = columns.cast<double>();
  const Eigen::MatrixXd gram = wide.transpose() * wide;
  const Eigen::LLT<Eigen::MatrixXd> factor(gram);
  const Eigen::VectorXd diagonal = factor.matrixLLT().diagonal();
  const bool full = factor.info() == Eigen::Success && diagonal.size() > 0 &&
                    diagonal.minCoeff() > 1e-5 * diagonal.maxCoeff();
  if (!full) return principal_axes(columns).columns;
  return factor.matrixL().solve(wide.transpose()).transpose().cast<float>();
}

Eigen::MatrixXf random_signs(Eigen::Index rows, Eigen::Index columns, uint64_t seed) {
  Eigen::MatrixXf signs(rows, columns);
  for (Eigen::Index c = 0; c < columns; ++c)
    for (Eigen::Index r = 0; r < rows; ++r)
      signs(r, c) = element::random_word(seed, uint64_t(c * rows + r), 0, element::RandomPurpose::start) >> 31
                        ? 1.0f
                        : -1.0f;
  return signs;
}

}  // namespace

void fix_product_blocking() {
  // Eigen cuts products by the sizes of caches, and sums in another order where these are others.
  static const bool done = [] {
    Eigen::setCpuCacheSizes(32 << 10, 512 << 10, 4 << 20);
    return true;
  }();
  static_cast<void>(done);
}

Subspace leading_subspace(const MatrixF& matrix, const SubspaceOptions& options) {
  fix_product_blocking();
  Subspace result;
  const Eigen::Index most = std::min(matrix.rows(), matrix.cols());
  const Eigen::Index wanted = std::min<Eigen::Index>(options.rank, most);
  const Eigen::Index k = std::min<Eigen::Index>(wanted + options.oversampling, most);
  if (k == 0) return result;
  // A power of two in front keeps sums of squares away from the ends of the range.
  const float largest = matrix.cwiseAbs().maxCoeff();
  if (!(largest > 0)) return result;
  const float down = std::ldexp(1.0f, -std::ilogb(largest));
  const MatrixF scaled = matrix * down;
  Eigen::MatrixXf left = random_signs(matrix.rows(), k, options.seed);
  Axes axes;
  for (uint32_t round = 0; round < std::max(options.iterations, 1u); ++round) {
    const Eigen::MatrixXf right = orthonormal(scaled.transpose() * left);
    axes = principal_axes(scaled * right);
    left = axes.columns;
  }
  const Eigen::Index kept = std::min(wanted, axes.lengths.size());
  result.singular = (axes.lengths.head(kept) / double(down)).eval();
  result.left = axes.columns.leftCols(kept).eval();
  result.right = matrix.transpose() * result.left;
  return result;
}

}  // namespace jsq

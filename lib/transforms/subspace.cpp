#include "lib/transforms/subspace.hpp"

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>

#include "kernels/element/philox.hpp"

namespace jsq {
namespace {

/// Orthonormal columns that span those of `columns`, with their lengths along the principal axes: from the
/// eigenvectors of the Gram matrix. Directions of next to no length are left out.
Subspace principal_axes(const Eigen::MatrixXf& columns) {
  // In double: squares of small directions would drown in the rounding of large ones.
  const Eigen::MatrixXd wide = columns.cast<double>();
  const Eigen::MatrixXd gram = wide.transpose() * wide;
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(gram);
  const Eigen::VectorXd& values = solver.eigenvalues();  // ascending
  const Eigen::Index k = values.size();
  const double largest = k > 0 ? values[k - 1] : 0;
  Eigen::Index kept = 0;
  while (kept < k && values[k - 1 - kept] > 1e-12 * largest && values[k - 1 - kept] > 0) ++kept;
  Subspace axes;
  axes.singular.resize(kept);
  Eigen::MatrixXf turn(k, kept);
  for (Eigen::Index j = 0; j < kept; ++j) {
    axes.singular[j] = std::sqrt(values[k - 1 - j]);
    turn.col(j) = (solver.eigenvectors().col(k - 1 - j) / axes.singular[j]).cast<float>();
  }
  axes.right.noalias() = columns * turn;
  return axes;
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
  Eigen::MatrixXf right = random_signs(matrix.cols(), k, options.seed);
  for (uint32_t round = 0; round < std::max(options.iterations, 1u); ++round) {
    const Eigen::MatrixXf left = principal_axes(scaled * right).right;
    result = principal_axes(scaled.transpose() * left);
    right = result.right;
  }
  const Eigen::Index kept = std::min(wanted, result.singular.size());
  result.singular = (result.singular.head(kept) / double(down)).eval();
  result.right = result.right.leftCols(kept).eval();
  return result;
}

}  // namespace jsq

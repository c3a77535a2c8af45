#include "lib/transforms/subspace.hpp"

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>

#include "kernels/element/philox.hpp"

namespace jsq {
namespace {

/// The principal axes of columns, from the eigenvectors of their Gram matrix: columns turn / lengths are
/// orthonormal. Directions of next to no length are left out.
struct Axes {
  Eigen::VectorXd lengths;
  Eigen::MatrixXd turn;
};
Axes principal_axes(const Eigen::MatrixXd& gram) {
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(gram);
  const Eigen::VectorXd& values = solver.eigenvalues();  // ascending
  const Eigen::Index k = values.size();
  const double largest = k > 0 ? values[k - 1] : 0;
  Eigen::Index kept = 0;
  while (kept < k && values[k - 1 - kept] > 1e-12 * largest && values[k - 1 - kept] > 0) ++kept;
  Axes axes;
  axes.lengths.resize(kept);
  axes.turn.resize(k, kept);
  for (Eigen::Index j = 0; j < kept; ++j) {
    axes.lengths[j] = std::sqrt(values[k - 1 - j]);
    axes.turn.col(j) = solver.eigenvectors().col(k - 1 - j);
  }
  return axes;
}

/// In double: squares of small directions would drown in the rounding of large ones.
Eigen::MatrixXd gram_of(const Eigen::MatrixXf& columns) {
  const Eigen::MatrixXd wide = columns.cast<double>();
  return wide.transpose() * wide;
}

Eigen::MatrixXf axes_of(const Eigen::MatrixXf& columns, const Axes& axes, Eigen::Index count) {
  const Eigen::VectorXd inverse = axes.lengths.head(count).cwiseInverse();
  const Eigen::MatrixXf turn = (axes.turn.leftCols(count) * inverse.asDiagonal()).cast<float>();
  return columns * turn;
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
  if (!full) {
    const Axes axes = principal_axes(gram);
    return axes_of(columns, axes, axes.lengths.size());
  }
  return factor.matrixL().solve(wide.transpose()).transpose().cast<float>();
}

/// Columns first .. first + columns - 1 of the start.
Eigen::MatrixXf random_signs(Eigen::Index rows, Eigen::Index first, Eigen::Index columns, uint64_t seed) {
  Eigen::MatrixXf signs(rows, columns);
  for (Eigen::Index c = 0; c < columns; ++c)
    for (Eigen::Index r = 0; r < rows; r += 32) {
      const uint32_t word = element::random_word(seed, uint64_t((first + c) * ((rows + 31) / 32) + r / 32), 0,
                                                 element::RandomPurpose::start);
      for (Eigen::Index i = r; i < std::min(r + 32, rows); ++i)
        signs(i, c) = word >> (i - r) & 1 ? 1.0f : -1.0f;
    }
  return signs;
}

/// What is found of a matrix: orthonormal directions of its rows, and the matrix, or other lines, times
/// these.
struct Range {
  Eigen::MatrixXf right, images;
};

/// Adds the directions that these combinations of rows have and the range does not, and what `judge` makes of
/// them.
void widen(Range& range, const LineSource& matrix, const LineSource& judge,
           const Eigen::MatrixXf& combinations, double scale) {
  Eigen::MatrixXf rows = transposed_times(matrix, combinations, scale);
  if (range.right.cols() > 0)
    for (int twice = 0; twice < 2; ++twice) rows -= range.right * (range.right.transpose() * rows).eval();
  const Eigen::MatrixXf fresh = orthonormal(rows);
  const Eigen::MatrixXf images = times(judge, fresh, scale);
  const Eigen::Index before = range.right.cols(), after = before + fresh.cols();
  range.right.conservativeResize(fresh.rows(), after);
  range.images.conservativeResize(images.rows(), after);
  range.right.rightCols(fresh.cols()) = fresh;
  range.images.rightCols(images.cols()) = images;
}

Subspace subspace_of(const Range& range, const Axes& axes, Eigen::Index most, double scale) {
  Subspace result;
  const Eigen::Index kept = std::min(most, axes.lengths.size());
  result.singular = (axes.lengths.head(kept) / scale).eval();
  result.left = axes_of(range.images, axes, kept);
  result.right = range.right * (axes.turn.leftCols(kept) * result.singular.asDiagonal()).cast<float>();
  return result;
}

/// The directions' images under the whole matrix, and these as principal axes of it.
Subspace with_images(const LineSource& matrix, const Eigen::MatrixXf& directions, double scale) {
  const Eigen::MatrixXf left = orthonormal(times(matrix, directions, scale));
  const Eigen::MatrixXf right = transposed_times(matrix, left, scale);
  const Axes axes = principal_axes(gram_of(right));
  const Eigen::MatrixXf turn = axes.turn.cast<float>();
  return {axes.lengths / scale, left * turn, right * turn / float(scale)};
}

}  // namespace

double near_one(double number) {
  return number > 0 ? std::ldexp(1.0, -std::ilogb(number)) : 1;
}

void fix_product_blocking() {
  // Eigen cuts products by the sizes of caches, and sums in another order where these are others.
  static const bool done = [] {
    Eigen::setCpuCacheSizes(32 << 10, 512 << 10, 4 << 20);
    return true;
  }();
  static_cast<void>(done);
}

Subspace leading_subspace(const MatrixF& matrix, const SubspaceOptions& options) {
  SubspaceOptions scaled = options;
  if (matrix.size() > 0) scaled.scale = near_one(matrix.cwiseAbs().maxCoeff());
  return leading_subspace(MatrixLines(matrix), scaled);
}

Subspace leading_subspace(const LineSource& matrix, const SubspaceOptions& options) {
  fix_product_blocking();
  Subspace result;
  const auto most = Eigen::Index(std::min(matrix.lines(), matrix.columns()));
  const Eigen::Index wanted = std::min<Eigen::Index>(options.rank, most);
  const Eigen::Index k = std::min<Eigen::Index>(wanted + options.oversampling, most);
  if (k == 0) return result;
  bool sampled = options.sample != nullptr;
  Eigen::Index kept = wanted;
  Range range;
  Axes axes;
  for (Eigen::Index asked = std::min<Eigen::Index>(wanted, std::max(options.first, 1u)), columns = 0;;
       asked = std::min(2 * asked, wanted)) {
    const Eigen::Index more = std::min(asked + Eigen::Index(options.oversampling), k) - columns;
    const LineSource &looked_at = sampled ? *options.sample : matrix,
                     &judge = sampled ? *options.judge : matrix;
    widen(range, looked_at, judge, random_signs(Eigen::Index(looked_at.lines()), columns, more, options.seed),
          options.scale);
    if (range.right.cols() == 0) return result;  // zeros
    columns += more;
    axes = principal_axes(gram_of(range.images));
    result = subspace_of(range, axes, wanted, options.scale);
    if (sampled) {  // lengths as of the whole
      const double length = std::sqrt(double(matrix.lines()) / double(judge.lines()));
      result.singular *= length;
      result.left /= float(length);
      result.right *= float(length);
    }
    const bool last = asked >= wanted || axes.lengths.size() < asked;
    const uint32_t useful = options.useful && (sampled || !last) ? options.useful(result) : options.rank;
    if (!last && wants_more(useful, size_t(result.singular.size()))) continue;
    if (!sampled && options.sparing && (last || 2 * Eigen::Index(useful) <= result.singular.size()))
      return result;
    kept = std::min<Eigen::Index>(wanted, useful + useful / 4 + options.oversampling);
    if (!sampled) {
      for (uint32_t round = 1; round < options.iterations; ++round) {
        const Eigen::MatrixXf left = axes_of(
            range.images, axes, std::min(kept + Eigen::Index(options.oversampling), axes.lengths.size()));
        range = {};
        widen(range, matrix, matrix, left, options.scale);
        axes = principal_axes(gram_of(range.images));
        result = subspace_of(range, axes, kept, options.scale);
      }
      columns = range.right.cols();
      if (last || !options.useful || !wants_more(options.useful(result), size_t(result.singular.size())))
        return result;
      continue;  // what hid behind the noise of the first look
    }
    // Products take columns by fours.
    const Eigen::Index some = std::min((kept + 3) / 4 * 4, axes.lengths.size());
    const Eigen::MatrixXf rows = transposed_times(judge, axes_of(range.images, axes, some), options.scale);
    result = with_images(matrix, orthonormal(rows), options.scale);
    columns = result.singular.size();
    if (columns == wanted || !wants_more(options.useful(result), size_t(columns))) return result;
    // The whole has more of them than its lines let see.
    sampled = false;
    range.right = orthonormal(result.right);
    range.images = times(matrix, range.right, options.scale);
  }
}

}  // namespace jsq

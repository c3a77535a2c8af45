#include "lib/methods/rdoq_factors.hpp"

#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>

#include "lib/methods/rdoq_scales.hpp"

namespace jsq {

MatrixF part_matrix(const TensorPool& pool, size_t t, uint64_t first, const TransformSite& site) {
  const ScaleView& view = site.view;
  const auto inner = size_t(view.inner), columns = size_t(view.columns);
  MatrixF matrix(Eigen::Index(columns), Eigen::Index(view.rows * inner));
  std::vector<float> scratch, coefficients;
  for (uint64_t r = 0; r < view.rows; ++r) {
    std::span<const float> values =
        pool.read(t, first + r * view.row_elements(), size_t(view.row_elements()), scratch);
    if (site.takes_dct()) {
      coefficients.resize(values.size());
      KernelDct(site.kernel).forward(values, coefficients);
      values = coefficients;
    }
    for (size_t c = 0; c < columns; ++c)
      for (size_t k = 0; k < inner; ++k)
        matrix(Eigen::Index(c), Eigen::Index(r * inner + k)) = values[c * inner + k];
  }
  return matrix;
}

namespace {

constexpr size_t quantiles = 16;

/// The middle of each sixteenth of the sorted energies, divided by the mean.
std::vector<double> shares_of(std::vector<double> energies) {
  std::sort(energies.begin(), energies.end());
  double sum = 0;
  for (double e : energies) sum += e;
  std::vector<double> shares;
  for (size_t q = 0; q < quantiles; ++q)
    shares.push_back(sum > 0 ? energies[(2 * q + 1) * energies.size() / (2 * quantiles)] *
                                   double(energies.size()) / sum
                             : 0);
  return shares;
}

/// Least error + lambda bits of an element of this variance, all in step^2: reverse water-filling.
double cost_of_variance(double variance, double lambda) {
  const double kept = 0.72 * lambda;
  return variance <= kept ? variance : kept + 0.5 * lambda * coarse_log2(variance / kept);
}

/// Bits of a factor of this variance in units.
double bits_of_factor(double variance) {
  return 0.5 * coarse_log2(1 + 17 * variance);
}

int32_t rounded(double x) {
  const double magnitude = std::min(std::floor(std::abs(x) + 0.4), double(most_factor));
  return int32_t(x < 0 ? -magnitude : magnitude);
}

}  // namespace

FactorBasis make_basis(const MatrixF& matrix, const SubspaceOptions& options) {
  FactorBasis basis;
  basis.rows = size_t(matrix.rows());
  std::vector<double> rows(size_t(matrix.rows())), columns(size_t(matrix.cols()));
  for (Eigen::Index i = 0; i < matrix.rows(); ++i)
    for (Eigen::Index k = 0; k < matrix.cols(); ++k) {
      const double square = double(matrix(i, k)) * double(matrix(i, k));
      rows[size_t(i)] += square;
      columns[size_t(k)] += square;
    }
  for (double e : rows) basis.energy += e;
  basis.row_shares = shares_of(std::move(rows));
  basis.column_shares = shares_of(std::move(columns));
  basis.subspace = leading_subspace(matrix, options);
  return basis;
}

RankChoice choose_rank(const FactorBasis& basis, double step, double lambda) {
  const auto m = double(basis.rows), n = double(basis.subspace.right.rows());
  const double square = step * step;
  const auto residual_cost = [&](double energy) {
    double cost = 0;
    for (double a : basis.row_shares)
      for (double b : basis.column_shares)
        cost += cost_of_variance(a * b * energy / (m * n * square), lambda);
    return cost * m * n / double(quantiles * quantiles);
  };
  RankChoice best;
  double least = residual_cost(basis.energy);
  for (const uint32_t kappa : {3u, 7u, 11u}) {
    const double unit = kappas16[kappa] * step / 16;
    double energy = basis.energy, bits = 0, noise = 0;
    for (Eigen::Index j = 0; j < basis.subspace.singular.size(); ++j) {
      const double s = basis.subspace.singular[j], left = s * s / (m * unit * unit),
                   right = s * s / (n * unit * unit);
      energy = std::max(energy - s * s, 0.0);
      bits += m * bits_of_factor(left) + n * bits_of_factor(right) + 4;
      noise += m * unit * unit / 12;
      const double cost = residual_cost(energy + noise) + lambda * bits;
      if (cost >= least) continue;
      least = cost;
      best = {uint32_t(j) + 1, kappa};
    }
  }
  return best;
}

std::shared_ptr<const StoredFactors> make_factors(const MatrixF& matrix, const FactorBasis& basis,
                                                  const RankChoice& choice, double step) {
  fix_product_blocking();
  const double unit = kappas16[choice.kappa] * step / 16;
  const Eigen::Index m = matrix.rows(), n = matrix.cols();
  const Eigen::Index wanted = std::min<Eigen::Index>(choice.rank, basis.subspace.singular.size());
  std::vector<std::vector<int32_t>> rights;
  for (Eigen::Index j = 0; j < wanted; ++j) {
    std::vector<int32_t> right(static_cast<size_t>(n));
    for (Eigen::Index k = 0; k < n; ++k)
      right[size_t(k)] = rounded(basis.subspace.singular[j] * double(basis.subspace.right(k, j)) / unit);
    if (std::any_of(right.begin(), right.end(), [](int32_t q) { return q != 0; }))
      rights.push_back(std::move(right));
  }
  if (rights.empty()) return nullptr;
  const auto rank = Eigen::Index(rights.size());
  Eigen::MatrixXf directions(n, rank);
  for (Eigen::Index j = 0; j < rank; ++j) {
    double squares = 0;
    for (int32_t q : rights[size_t(j)]) squares += double(q) * double(q);
    const double inverse = 1 / std::sqrt(squares);
    for (Eigen::Index k = 0; k < n; ++k) directions(k, j) = float(rights[size_t(j)][size_t(k)] * inverse);
  }
  const Eigen::MatrixXd wide = directions.cast<double>();
  Eigen::MatrixXd gram = wide.transpose() * wide;
  gram.diagonal().array() += 1e-6;  // directions that rounding made equal
  const Eigen::MatrixXf products = matrix * directions;
  const Eigen::MatrixXd left = gram.ldlt().solve(products.transpose().cast<double>());
  auto stored = std::make_shared<StoredFactors>();
  stored->kappa = choice.kappa;
  IntegerFactors& factors = stored->factors;
  factors.rows = size_t(m);
  factors.columns = size_t(n);
  for (Eigen::Index j = 0; j < rank; ++j) {
    std::vector<int32_t> numbers(static_cast<size_t>(m));
    for (Eigen::Index i = 0; i < m; ++i) numbers[size_t(i)] = rounded(left(j, i) / unit);
    if (std::all_of(numbers.begin(), numbers.end(), [](int32_t u) { return u == 0; })) continue;
    ++factors.rank;
    factors.left.insert(factors.left.end(), numbers.begin(), numbers.end());
    factors.right.insert(factors.right.end(), rights[size_t(j)].begin(), rights[size_t(j)].end());
  }
  return factors.rank == 0 ? nullptr : stored;
}

}  // namespace jsq

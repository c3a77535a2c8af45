#include "lib/methods/rdoq_factors.hpp"

#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>
#include <optional>

#include "lib/methods/rdoq_scales.hpp"

namespace jsq {

MatrixF part_lines(const TensorPool& pool, size_t t, uint64_t first, const TransformSite& site, bool cosine,
                   std::span<const uint64_t> rows) {
  const ScaleView& view = site.view;
  const auto inner = size_t(view.inner), columns = size_t(view.columns);
  MatrixF lines(Eigen::Index(rows.size() * inner), Eigen::Index(columns));
  std::vector<float> scratch, coefficients;
  const std::optional<KernelDct> dct = cosine ? std::optional(KernelDct(site.kernel)) : std::nullopt;
  float* line = lines.data();
  for (const uint64_t r : rows) {
    std::span<const float> values =
        pool.read(t, first + r * view.row_elements(), size_t(view.row_elements()), scratch);
    if (dct) {
      coefficients.resize(values.size());
      dct->forward(values, coefficients);
      values = coefficients;
    }
    for (size_t k = 0; k < inner; ++k, line += columns)
      for (size_t c = 0; c < columns; ++c) line[c] = values[c * inner + k];
  }
  return lines;
}

namespace {

constexpr size_t quantiles = 8;

/// The middle of each eighth of the sorted energies, divided by the mean.
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

FactorBasis make_basis(const MatrixF& lines, const SubspaceOptions& options) {
  FactorBasis basis;
  std::vector<double> of_lines(size_t(lines.rows())), of_columns(size_t(lines.cols()));
  for (Eigen::Index i = 0; i < lines.rows(); ++i)
    for (Eigen::Index c = 0; c < lines.cols(); ++c) {
      const double square = double(lines(i, c)) * double(lines(i, c));
      of_lines[size_t(i)] += square;
      of_columns[size_t(c)] += square;
    }
  for (double e : of_lines) basis.energy += e;
  basis.line_shares = shares_of(std::move(of_lines));
  basis.column_shares = shares_of(std::move(of_columns));
  basis.subspace = leading_subspace(lines, options);
  return basis;
}

RankChoice choose_rank(const FactorBasis& basis, double step, double lambda) {
  const auto m = double(basis.subspace.right.rows()), n = double(basis.subspace.left.rows());
  const double square = step * step;
  const auto residual_cost = [&](double energy) {
    double cost = 0;
    for (double a : basis.line_shares)
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

namespace {

/// Right factors and the lengths of their directions, of components that are not zero.
struct RightFactors {
  std::vector<std::vector<int32_t>> numbers;
  std::vector<Eigen::Index> components;  ///< of the basis
  Eigen::MatrixXf directions;            ///< [line][component], of length 1
};
RightFactors right_factors(const FactorBasis& basis, const RankChoice& choice, double unit) {
  RightFactors right;
  const Subspace& from = basis.subspace;
  const Eigen::Index lines = from.left.rows(),
                     wanted = std::min<Eigen::Index>(choice.rank, from.singular.size());
  std::vector<int32_t> numbers(static_cast<size_t>(lines));
  for (Eigen::Index j = 0; j < wanted; ++j) {
    const double scale = from.singular[j] / unit;
    bool any = false;
    for (Eigen::Index i = 0; i < lines; ++i) {
      numbers[size_t(i)] = rounded(scale * double(from.left(i, j)));
      any = any || numbers[size_t(i)] != 0;
    }
    if (!any) continue;
    right.numbers.push_back(numbers);
    right.components.push_back(j);
  }
  right.directions.resize(lines, Eigen::Index(right.numbers.size()));
  for (size_t j = 0; j < right.numbers.size(); ++j) {
    double squares = 0;
    for (int32_t q : right.numbers[j]) squares += double(q) * double(q);
    const double inverse = 1 / std::sqrt(squares);
    for (Eigen::Index i = 0; i < lines; ++i)
      right.directions(i, Eigen::Index(j)) = float(right.numbers[j][size_t(i)] * inverse);
  }
  return right;
}

/// About what the numbers take: those of a two-sided geometric distribution with their mean magnitude.
template <class Numbers>
double geometric_bits(const Numbers& numbers, size_t count) {
  double mean = 0;
  for (size_t i = 0; i < count; ++i) mean += std::abs(double(numbers[i]));
  mean /= double(count);
  if (mean == 0) return 8;
  return double(count) * (coarse_log2(1 + mean) + mean * coarse_log2(1 + 1 / mean) + mean / (1 + mean)) + 4;
}

}  // namespace

DraftFactors draft_factors(const FactorBasis& basis, const RankChoice& choice, double step) {
  const double unit = kappas16[choice.kappa] * step / 16;
  const RightFactors right = right_factors(basis, choice, unit);
  DraftFactors draft;
  draft.directions = right.directions * float(unit);
  draft.left.resize(basis.subspace.right.rows(), draft.directions.cols());
  draft.bits = 12;
  for (size_t j = 0; j < right.numbers.size(); ++j) {
    auto left = draft.left.col(Eigen::Index(j));
    for (Eigen::Index c = 0; c < left.size(); ++c)
      left[c] = float(rounded(double(basis.subspace.right(c, right.components[j])) / unit));
    draft.bits += geometric_bits(right.numbers[j], right.numbers[j].size()) +
                  geometric_bits(left.data(), size_t(left.size()));
  }
  return draft;
}

std::shared_ptr<const StoredFactors> make_factors(const MatrixF& lines, const FactorBasis& basis,
                                                  const RankChoice& choice, double step) {
  fix_product_blocking();
  const double unit = kappas16[choice.kappa] * step / 16;
  const RightFactors right = right_factors(basis, choice, unit);
  if (right.numbers.empty()) return nullptr;
  const Eigen::MatrixXd wide = right.directions.cast<double>();
  Eigen::MatrixXd gram = wide.transpose() * wide;
  gram.diagonal().array() += 1e-6;  // directions that rounding made equal
  const Eigen::MatrixXf products = lines.transpose() * right.directions;
  const Eigen::MatrixXd left = gram.ldlt().solve(products.transpose().cast<double>());
  auto stored = std::make_shared<StoredFactors>();
  stored->kappa = choice.kappa;
  IntegerFactors& factors = stored->factors;
  factors.rows = size_t(lines.cols());
  factors.columns = size_t(lines.rows());
  std::vector<int32_t> numbers(factors.rows);
  for (size_t j = 0; j < right.numbers.size(); ++j) {
    for (size_t c = 0; c < numbers.size(); ++c)
      numbers[c] = rounded(left(Eigen::Index(j), Eigen::Index(c)) / unit);
    if (std::all_of(numbers.begin(), numbers.end(), [](int32_t u) { return u == 0; })) continue;
    ++factors.rank;
    factors.left.insert(factors.left.end(), numbers.begin(), numbers.end());
    factors.right.insert(factors.right.end(), right.numbers[j].begin(), right.numbers[j].end());
  }
  return factors.rank == 0 ? nullptr : stored;
}

}  // namespace jsq

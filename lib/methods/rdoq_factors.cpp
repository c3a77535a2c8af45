#include "lib/methods/rdoq_factors.hpp"

#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>
#include <optional>
#include <span>

#include "lib/methods/rdoq_device_products.hpp"
#include "lib/methods/rdoq_scales.hpp"

namespace jsq {

namespace {

/// Elements of a part that is kept at most: in larger ones, directions are sought in a sample.
constexpr uint64_t most_kept = uint64_t(1) << 20;

/// A row of the part as `inner` lines, which begin `columns` elements apart.
void row_to_lines(const TensorPool& pool, size_t t, uint64_t begin, const ScaleView& view,
                  const std::optional<KernelDct>& dct, LineSource::Scratch& scratch, float* lines) {
  const auto inner = size_t(view.inner), columns = size_t(view.columns);
  const std::span<const float> values = pool.read(t, begin, columns * inner, scratch.values);
  if (dct) return dct->forward(values, lines, columns);
  for (size_t k = 0; k < inner; ++k)
    for (size_t c = 0; c < columns; ++c) lines[k * columns + c] = values[c * inner + k];
}

}  // namespace

MatrixF part_lines(const TensorPool& pool, size_t t, uint64_t first, const TransformSite& site, bool cosine,
                   std::span<const uint64_t> rows) {
  const ScaleView& view = site.view;
  MatrixF lines(Eigen::Index(rows.size() * view.inner), Eigen::Index(view.columns));
  const std::optional<KernelDct> dct = cosine ? std::optional(KernelDct(site.kernel)) : std::nullopt;
  LineSource::Scratch scratch;
  for (size_t r = 0; r < rows.size(); ++r)
    row_to_lines(pool, t, first + rows[r] * view.row_elements(), view, dct, scratch,
                 lines.data() + r * view.row_elements());
  return lines;
}

PartLines::PartLines(const TensorPool& pool, size_t t, uint64_t first, const TransformSite& site, bool cosine)
    : LineSource(size_t(site.view.rows * site.view.inner), size_t(site.view.columns),
                 size_t(site.view.inner)),
      pool_(pool),
      t_(t),
      first_(first),
      view_(site.view) {
  if (cosine) dct_.emplace(site.kernel);
  runs_ = {t_, columns(), lines(), first_};
}

void PartLines::keep() {
  if (view_.inner == 1) return;
  lay_out_on_device();
  if (lines() * columns() > most_kept) return;
  MatrixF all{Eigen::Index(lines()), Eigen::Index(columns())};
  Scratch scratch;
  copy(0, lines(), scratch, all.data());
  kept_ = std::move(all);
}

void PartLines::copy(size_t first, size_t count, Scratch& scratch, float* to) const {
  const uint64_t begin = first_ + first / group() * view_.row_elements();
  for (size_t r = 0; r < count / group(); ++r)
    row_to_lines(pool_, t_, begin + r * view_.row_elements(), view_, dct_, scratch,
                 to + r * view_.row_elements());
}

const float* PartLines::read(size_t first, size_t count, Scratch& scratch) const {
  if (kept_.size() > 0) return kept_.data() + first * columns();
  if (group() == 1)
    return pool_.read(t_, first_ + first * view_.row_elements(), count * columns(), scratch.lines).data();
  scratch.lines.resize(count * columns());
  copy(first, count, scratch, scratch.lines.data());
  return scratch.lines.data();
}

void PartLines::lay_out_on_device() {
  if (pool_.device() == nullptr || columns() > most_device_columns || takes_single_products()) return;
  cuda::KernelRows kernels{t_, first_, view_.rows, view_.columns, uint32_t(view_.inner), {}};
  for (uint32_t axis = 0; dct_ && axis < dct_->axes(); ++axis)
    kernels.axes.push_back({dct_->extent(axis), dct_->stride(axis), dct_table(dct_->extent(axis))});
  on_device_ = kernel_lines_on_device(pool_, kernels);
  if (on_device_.values) runs_ = {0, columns(), lines(), 0};
}

bool PartLines::is_on_device() const {
  return columns() <= most_device_columns && pool_.device() != nullptr &&
         (view_.inner == 1 || on_device_.values != nullptr);
}

void PartLines::times_on_device(cpu::ThinFactor<const float> factor, cpu::ThinFactor<double> sums) const {
  lines_times_on_device(pool_, on_device_, runs_, factor, sums);
}

void PartLines::transposed_times_on_device(cpu::ThinFactor<const float> weights,
                                           cpu::ThinFactor<double> sums) const {
  weighted_lines_on_device(pool_, on_device_, runs_, weights, sums);
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

/// exp(-x) within 1e-6, by products alone: the same on every machine.
double exp_of_minus(double x) {
  double result = 1 - x / (1 << 20);
  if (!(result > 0)) return 0;
  for (int i = 0; i < 20; ++i) result *= result;
  return result;
}

/// Bits of a number of mean magnitude 2^(key / 4 - 8) from a two-sided exponential distribution, rounded as
/// factors are.
constexpr size_t mean_keys = 96;
const std::array<float, mean_keys>& bits_by_mean() {
  static const std::array<float, mean_keys> table = [] {
    std::array<float, mean_keys> bits{};
    double mean = 1.0 / 256;
    const double quarter = std::sqrt(std::sqrt(2.0));
    for (size_t key = 0; key < mean_keys; ++key, mean *= quarter) {
      const double some = exp_of_minus(0.6 / mean), next = exp_of_minus(1 / mean);
      const auto entropy = [](double p) {
        return p > 0 && p < 1 ? -p * coarse_log2(p) - (1 - p) * coarse_log2(1 - p) : 0;
      };
      bits[key] = float(std::max(0.0, entropy(some)) +
                        some * (1 + (next < 1 ? std::max(0.0, entropy(next)) / (1 - next) : 0)));
    }
    return bits;
  }();
  return table;
}

double bits_of_number(double mean) {
  const double at = 4 * (coarse_log2(std::max(mean, 1e-9)) + 8);
  if (!(at > 0)) return 0;
  const auto& table = bits_by_mean();
  const size_t key = std::min(size_t(at), mean_keys - 2);
  const double beyond = std::min(at - double(key), 1.0);
  return double(table[key]) * (1 - beyond) + double(table[key + 1]) * beyond;
}

/// Bits of one component of one side, in units.
double bits_of_component(const FactorBasis::Side& side, size_t j, double unit) {
  double bits = 0;
  for (float mean : side.means[j]) bits += bits_of_number(double(mean) / unit);
  return 1.06 * bits * side.places + 4;  // what a coder has yet to learn
}

/// `each`: how many places of the side one of the vectors' stands for.
FactorBasis::Side side_of(const Eigen::MatrixXf& vectors, const Eigen::VectorXd* scales, double each) {
  FactorBasis::Side side;
  const auto places = size_t(vectors.rows()), components = size_t(vectors.cols());
  constexpr size_t groups = std::tuple_size_v<decltype(side.means)::value_type>;
  const auto scale = [&](size_t j) { return scales ? float((*scales)[Eigen::Index(j)]) : 1.0f; };
  std::vector<std::pair<float, uint32_t>> order(places);
  for (size_t i = 0; i < places; ++i) order[i] = {0.0f, uint32_t(i)};
  for (size_t j = 0; j < components; ++j)
    for (size_t i = 0; i < places; ++i) {
      const float x = vectors(Eigen::Index(i), Eigen::Index(j)) * scale(j);
      order[i].first += x * x;
    }
  std::sort(order.begin(), order.end());
  side.places = double(places) * each / double(groups);
  side.means.resize(components);
  side.largest.resize(components);
  for (size_t j = 0; j < components; ++j)
    side.largest[j] = places ? vectors.col(Eigen::Index(j)).cwiseAbs().maxCoeff() * scale(j) : 0.0f;
  for (size_t j = 0; j < components; ++j)
    for (size_t g = 0; g < groups; ++g) {
      const size_t begin = places * g / groups, end = places * (g + 1) / groups;
      float sum = 0;
      for (size_t i = begin; i < end; ++i)
        sum += std::abs(vectors(Eigen::Index(order[i].second), Eigen::Index(j)));
      side.means[j][g] = end > begin ? sum * scale(j) / float(end - begin) : 0.0f;
    }
  return side;
}

int32_t rounded(double x) {
  const double magnitude = std::min(std::floor(std::abs(x) + 0.4), double(most_factor));
  return int32_t(x < 0 ? -magnitude : magnitude);
}

}  // namespace

namespace {

/// Sums of squares of lines and of columns. Of a large matrix, those of some lines stand for all.
void measure_energies(const LineSource& lines, std::vector<double>& of_lines,
                      std::vector<double>& of_columns) {
  constexpr size_t lanes = 8, most_measured = size_t(1) << 22;
  const size_t group = lines.group(), groups = lines.lines() / group, width = lines.columns();
  const size_t every = std::max<size_t>(1, lines.lines() * width / most_measured);
  of_columns.assign(width, 0.0);
  LineSource::Scratch scratch;
  for (size_t g = 0; g < groups; g += every) {
    const float* values = lines.read(g * group, group, scratch);
    for (size_t i = 0; i < group; ++i, values += width) {
      double sums[lanes] = {};
      size_t c = 0;
      for (; c + lanes <= width; c += lanes)
        for (size_t l = 0; l < lanes; ++l) {
          const double square = double(values[c + l]) * double(values[c + l]);
          sums[l] += square;
          of_columns[c + l] += square;
        }
      for (; c < width; ++c) {
        const double square = double(values[c]) * double(values[c]);
        sums[0] += square;
        of_columns[c] += square;
      }
      double sum = 0;
      for (const double of_lane : sums) sum += of_lane;
      of_lines.push_back(sum);
    }
  }
}

}  // namespace

/// Of a part with several times as many elements, about as many tell which directions there may be.
constexpr size_t sampled_elements = size_t(1) << 19;

FactorBasis make_basis(const LineSource& lines, const SubspaceOptions& options, double step, double lambda,
                       BasisRoom& room) {
  FactorBasis basis;
  SubspaceOptions scaled = options;
  const size_t every = options.sparing ? std::min(lines.lines() * lines.columns() / sampled_elements,
                                                  lines.lines() / (2 * options.rank))
                                       : 1;
  const bool sampled = every > 1;
  if (sampled) {
    some_groups(lines, every, false, room.some);
    some_groups(lines, every, true, room.others);
  }
  const MatrixLines some_lines(room.some, lines.columns()), other_lines(room.others, lines.columns());
  basis.sampled = sampled;
  if (sampled) {
    scaled.sample = &some_lines;
    scaled.judge = &other_lines;
  }
  std::vector<double> of_lines, of_columns;
  measure_energies(sampled ? other_lines : lines, of_lines, of_columns);
  for (const double e : of_lines) basis.energy += e;
  if (!of_lines.empty()) basis.energy *= double(lines.lines()) / double(of_lines.size());
  basis.line_shares = shares_of(std::move(of_lines));
  basis.column_shares = shares_of(std::move(of_columns));
  scaled.scale =
      near_one(std::sqrt(basis.energy / double(std::max<size_t>(lines.lines() * lines.columns(), 1))));
  const auto set = [&](const Subspace& found) {
    basis.subspace = found;
    basis.lines = side_of(found.left, &found.singular, double(lines.lines()) / double(found.left.rows()));
    basis.columns = side_of(found.right, nullptr, 1);
  };
  scaled.useful = [&](const Subspace& found) {
    set(found);
    return useful_directions(basis, step, lambda);
  };
  set(leading_subspace(lines, scaled));
  if (sampled) basis.projection = basis.subspace.right;
  return basis;
}

namespace {

constexpr std::array<uint32_t, 4> likely_kappas = {2, 5, 8, 11};

/// Expected error + lambda bits, in step^2, of every rank from 0 on.
std::vector<double> costs_of_ranks(const FactorBasis& basis, uint32_t kappa, double step, double lambda) {
  const auto m = double(basis.subspace.right.rows()),
             n = basis.lines.places * double(std::tuple_size_v<decltype(basis.lines.means)::value_type>);
  const double square = step * step, unit = kappas16[kappa] * step / 16;
  const auto residual_cost = [&](double energy) {
    double cost = 0;
    for (double a : basis.line_shares)
      for (double b : basis.column_shares)
        cost += cost_of_variance(a * b * energy / (m * n * square), lambda);
    return cost * m * n / double(quantiles * quantiles);
  };
  double energy = basis.energy, bits = 0, noise = 0;
  std::vector<double> costs = {residual_cost(energy)};
  for (Eigen::Index j = 0; j < basis.subspace.singular.size(); ++j) {
    const double s = basis.subspace.singular[j];
    energy = std::max(energy - s * s, 0.0);
    bits +=
        bits_of_component(basis.lines, size_t(j), unit) + bits_of_component(basis.columns, size_t(j), unit);
    noise += m * unit * unit / 12;
    costs.push_back(residual_cost(energy + noise) + lambda * bits);
  }
  return costs;
}

/// The rank with the least cost, but 0; 0 where there is no other.
uint32_t best_rank(std::span<const double> costs) {
  return costs.size() > 1 ? uint32_t(std::min_element(costs.begin() + 1, costs.end()) - costs.begin()) : 0;
}

}  // namespace

std::vector<RankChoice> likely_choices(const FactorBasis& basis, double step, double lambda) {
  std::vector<RankChoice> likely;
  for (const uint32_t kappa : likely_kappas) {
    const std::vector<double> costs = costs_of_ranks(basis, kappa, step, lambda);
    if (costs.size() > 1) likely.push_back({best_rank(costs), kappa});
  }
  return likely;
}

namespace {

/// The least rank after which nothing is to be gained but what noise gains: of any rank a little more.
uint32_t useful_rank(std::span<const double> costs) {
  constexpr double nothing = 0.002, little = 0.04;  // of what all save
  constexpr double like_noise = 0.02;               // of what one of those before saves
  constexpr size_t next = 4;
  const auto best = size_t(std::min_element(costs.begin(), costs.end()) - costs.begin());
  const double all = costs[0] - costs[best];
  for (size_t j = 0; j < best; ++j) {
    const double left = costs[j] - costs[best];
    if (left <= nothing * all) return uint32_t(j);
    const size_t ahead = std::min(j + next, best);
    const double before = j > 0 ? (costs[0] - costs[j]) / double(j) : 0,
                 each = (costs[j] - costs[ahead]) / double(ahead - j);
    if (left <= little * all && each < like_noise * before) return uint32_t(j);
  }
  return uint32_t(best);
}

}  // namespace

uint32_t useful_directions(const FactorBasis& basis, double step, double lambda) {
  uint32_t most = 0;
  for (const uint32_t kappa : likely_kappas) {
    const std::vector<double> costs = costs_of_ranks(basis, kappa, step, lambda);
    most = std::max(most, basis.sampled ? useful_rank(costs) : best_rank(costs));
  }
  return most;
}

namespace {

/// Right factors, of components that are not zero, and their directions. Lines with a number beyond
/// most_factor are zeros in all directions: least squares would bend every other line to what these lack.
struct RightFactors {
  std::vector<std::vector<int32_t>> numbers;
  Eigen::MatrixXf directions;  ///< [line][component], of length 1 but for these lines
  bool any_beyond = false;
};
RightFactors right_factors(const FactorBasis& basis, const RankChoice& choice, double unit) {
  RightFactors right;
  const Subspace& from = basis.subspace;
  const Eigen::Index lines = from.left.rows(),
                     wanted = std::min<Eigen::Index>(choice.rank, from.singular.size());
  std::vector<int32_t> numbers(static_cast<size_t>(lines));
  std::vector<uint8_t> beyond(static_cast<size_t>(lines));
  for (Eigen::Index j = 0; j < wanted; ++j) {
    const double scale = from.singular[j] / unit;
    bool any = false;
    for (Eigen::Index i = 0; i < lines; ++i) {
      const double exact = scale * double(from.left(i, j));
      numbers[size_t(i)] = rounded(exact);
      any = any || numbers[size_t(i)] != 0;
      if (std::abs(exact) > double(most_factor)) beyond[size_t(i)] = 1;
    }
    if (any) right.numbers.push_back(numbers);
  }
  right.any_beyond = std::any_of(beyond.begin(), beyond.end(), [](uint8_t is) { return is != 0; });
  right.directions.resize(lines, Eigen::Index(right.numbers.size()));
  for (size_t j = 0; j < right.numbers.size(); ++j) {
    double squares = 0;
    for (int32_t q : right.numbers[j]) squares += double(q) * double(q);
    const double inverse = 1 / std::sqrt(squares);
    for (Eigen::Index i = 0; i < lines; ++i)
      right.directions(i, Eigen::Index(j)) =
          beyond[size_t(i)] ? 0.0f : float(right.numbers[j][size_t(i)] * inverse);
  }
  return right;
}

}  // namespace

namespace {

/// How many equal numbers a direction is like.
double breadth(const Eigen::VectorXf& direction) {
  double squares = 0, fourths = 0;
  for (Eigen::Index i = 0; i < direction.size(); ++i) {
    const double square = double(direction[i]) * double(direction[i]);
    squares += square;
    fourths += square * square;
  }
  return fourths > 0 ? squares * squares / fourths : 0;
}

/// Bits that the residual takes where numbers of this side are beyond the largest: what they lack there,
/// times the direction of the other side.
double bits_of_clamped(const FactorBasis::Side& side, const Eigen::MatrixXf& vectors, size_t j, double scale,
                       double unit, const Eigen::MatrixXf& other, double step) {
  const double most = unit * double(most_factor);
  if (double(side.largest[j]) <= most) return 0;
  const double places = breadth(other.col(Eigen::Index(j)));
  double bits = 0;
  for (Eigen::Index i = 0; i < vectors.rows(); ++i) {
    const double lacking = std::abs(double(vectors(i, Eigen::Index(j)))) * scale - most;
    if (lacking > 0) bits += 0.5 * places * coarse_log2(1 + lacking * lacking / (places * step * step));
  }
  return bits;
}

}  // namespace

double expected_factor_bits(const FactorBasis& basis, const RankChoice& choice, double step) {
  const double unit = kappas16[choice.kappa] * step / 16;
  const Subspace& found = basis.subspace;
  double bits = 12;
  const size_t rank = std::min<size_t>(choice.rank, basis.lines.means.size());
  for (size_t j = 0; j < rank; ++j) {
    bits += bits_of_component(basis.lines, j, unit) + bits_of_component(basis.columns, j, unit);
    bits +=
        bits_of_clamped(basis.lines, found.left, j, found.singular[Eigen::Index(j)], unit, found.right, step);
    bits += bits_of_clamped(basis.columns, found.right, j, 1, unit, found.left, step);
  }
  return bits;
}

void subtract_draft(MatrixF& lines, const FactorBasis& basis, const BasisSample& sample,
                    const RankChoice& choice, double step) {
  const auto unit = float(kappas16[choice.kappa] * step / 16);
  const Eigen::Index rank = std::min<Eigen::Index>(choice.rank, basis.subspace.singular.size());
  Eigen::MatrixXf left(sample.left.rows(), rank), right(sample.right.rows(), rank);
  const auto round_all = [](const float* from, Eigen::Index count, float scale, float* to) {
    for (Eigen::Index i = 0; i < count; ++i) {
      const float x = std::abs(from[i]) * scale;
      to[i] =
          std::copysign(std::floor(x + 0.4f), from[i]);  // numbers too large are expected_factor_bits' matter
    }
  };
  for (Eigen::Index j = 0; j < rank; ++j) {
    const auto singular = float(basis.subspace.singular[j]);
    round_all(sample.left.col(j).data(), left.rows(), singular / unit, left.col(j).data());
    round_all(sample.right.col(j).data(), right.rows(), 1 / unit, right.col(j).data());
    // The length that is left after rounding scales what least squares give the other side.
    const float both = left.col(j).dot(sample.left.col(j)), own = left.col(j).squaredNorm();
    left.col(j) *= own > 0 ? unit * (both / own) : 0.0f;
  }
  lines.noalias() -= left * right.transpose();
}

namespace {

constexpr size_t small_part = size_t(1) << 19;  ///< elements that are read again without much ado

/// The transposed lines times the directions of the right factors. Of a large part from the projection of its
/// basis: what rounding moved the directions out of it is left out, which of a residual spread over all
/// directions alike is less than rank / lines.
Eigen::MatrixXf products_of(const LineSource& lines, FactorBasis& basis, const RightFactors& right) {
  const Eigen::Index rank = right.directions.cols();
  if (right.any_beyond || Eigen::Index(lines.lines()) < 64 * rank ||
      lines.lines() * lines.columns() <= small_part)
    return transposed_times(lines, right.directions, 1);
  if (basis.projection.cols() < rank) {
    const Eigen::Index some = std::min(rank + rank / 4 + 1, basis.subspace.left.cols());
    basis.projection = transposed_times(lines, basis.subspace.left.leftCols(some), 1);
  }
  const Eigen::MatrixXd within =
      basis.subspace.left.leftCols(basis.projection.cols()).cast<double>().transpose() *
      right.directions.cast<double>();
  return basis.projection * within.cast<float>();
}

}  // namespace

std::shared_ptr<const PartFactors> make_factors(const LineSource& lines, FactorBasis& basis,
                                                const RankChoice& choice, double step) {
  fix_product_blocking();
  const double unit = kappas16[choice.kappa] * step / 16;
  const RightFactors right = right_factors(basis, choice, unit);
  if (right.numbers.empty()) return nullptr;
  const Eigen::MatrixXd wide = right.directions.cast<double>();
  Eigen::MatrixXd gram = wide.transpose() * wide;
  gram.diagonal().array() += 1e-6;  // directions that rounding made equal
  const Eigen::MatrixXf products = products_of(lines, basis, right);
  const Eigen::MatrixXd left = gram.ldlt().solve(products.transpose().cast<double>());
  auto stored = std::make_shared<PartFactors>();
  stored->kappa = choice.kappa;
  IntegerFactors& factors = stored->factors;
  factors.rows = lines.columns();
  factors.columns = lines.lines();
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

#include "lib/methods/rdoq_transform_search.hpp"

#include <tbb/parallel_for.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace jsq {
namespace {

/// So many of `total` rows, at even distances.
std::vector<uint64_t> some_rows(uint64_t total, uint64_t wanted) {
  const uint64_t count = std::clamp<uint64_t>(wanted, 1, std::max<uint64_t>(total, 1));
  std::vector<uint64_t> rows;
  for (uint64_t i = 0; i < count; ++i) rows.push_back((2 * i + 1) * total / (2 * count));
  return rows;
}

CodingCost weighted(CodingCost cost, double weight) {
  return {cost.error * weight, cost.bits * weight};
}

}  // namespace

TransformSearch::TransformSearch(const TensorPool& pool, std::span<const PoolSite> sites,
                                 const TransformSearchOptions& options)
    : pool_(pool), options_(options), sites_(sites.size()) {
  fix_product_blocking();
  std::set<std::pair<size_t, uint64_t>> known;
  for (const PoolSite& site : sites) known.emplace(site.t, site.first);
  struct Other {
    size_t t;
    uint64_t first, count;
  };
  std::vector<Other> others;
  for (size_t t = 0; t < pool.tensors().size(); ++t) {
    const PoolTensor& tensor = pool.tensors()[t];
    if (tensor.info->elements() == 0) continue;
    const TensorParts parts = tensor.layers.empty() ? parts_of(*tensor.info) : parts_of(tensor.layers);
    for (size_t p = 0; p < parts.views.size(); ++p) {
      const uint64_t count = parts.views[p].rows * parts.views[p].row_elements();
      if (count > 0 && !known.contains({t, parts.first[p]})) others.push_back({t, parts.first[p], count});
    }
  }
  parts_.resize(sites.size() + others.size());
  tbb::parallel_for(size_t(0), parts_.size(), [&](size_t j) {
    parts_[j] = j < sites.size() ? part_of(sites[j])
                                 : part_without(others[j - sites.size()].t, others[j - sites.size()].first,
                                                others[j - sites.size()].count);
  });
}

TransformSearch::Part TransformSearch::part_of(const PoolSite& site) const {
  Part part;
  const ScaleView& view = site.site.view;
  part.site = &site;
  part.inner = size_t(view.inner);
  part.matrix = view.rows >= 4;
  part.rows = some_rows(view.rows, std::max<uint64_t>(16, options_.sample / view.row_elements()));
  part.weight = double(view.rows) / double(part.rows.size());
  part.plain = part_lines(pool_, site.t, site.first, site.site, false, part.rows);
  if (site.site.takes_dct()) part.cosine = part_lines(pool_, site.t, site.first, site.site, true, part.rows);
  if (view.rows * view.row_elements() > most_factored) return part;
  const MatrixF& lines = site.site.takes_dct() ? part.cosine : part.plain;
  part.basis = part.rows.size() == view.rows
                   ? make_basis(lines, options_.subspace)
                   : make_basis(part_lines(pool_, site.t, site.first, site.site, site.site.takes_dct(),
                                           some_rows(view.rows, view.rows)),
                                options_.subspace);
  return part;
}

/// Elements without a shape, as runs.
TransformSearch::Part TransformSearch::part_without(size_t t, uint64_t first, uint64_t count) const {
  Part part;
  const uint64_t length = std::min<uint64_t>(count, 64), runs = count / length;
  const std::vector<uint64_t> rows = some_rows(runs, std::max<uint64_t>(16, options_.sample / length));
  part.weight = double(count) / double(rows.size() * length);
  part.plain.resize(Eigen::Index(rows.size()), Eigen::Index(length));
  std::vector<float> scratch;
  for (size_t i = 0; i < rows.size(); ++i) {
    const std::span<const float> run = pool_.read(t, first + rows[i] * length, size_t(length), scratch);
    std::copy(run.begin(), run.end(), part.plain.data() + i * length);
  }
  return part;
}

bool TransformSearch::has_factors() const {
  return std::any_of(parts_.begin(), parts_.end(), [](const Part& part) { return part.rank.rank > 0; });
}

CodingCost TransformSearch::plain_cost(const CodingCosts& costs, const Part& part, double step) const {
  return weighted(costs.of(part.plain, part.inner, false, part.matrix, step), part.weight);
}

CodingCost TransformSearch::plain_cost(const CodingCosts& costs, double step) const {
  std::vector<CodingCost> of_parts(parts_.size());
  tbb::parallel_for(size_t(0), parts_.size(),
                    [&](size_t j) { of_parts[j] = plain_cost(costs, parts_[j], step); });
  CodingCost total;
  for (const CodingCost& cost : of_parts) total += cost;
  return total;
}

CodingCost TransformSearch::choose(const CodingCosts& costs, double step) {
  step_ = step;
  std::vector<CodingCost> of_parts(parts_.size());
  tbb::parallel_for(size_t(0), parts_.size(), [&](size_t j) {
    of_parts[j] = j < sites_ ? choose(costs, parts_[j], step) : plain_cost(costs, parts_[j], step);
  });
  CodingCost total;
  for (const CodingCost& cost : of_parts) total += cost;
  return total;
}

CodingCost TransformSearch::with_factors(const CodingCosts& costs, const Part& part, const RankChoice& choice,
                                         double step) const {
  const DraftFactors draft = draft_factors(part.basis, choice, step);
  const bool cosine = part.cosine.size() > 0;
  MatrixF rest = cosine ? part.cosine : part.plain;
  if (rest.rows() == draft.directions.rows()) {
    rest.noalias() -= draft.directions * draft.left.transpose();
  } else {
    MatrixF directions(rest.rows(), draft.directions.cols());
    for (size_t i = 0; i < part.rows.size(); ++i)
      directions.middleRows(Eigen::Index(i * part.inner), Eigen::Index(part.inner)) =
          draft.directions.middleRows(Eigen::Index(part.rows[i] * part.inner), Eigen::Index(part.inner));
    rest.noalias() -= directions * draft.left.transpose();
  }
  CodingCost cost = weighted(costs.of(rest, part.inner, cosine, part.matrix, step), part.weight);
  cost.bits += draft.bits + (cosine ? 2 * double(part.inner) : 0);
  return cost;
}

CodingCost TransformSearch::choose(const CodingCosts& costs, Part& part, double step) const {
  const double lambda = costs.lambda();
  CodingCost best = plain_cost(costs, part, step);
  double least = best.error + lambda * best.bits;
  const RankChoice before = part.rank;
  part.rank = {};
  part.dct = false;
  if (part.cosine.size() > 0 && options_.dct_alone) {
    CodingCost cost = weighted(costs.of(part.cosine, part.inner, true, part.matrix, step), part.weight);
    cost.bits += 2 * double(part.inner);
    if (cost.error + lambda * cost.bits < least) {
      best = cost;
      least = cost.error + lambda * cost.bits;
      part.dct = true;
    }
  }
  const auto most = uint32_t(part.basis.subspace.singular.size());
  if (most == 0) return best;
  // Downhill from what the rule says and from what was chosen before.
  std::map<RankChoice, double> seen;
  double least_with = HUGE_VAL;
  RankChoice nearest;
  const auto consider = [&](uint32_t rank, int kappa) {
    const RankChoice choice{std::clamp(rank, 1u, most), uint32_t(std::clamp(kappa, 0, 13))};
    if (seen.contains(choice)) return;
    const CodingCost cost = with_factors(costs, part, choice, step);
    const double sum = seen[choice] = cost.error + lambda * cost.bits;
    if (sum < least) {
      least = sum;
      best = cost;
      part.rank = choice;
      part.dct = part.cosine.size() > 0;
    }
    if (sum >= least_with) return;
    least_with = sum;
    nearest = choice;
  };
  const RankChoice rule = choose_rank(part.basis, step, lambda);
  consider(rule.rank == 0 ? 1 : rule.rank, rule.rank == 0 ? 3 : int(rule.kappa));
  if (before.rank > 0) consider(before.rank, int(before.kappa));
  // Where factors are far from worth it, no neighbour is.
  for (RankChoice from{}; from != nearest && least_with < 1.1 * least && seen.size() < 24;) {
    from = nearest;
    const auto kappa = int(from.kappa);
    consider(2 * from.rank, kappa);
    consider((from.rank + 1) / 2, kappa);
    consider(from.rank, kappa - 3);
    consider(from.rank, kappa + 3);
    if (from != nearest) continue;
    consider(from.rank + (from.rank + 3) / 4, kappa);
    consider(from.rank - (from.rank + 3) / 5, kappa);
    consider(from.rank, kappa - 1);
    consider(from.rank, kappa + 1);
  }
  return best;
}

std::vector<TransformChoice> TransformSearch::choices() const {
  std::vector<TransformChoice> choices(sites_);
  tbb::parallel_for(size_t(0), sites_, [&](size_t j) {
    const Part& part = parts_[j];
    choices[j].dct = part.dct;
    if (part.rank.rank == 0) return;
    const ScaleView& view = part.site->site.view;
    const bool cosine = part.cosine.size() > 0;
    const MatrixF& lines = cosine ? part.cosine : part.plain;
    choices[j].factors = part.rows.size() == view.rows
                             ? make_factors(lines, part.basis, part.rank, step_)
                             : make_factors(part_lines(pool_, part.site->t, part.site->first, part.site->site,
                                                       cosine, some_rows(view.rows, view.rows)),
                                            part.basis, part.rank, step_);
  });
  return choices;
}

}  // namespace jsq

#include "lib/methods/rdoq_transform_search.hpp"

#include <tbb/parallel_for.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

namespace jsq {
namespace {

/// So many of `total` rows, at even distances.
std::vector<uint64_t> some_rows(uint64_t total, uint64_t wanted) {
  const uint64_t count = std::clamp<uint64_t>(wanted, 1, std::max<uint64_t>(total, 1));
  std::vector<uint64_t> rows;
  for (uint64_t i = 0; i < count; ++i) rows.push_back((2 * i + 1) * total / (2 * count));
  return rows;
}

/// The lines of these rows and columns.
MatrixF some_of(const MatrixF& lines, size_t inner, std::span<const uint64_t> rows,
                std::span<const uint64_t> columns) {
  MatrixF some(Eigen::Index(rows.size() * inner), Eigen::Index(columns.size()));
  float* to = some.data();
  for (const uint64_t row : rows)
    for (size_t k = 0; k < inner; ++k) {
      const float* const line = lines.row(Eigen::Index(row * inner + k)).data();
      for (const uint64_t column : columns) *to++ = line[column];
    }
  return some;
}

template <class Cost>
CodingCost sum_of(size_t parts, Cost cost) {
  std::vector<CodingCost> of_parts(parts);
  tbb::parallel_for(size_t(0), parts, [&](size_t j) { of_parts[j] = cost(j); });
  CodingCost total;
  for (const CodingCost& of_part : of_parts) total += of_part;
  return total;
}

}  // namespace

TransformSearch::TransformSearch(const TensorPool& pool, std::span<const PoolSite> sites,
                                 const TransformSearchOptions& options, double step, double lambda)
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
  Rooms rooms;
  tbb::parallel_for(size_t(0), parts_.size(), [&](size_t j) {
    parts_[j] = j < sites.size() ? part_of(sites[j], step, lambda, rooms)
                                 : part_without(others[j - sites.size()].t, others[j - sites.size()].first,
                                                others[j - sites.size()].count);
  });
}

TransformSearch::Part TransformSearch::part_of(const PoolSite& site, double step, double lambda,
                                               Rooms& rooms) const {
  Part part;
  const ScaleView& view = site.site.view;
  part.site = &site;
  part.inner = size_t(view.inner);
  part.matrix = view.rows >= 4;
  // Rows and columns are thinned out alike.
  const double share = std::min(1.0, double(options_.sample) / double(view.rows * view.row_elements()));
  const uint64_t wanted_columns = std::max<uint64_t>(16, uint64_t(double(view.columns) * std::sqrt(share)));
  part.columns = some_rows(view.columns, std::min(wanted_columns, view.columns));
  const uint64_t wanted_rows = std::max<uint64_t>(16, options_.sample / (part.columns.size() * view.inner));
  part.rows = some_rows(view.rows, std::min(wanted_rows, view.rows));
  part.rows_each = double(view.rows) / double(part.rows.size());
  part.columns_each = double(view.columns) / double(part.columns.size());
  const bool cosine = site.site.takes_dct();
  const auto some_lines = [&](bool transformed) {
    return some_of(part_lines(pool_, site.t, site.first, site.site, transformed, part.rows), part.inner,
                   some_rows(part.rows.size(), part.rows.size()), part.columns);
  };
  part.plain = some_lines(false);
  if (cosine) part.cosine = some_lines(true);
  // Factors of two or three lines say no less than the lines.
  if (std::min(view.rows * view.inner, view.columns) < 4) return part;
  if (view.rows * view.inner + view.columns > most_factored) return part;
  find_basis(part, step, lambda, rooms);
  return part;
}

PartLines TransformSearch::all_lines(const Part& part) const {
  const PoolSite& site = *part.site;
  return {pool_, site.t, site.first, site.site, site.site.takes_dct()};
}

void TransformSearch::find_basis(Part& part, double step, double lambda, Rooms& rooms) const {
  PartLines lines = all_lines(part);
  lines.keep();
  part.finest = step;
  BasisRoom room;
  rooms.try_pop(room);
  part.basis = make_basis(lines, options_.subspace, step, lambda, room);
  rooms.push(std::move(room));
  const Subspace& found = part.basis.subspace;
  BasisSample& sample = part.basis_sample;
  sample.left.resize(Eigen::Index(part.rows.size() * part.inner), found.left.cols());
  for (size_t i = 0; i < part.rows.size(); ++i)
    sample.left.middleRows(Eigen::Index(i * part.inner), Eigen::Index(part.inner)) =
        found.left.middleRows(Eigen::Index(part.rows[i] * part.inner), Eigen::Index(part.inner));
  sample.right.resize(Eigen::Index(part.columns.size()), found.right.cols());
  for (size_t c = 0; c < part.columns.size(); ++c)
    sample.right.row(Eigen::Index(c)) = found.right.row(Eigen::Index(part.columns[c]));
}

bool TransformSearch::look_further(double step, double lambda) {
  std::vector<uint8_t> found(sites_);
  Rooms rooms;
  tbb::parallel_for(size_t(0), sites_, [&](size_t j) {
    Part& part = parts_[j];
    const Eigen::VectorXd& singular = part.basis.subspace.singular;
    const ScaleView& view = part.site->site.view;
    const bool all = singular.size() == 0 || singular.size() >= Eigen::Index(options_.subspace.rank) ||
                     uint64_t(singular.size()) >= std::min(view.rows * view.inner, view.columns);
    if (all || step >= 0.8 * part.finest) return;
    if (!wants_more(useful_directions(part.basis, step, lambda), size_t(singular.size()))) return;
    const Eigen::Index before = singular.size();
    find_basis(part, step, lambda, rooms);
    found[j] = part.basis.subspace.singular.size() > before;
  });
  return std::any_of(found.begin(), found.end(), [](uint8_t more) { return more; });
}

/// Elements without a shape, as runs.
TransformSearch::Part TransformSearch::part_without(size_t t, uint64_t first, uint64_t count) const {
  Part part;
  const uint64_t length = std::min<uint64_t>(count, 64), runs = count / length;
  const std::vector<uint64_t> rows =
      some_rows(runs, std::min(runs, std::max<uint64_t>(16, options_.sample / length)));
  part.rows_each = double(count) / double(rows.size() * length);
  part.plain.resize(Eigen::Index(rows.size()), Eigen::Index(length));
  std::vector<float> scratch;
  for (size_t i = 0; i < rows.size(); ++i) {
    const std::span<const float> run = pool_.read(t, first + rows[i] * length, size_t(length), scratch);
    std::copy(run.begin(), run.end(), part.plain.data() + i * length);
  }
  return part;
}

CostSample TransformSearch::sample_of(const Part& part, const MatrixF& lines, bool frequencies) {
  return {&lines, part.inner, frequencies, part.matrix, part.rows_each, part.columns_each};
}

CodingCost TransformSearch::plain_cost(const CodingCosts& costs, const Part& part, double step,
                                       Layout& layout) {
  return costs.of(sample_of(part, part.plain, false), step, layout);
}

CodingCost TransformSearch::cosine_cost(const CodingCosts& costs, const Part& part, double step,
                                        Layout& layout) {
  CodingCost cost = costs.of(sample_of(part, part.cosine, true), step, layout);
  cost.bits += 2 * double(part.inner);
  return cost;
}

CodingCost TransformSearch::with_factors(const CodingCosts& costs, const Part& part, const RankChoice& choice,
                                         double step, Layout& layout) {
  const bool cosine = part.cosine.size() > 0;
  MatrixF rest = cosine ? part.cosine : part.plain;
  subtract_draft(rest, part.basis, part.basis_sample, choice, step);
  CodingCost cost = costs.of(sample_of(part, rest, cosine), step, layout);
  cost.bits += expected_factor_bits(part.basis, choice, step) + (cosine ? 2 * double(part.inner) : 0);
  return cost;
}

CodingCost TransformSearch::chosen_cost(const CodingCosts& costs, Part& part, double step) {
  if (part.rank.rank > 0) return with_factors(costs, part, part.rank, step, part.layout);
  if (part.dct) return cosine_cost(costs, part, step, part.layout);
  return plain_cost(costs, part, step, part.layout);
}

CodingCost TransformSearch::plain_cost(const CodingCosts& costs, double step) const {
  return sum_of(parts_.size(), [&](size_t j) {
    Layout layout;
    return plain_cost(costs, parts_[j], step, layout);
  });
}

CodingCost TransformSearch::choose(const CodingCosts& costs, double step, bool near) {
  step_ = step;
  return sum_of(parts_.size(), [&](size_t j) { return choose(costs, parts_[j], step, near); });
}

CodingCost TransformSearch::cost(const CodingCosts& costs, double step) {
  step_ = step;
  return sum_of(parts_.size(), [&](size_t j) { return chosen_cost(costs, parts_[j], step); });
}

CodingCost TransformSearch::choose(const CodingCosts& costs, Part& part, double step, bool near) const {
  const double lambda = costs.lambda();
  if (near && part.site == nullptr) return chosen_cost(costs, part, step);
  const RankChoice before = part.rank;
  Layout layout_with;
  part.rank = {};
  part.dct = false;
  part.layout.reset();
  CodingCost best = plain_cost(costs, part, step, part.layout);
  double least = best.error + lambda * best.bits;
  if (part.cosine.size() > 0 && options_.dct_alone) {
    Layout layout;
    const CodingCost cost = cosine_cost(costs, part, step, layout);
    if (cost.error + lambda * cost.bits < least) {
      best = cost;
      least = cost.error + lambda * cost.bits;
      part.dct = true;
      part.layout = layout;
    }
  }
  if (part.basis.subspace.singular.size() == 0) return best;
  const std::vector<RankChoice> likely = likely_choices(part.basis, step, lambda);
  auto most = uint32_t(part.basis.subspace.singular.size());
  if (part.basis.sampled) {
    // Directions of noise cost time, and what they save a sample hardly tells.
    const uint32_t useful = std::max(useful_directions(part.basis, step, lambda), 1u);
    if (std::any_of(likely.begin(), likely.end(), [&](const RankChoice& c) { return c.rank > useful; }))
      most = useful;
  }
  // Layouts are asked for again with every candidate, or of the one alone that is taken.
  const bool same_layout = near || options_.subspace.sparing;
  // Downhill from what the rule says, or from what was chosen before.
  std::map<RankChoice, double> seen;
  double least_with = HUGE_VAL;
  RankChoice nearest;
  const auto consider = [&](uint32_t rank, int kappa) {
    const RankChoice choice{std::clamp(rank, 1u, most),
                            std::min(uint32_t(std::max(kappa, 0)), options_.coarsest)};
    if (seen.contains(choice)) return;
    if (!same_layout) layout_with.reset();
    const CodingCost cost = with_factors(costs, part, choice, step, layout_with);
    const double sum = seen[choice] = cost.error + lambda * cost.bits;
    if (sum < least) {
      least = sum;
      best = cost;
      part.rank = choice;
      part.dct = part.cosine.size() > 0;
      part.layout = layout_with;
    }
    if (sum >= least_with) return;
    least_with = sum;
    nearest = choice;
  };
  if (near && before.rank > 0) {
    consider(before.rank, int(before.kappa));
  } else {
    for (const RankChoice& choice : likely) consider(choice.rank, int(choice.kappa));
  }
  // Where factors are far from worth it, no neighbour is.
  for (RankChoice from{}; from != nearest && least_with < 1.1 * least && seen.size() < 24;) {
    from = nearest;
    const auto kappa = int(from.kappa);
    if (!near) {
      consider(from.rank + (from.rank + 1) / 2, kappa);
      if (from == nearest) consider(from.rank - (from.rank + 2) / 3, kappa);
    }
    if (from == nearest) consider(from.rank + (from.rank + 5) / 6, kappa);
    if (from == nearest) consider(from.rank - (from.rank + 6) / 7, kappa);
    consider(nearest.rank, kappa - 1);
    if (from.kappa == nearest.kappa) consider(nearest.rank, kappa + 1);
  }
  if (near || !same_layout || part.rank.rank == 0) return best;
  layout_with.reset();
  const CodingCost cost = with_factors(costs, part, part.rank, step, layout_with);
  if (cost.error + lambda * cost.bits >= least) return best;
  part.layout = layout_with;
  return cost;
}

std::vector<TransformChoice> TransformSearch::choices() {
  std::vector<TransformChoice> choices(sites_);
  tbb::parallel_for(size_t(0), sites_, [&](size_t j) {
    Part& part = parts_[j];
    choices[j].dct = part.dct;
    if (part.rank.rank == 0) return;
    choices[j].factors = make_factors(all_lines(part), part.basis, part.rank, step_);
  });
  return choices;
}

}  // namespace jsq

#include "lib/methods/rdoq_transform_search.hpp"

#include <tbb/parallel_for.h>

#include <algorithm>
#include <cmath>

namespace jsq {

TransformSearch::TransformSearch(const TensorPool& pool, std::span<const PoolSite> sites, RdoqPool& plain,
                                 bool with_dct, const SubspaceOptions& options, MakePool make_pool)
    : pool_(pool),
      sites_(sites),
      plain_(plain),
      with_dct_(with_dct),
      make_pool_(std::move(make_pool)),
      bases_(sites.size()) {
  fix_product_blocking();
  tbb::parallel_for(size_t(0), sites.size(), [&](size_t j) {
    const ScaleView& view = sites[j].site.view;
    if (view.rows * view.row_elements() > most_factored) return;
    bases_[j] = make_basis(part_matrix(pool, sites[j].t, sites[j].first, sites[j].site), options);
  });
}

bool TransformSearch::has_factors() const {
  return std::any_of(chosen_.begin(), chosen_.end(),
                     [](const TransformChoice& choice) { return choice.factors != nullptr; });
}

/// Takes for each site the candidate if it costs less than what is chosen.
void TransformSearch::try_all(const RdoqPlan& plan, std::span<const TransformChoice> candidates,
                              std::span<const RankChoice> ranks) {
  if (std::none_of(candidates.begin(), candidates.end(),
                   [](const TransformChoice& choice) { return choice.any(); }))
    return;
  const auto coded = make_pool_(make_transforms(pool_, sites_, candidates, plan.coder.values()));
  const std::vector<std::vector<double>> costs = coded->part_costs(plan);
  for (size_t j = 0; j < sites_.size(); ++j) {
    if (!candidates[j].any()) continue;
    double bits = candidates[j].dct ? 2 * double(sites_[j].site.view.inner) : 0;
    if (candidates[j].factors) bits += factor_bits(*candidates[j].factors);
    const double cost = costs[sites_[j].t][sites_[j].site.place.second] + plan.quantizer.lambda() * bits;
    if (cost >= costs_[j]) continue;
    costs_[j] = cost;
    chosen_[j] = candidates[j];
    ranks_[j] = ranks[j];
  }
}

void TransformSearch::try_ranks(const RdoqPlan& plan, const std::function<RankChoice(size_t)>& rank_of) {
  std::vector<TransformChoice> candidates(sites_.size());
  std::vector<RankChoice> ranks(sites_.size());
  tbb::parallel_for(size_t(0), sites_.size(), [&](size_t j) {
    ranks[j] = rank_of(j);
    if (ranks[j].rank == 0) return;
    const PoolSite& place = sites_[j];
    candidates[j].factors = make_factors(part_matrix(pool_, place.t, place.first, place.site), bases_[j],
                                         ranks[j], plan.coder.values().step());
    candidates[j].dct = candidates[j].factors && place.site.takes_dct();
  });
  try_all(plan, candidates, ranks);
}

std::vector<TransformChoice> TransformSearch::choose(const RdoqPlan& plan) {
  const double step = plan.coder.values().step(), lambda = plan.quantizer.lambda();
  chosen_.assign(sites_.size(), {});
  ranks_.assign(sites_.size(), {});
  const std::vector<std::vector<double>> without = plain_.part_costs(plan);
  costs_.clear();
  for (const PoolSite& site : sites_) costs_.push_back(without[site.t][site.site.place.second]);
  if (with_dct_) {
    std::vector<TransformChoice> cosines(sites_.size());
    for (size_t j = 0; j < sites_.size(); ++j) cosines[j].dct = sites_[j].site.takes_dct();
    try_all(plan, cosines, ranks_);
  }
  std::vector<RankChoice> rule(sites_.size());
  for (size_t j = 0; j < sites_.size(); ++j)
    if (bases_[j].energy > 0) rule[j] = choose_rank(bases_[j], step, lambda);
  try_ranks(plan, [&](size_t j) { return rule[j]; });
  const auto near = [&](size_t j, uint32_t rank, int kappa) {
    const auto most = uint32_t(bases_[j].subspace.singular.size());
    return RankChoice{std::min(rank, most), uint32_t(std::clamp(kappa, 0, 12))};
  };
  // Where the rule sees no use for factors, a single direction may have one.
  try_ranks(plan, [&](size_t j) {
    return rule[j].rank == 0 ? near(j, 1, 3) : near(j, 2 * rule[j].rank, int(rule[j].kappa));
  });
  try_ranks(plan, [&](size_t j) { return near(j, (rule[j].rank + 1) / 2, int(rule[j].kappa)); });
  for (const int change : {-4, 4, -2, 2})
    try_ranks(plan, [&](size_t j) {
      const RankChoice& base = ranks_[j].rank ? ranks_[j] : rule[j];
      return near(j, base.rank, int(base.kappa) + change);
    });
  return chosen_;
}

}  // namespace jsq

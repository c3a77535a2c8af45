// Which part of a pool takes which transform: trial codings under given tables, around what a closed rule
// says of ranks.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "lib/methods/rdoq_factors.hpp"
#include "lib/methods/rdoq_pool.hpp"
#include "lib/methods/rdoq_stage.hpp"

namespace jsq {

class TransformSearch {
 public:
  using MakePool = std::function<std::unique_ptr<RdoqPool>(Transforms)>;
  /// `plain`: the pool without transforms. What is given outlives the search.
  TransformSearch(const TensorPool& pool, std::span<const PoolSite> sites, RdoqPool& plain, bool with_dct,
                  const SubspaceOptions& options, MakePool make_pool);

  /// For every site what has the least error + lambda bits under the plan; factors are in units of its step.
  std::vector<TransformChoice> choose(const RdoqPlan& plan);
  bool has_factors() const;

 private:
  void try_all(const RdoqPlan& plan, std::span<const TransformChoice> candidates,
               std::span<const RankChoice> ranks);
  void try_ranks(const RdoqPlan& plan, const std::function<RankChoice(size_t)>& rank_of);

  const TensorPool& pool_;
  std::span<const PoolSite> sites_;
  RdoqPool& plain_;
  bool with_dct_;
  MakePool make_pool_;
  std::vector<FactorBasis> bases_;
  std::vector<TransformChoice> chosen_;
  std::vector<RankChoice> ranks_;
  std::vector<double> costs_;
};

}  // namespace jsq

// Which part of a pool takes which transform, at which step: estimates of what each would cost under given
// tables, from rows of each part that are held in memory.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "lib/methods/rdoq_estimates.hpp"
#include "lib/methods/rdoq_factors.hpp"
#include "lib/methods/rdoq_stage.hpp"

namespace jsq {

struct TransformSearchOptions {
  bool dct_alone = true;  ///< whether kernels may take the cosine transform without factors
  SubspaceOptions subspace;
  uint64_t sample = uint64_t(1) << 16;  ///< elements of a part that estimates look at
};

class TransformSearch {
 public:
  /// Reads every part once. What is given outlives the search.
  TransformSearch(const TensorPool& pool, std::span<const PoolSite> sites,
                  const TransformSearchOptions& options);

  /// What all parts cost without transforms.
  CodingCost plain_cost(const CodingCosts& costs, double step) const;
  /// Chooses for every site what has the least error + lambda bits at this step, near what was chosen before;
  /// returns what all parts cost then. The same for any number of threads.
  CodingCost choose(const CodingCosts& costs, double step);
  bool has_factors() const;
  /// The last choices, with factors in kappas of the step they were made for.
  std::vector<TransformChoice> choices() const;

 private:
  struct Part {
    const PoolSite* site = nullptr;  ///< null: no transform
    size_t inner = 1;
    bool matrix = false;         ///< whether columns have scales
    double weight = 1;           ///< rows for each that is looked at
    std::vector<uint64_t> rows;  ///< those that are
    MatrixF plain, cosine;       ///< their lines; `cosine` is empty where there is none
    FactorBasis basis;
    bool dct = false;
    RankChoice rank;
  };
  Part part_of(const PoolSite& site) const;
  Part part_without(size_t t, uint64_t first, uint64_t count) const;
  CodingCost plain_cost(const CodingCosts& costs, const Part& part, double step) const;
  CodingCost choose(const CodingCosts& costs, Part& part, double step) const;
  CodingCost with_factors(const CodingCosts& costs, const Part& part, const RankChoice& choice,
                          double step) const;

  const TensorPool& pool_;
  TransformSearchOptions options_;
  std::vector<Part> parts_;  ///< sites in their order, then the others
  size_t sites_;
  double step_ = 0;
};

}  // namespace jsq

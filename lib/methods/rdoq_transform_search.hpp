// Which part of a pool takes which transform, at which step: estimates of what each would cost under given
// tables, from rows of each part that are held in memory.
#pragma once

#include <tbb/concurrent_queue.h>

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
  uint64_t sample = uint64_t(1) << 13;  ///< elements of a part that estimates look at
  uint32_t coarsest = 13;               ///< kappa of factors; the step may become finer by what is left to 15
};

class TransformSearch {
 public:
  /// Reads every part once. Factors are looked for as far as they pay at `step` and this weight of a bit.
  /// What is given outlives the search.
  TransformSearch(const TensorPool& pool, std::span<const PoolSite> sites,
                  const TransformSearchOptions& options, double step, double lambda);

  /// What all parts cost without transforms.
  CodingCost plain_cost(const CodingCosts& costs, double step) const;
  /// Chooses for every site what has the least error + lambda bits at this step; near what was chosen before,
  /// where `near` says so. Returns what all parts cost then. The same for any number of threads.
  CodingCost choose(const CodingCosts& costs, double step, bool near);
  /// Looks for more directions where they pay at this step and did not at the one before; whether any were
  /// found, which the next choice takes into account.
  bool look_further(double step, double lambda);
  /// What all parts cost with the last choices.
  CodingCost cost(const CodingCosts& costs, double step);
  /// The last choices, with factors in kappas of the step that was asked for last.
  std::vector<TransformChoice> choices();

 private:
  using Layout = std::optional<ScaleLayout>;
  struct Part {
    const PoolSite* site = nullptr;  ///< null: no transform
    size_t inner = 1;
    bool matrix = false;  ///< whether columns have scales
    double rows_each = 1, columns_each = 1;
    MatrixF plain, cosine;                ///< some rows and columns; `cosine` is empty where there is none
    std::vector<uint64_t> rows, columns;  ///< which these are
    double finest = 0;                    ///< the step for which directions were looked for
    FactorBasis basis;
    BasisSample basis_sample;
    bool dct = false;
    RankChoice rank;
    Layout layout;  ///< of what was chosen
  };
  using Rooms = tbb::concurrent_queue<BasisRoom>;
  Part part_of(const PoolSite& site, double step, double lambda, Rooms& rooms) const;
  void find_basis(Part& part, double step, double lambda, Rooms& rooms) const;
  PartLines all_lines(const Part& part) const;
  Part part_without(size_t t, uint64_t first, uint64_t count) const;
  static CostSample sample_of(const Part& part, const MatrixF& lines, bool frequencies);
  static CodingCost plain_cost(const CodingCosts& costs, const Part& part, double step, Layout& layout);
  static CodingCost cosine_cost(const CodingCosts& costs, const Part& part, double step, Layout& layout);
  static CodingCost with_factors(const CodingCosts& costs, const Part& part, const RankChoice& choice,
                                 double step, Layout& layout);
  static CodingCost chosen_cost(const CodingCosts& costs, Part& part, double step);
  CodingCost choose(const CodingCosts& costs, Part& part, double step, bool near) const;

  const TensorPool& pool_;
  TransformSearchOptions options_;
  std::vector<Part> parts_;  ///< sites in their order, then the others
  size_t sites_;
  double step_ = 0;
};

}  // namespace jsq

// Low-rank predictions for rdoq's parts: a basis of each matrix, a rank and a unit of factors by a closed
// rule, and the integer factors themselves.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "lib/core/pool.hpp"
#include "lib/methods/rdoq_transforms.hpp"
#include "lib/transforms/subspace.hpp"

namespace jsq {

/// Where a part's factors come from.
struct FactorBasis {
  Subspace subspace;
  size_t rows = 0;  ///< of the matrix
  double energy = 0;
  std::vector<double> row_shares,
      column_shares;  ///< quantiles of the energies of rows and columns, against their means
};

/// Parts of more elements have no factors: their matrix is held in memory.
constexpr uint64_t most_factored = uint64_t(1) << 25;

/// The part as the matrix of StoredFactors, in the cosine domain where its kernels have one. `first`: its
/// first element.
MatrixF part_matrix(const TensorPool& pool, size_t t, uint64_t first, const TransformSite& site);

FactorBasis make_basis(const MatrixF& matrix, const SubspaceOptions& options);

struct RankChoice {
  uint32_t rank = 0, kappa = 0;
};
/// The rank, at most as many as the basis has, and the unit with the least expected error + lambda bits, in
/// step^2: no trial coding.
RankChoice choose_rank(const FactorBasis& basis, double step, double lambda);

/// Integer factors for the leading directions, in units of kappa steps; null where nothing is left. The left
/// ones are the least squares of the matrix on the rounded right ones.
std::shared_ptr<const StoredFactors> make_factors(const MatrixF& matrix, const FactorBasis& basis,
                                                  const RankChoice& choice, double step);

}  // namespace jsq

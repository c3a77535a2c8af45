// Low-rank predictions for rdoq's parts: a part as lines of numbers, a basis of them, a rank and a unit of
// factors by a closed rule, and the integer factors themselves.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "kernels/cuda/kernel_lines.hpp"
#include "kernels/cuda/low_rank.hpp"
#include "lib/core/pool.hpp"
#include "lib/methods/rdoq_transforms.hpp"
#include "lib/transforms/subspace.hpp"

namespace jsq {

/// Parts with more lines and columns have no factors: these are held in memory, some dozens to a line.
constexpr uint64_t most_factored = uint64_t(1) << 18;

/// The part that begins at `first` as lines, line r inner + k with place k of row r for each column: the
/// transposed matrix of PartFactors. Of the given rows, in order.
MatrixF part_lines(const TensorPool& pool, size_t t, uint64_t first, const TransformSite& site, bool cosine,
                   std::span<const uint64_t> rows);

/// All of them, read when they are asked for. What is given outlives it.
class PartLines final : public LineSource {
 public:
  PartLines(const TensorPool& pool, size_t t, uint64_t first, const TransformSite& site, bool cosine);
  /// Brings a part with kernels into lines once, for what reads it often: on the pool's device, and in memory
  /// where there are not too many elements.
  void keep();
  const float* read(size_t first, size_t count, Scratch& scratch) const override;
  /// A matrix of a pool that is on a device, or kernels that found room there as lines.
  bool is_on_device() const override;
  void times_on_device(cpu::ThinFactor<const float> factor, cpu::ThinFactor<double> sums) const override;
  void transposed_times_on_device(cpu::ThinFactor<const float> weights,
                                  cpu::ThinFactor<double> sums) const override;

 private:
  void copy(size_t first, size_t count, Scratch& scratch, float* to) const;
  void lay_out_on_device();

  const TensorPool& pool_;
  size_t t_;
  uint64_t first_;
  const ScaleView& view_;
  std::optional<KernelDct> dct_;
  MatrixF kept_;
  cuda::StoredRuns runs_;        ///< the lines on a device
  cuda::KernelLines on_device_;  ///< of kernels
};

/// Where a part's factors come from.
struct FactorBasis {
  Subspace subspace;     ///< of its lines
  bool sampled = false;  ///< whether some of the lines told which directions there may be
  double energy = 0;
  std::vector<double> line_shares,
      column_shares;  ///< quantiles of the energies of lines and columns, against their means
  /// Of one side: mean magnitudes of every component's numbers, of places in groups of like energy. What a
  /// coder takes that knows how large a number may be. And the largest one.
  struct Side {
    double places = 0;  ///< of one group
    std::vector<std::array<float, 2>> means;
    std::vector<float> largest;
  };
  Side lines, columns;
  Eigen::MatrixXf projection;  ///< the transposed lines times the leading directions of `subspace.left`
};
/// Samples of a large part while directions are sought in them; the next part may have their memory.
struct BasisRoom {
  std::vector<float> some, others;
};
/// Of at least as many directions as are useful.
FactorBasis make_basis(const LineSource& lines, const SubspaceOptions& options, double step, double lambda,
                       BasisRoom& room);

struct RankChoice {
  uint32_t rank = 0, kappa = 0;
  auto operator<=>(const RankChoice&) const = default;
};
/// For some units, the finest first, the rank with the least expected error + lambda bits, in step^2: no
/// trial coding.
std::vector<RankChoice> likely_choices(const FactorBasis& basis, double step, double lambda);
/// Directions that pay at this step, by the same rule. Of a sampled basis without those that save as little
/// as noise does.
uint32_t useful_directions(const FactorBasis& basis, double step, double lambda);
/// About what the factors take, and what the residual takes of numbers that are beyond most_factor.
double expected_factor_bits(const FactorBasis& basis, const RankChoice& choice, double step);

/// Some lines and columns of a basis.
struct BasisSample {
  Eigen::MatrixXf left,  ///< [line][component], of unit directions
      right;             ///< [column][component]
};
/// What factors predict there, about: without a second look at the part.
void subtract_draft(MatrixF& lines, const FactorBasis& basis, const BasisSample& sample,
                    const RankChoice& choice, double step);

/// Integer factors for the leading directions, in units of kappa steps; null where nothing is left. The left
/// ones are the least squares of the lines on the rounded right ones; of many lines, nearly so, from the
/// basis' projection, which is made when it is first asked for.
std::shared_ptr<const PartFactors> make_factors(const LineSource& lines, FactorBasis& basis,
                                                const RankChoice& choice, double step);

}  // namespace jsq

// What PowerSGD and ACP-SGD share: tensors as matrices, two thin factors of each, and frames that hold them.
// A matrix M has n = shape[0] rows and m = the rest of the shape columns, M ~ sum_k p_k q_k^T. One factor is
// orthonormal (the basis), the other one is M or M^T times it.
//
// Storage decides what lies where: a tensor in C order is stored row by row, one in Fortran order column by
// column (its columns are numbered as Fortran numbers the other axes). The factor along the stored runs, the
// inner one, stands in the parameters; a block of 65,536 elements holds those rows of the other one, the
// outer, that its elements touch, so a run that two blocks share has its row in both.
//
// Factors grow column by column: column k does not depend on how many follow, so a search for a rank computes
// each column once. M is read in stretches and never held; memory is O(r (n + m)).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lib/methods/dense.hpp"
#include "lib/methods/scheme.hpp"

namespace jsq {

/// A tensor of two or more dimensions as a matrix.
struct MatrixView {
  uint64_t rows = 0;        ///< n
  uint64_t columns = 0;     ///< m
  bool by_columns = false;  ///< stored column by column

  uint64_t outer() const { return by_columns ? columns : rows; }  ///< stored runs
  uint64_t inner() const { return by_columns ? rows : columns; }  ///< elements of a run
};
/// Nothing for tensors with fewer than two dimensions or without elements.
std::optional<MatrixView> matrix_view(const TensorInfo& info);

/// The numbers are those of the wire format.
enum class FactorType : uint8_t { f32 = 0, f16 = 1 };
constexpr std::pair<std::string_view, FactorType> factor_names[] = {{"f32", FactorType::f32},
                                                                    {"f16", FactorType::f16}};

enum class LowRankAlgorithm : uint8_t {
  powersgd,  ///< P = orth(M Q), Q = M^T P, `iterations` times
  acpsgd,    ///< even steps Q = orth(Q), P = M Q; odd steps P = orth(P), Q = M^T P
};

struct LowRankPlan {
  LowRankAlgorithm algorithm = LowRankAlgorithm::powersgd;
  uint32_t wire_id = 0;
  FactorType factor = FactorType::f32;
  unsigned iterations = 1;
  /// A matrix goes dense unless its factors take this many times fewer bytes than its elements as f32.
  double dense_below = 1;
  std::optional<uint64_t> rank;  ///< empty: what the target says
  uint64_t native_rank = 1;
};

/// The rank is the size. A tensor's own is min(rank, n, m).
class LowRankScheme final : public Scheme {
 public:
  LowRankScheme(const TensorPool& pool, const LowRankPlan& plan, const EncoderContext& context);
  ~LowRankScheme() override;
  SizeRange sizes() const override;
  void set_size(uint64_t rank, bool draft) override;
  StoredSet stored_set(size_t t) const override;
  void encode(size_t t, const BlockPlace& place, std::span<const float> values, std::string& out,
              std::span<float> decoded, BlockSums& sums) const override;
  std::unique_ptr<DeviceBlocks> encode_on_device(const TensorPool& pool) const override;
  bool drafts() const override { return false; }
  bool deterministic() const override { return true; }
  void describe(PoolReport& report) const override;
  void save(State& state) const override;

 private:
  struct Tensor;
  bool goes_dense(const Tensor& tensor, uint64_t rank) const;
  /// Appends the block of `count` elements of a tensor that goes as factors. Returns its numbers, row by row;
  /// none where they are all zeros and nothing is appended.
  std::vector<float> pack(size_t t, uint64_t first, size_t count, std::string& out, BlockSums& sums) const;

  const TensorPool& pool_;
  LowRankPlan plan_;
  EncoderContext context_;
  std::vector<std::unique_ptr<Tensor>> tensors_;
  uint64_t rank_ = 0;
};

/// Options that both methods have, into `plan`.
LowRankPlan low_rank_plan(const MethodSpec& spec, LowRankPlan plan);

/// Decoder of both methods. `name` is the method's.
std::unique_ptr<MethodDecoder> make_low_rank_decoder(std::string_view name, std::string_view parameters,
                                                     std::string_view what);

/// Column `column` of a start factor with `length` rows: numbers that are nearly N(0, 1), each the sum of the
/// twelve 16-bit halves of 6 random words (RandomPurpose::start, elements 6 (column length + i) .. + 5), less
/// 6 x 65535, times 2^-16. The same on every machine.
void start_column(uint64_t seed, uint32_t tensor, uint64_t column, std::span<double> numbers);

/// Orthonormal columns in double, by modified Gram-Schmidt. `columns` holds whole columns of `length`, of
/// which the first `done` are so already. A column is projected again while that takes more than half of its
/// length; one that loses all but 1e-16 of it becomes zero. Sums have eight lanes, folded by halving.
void orthonormalise(std::span<double> columns, size_t length, size_t done);

}  // namespace jsq

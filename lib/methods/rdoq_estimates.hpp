// What coding a part would cost under given tables, from its numbers alone: no pool, no stream. Scales are
// measured as they would be coded, and every number costs what a table says of its context and magnitude.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "kernels/cpu/cost_sums.hpp"
#include "lib/methods/rdoq_factors.hpp"
#include "lib/packers/context_stream.hpp"
#include "lib/packers/scale_field.hpp"
#include "lib/quantizers/rd_quantizer.hpp"

namespace jsq {

using cpu::cost_keys;
/// [class][key of a magnitude in steps]: error + lambda bits in step^2.
std::vector<float> make_row_costs(const ContextCoder& coder, const RdQuantizer& quantizer);

/// Error in step^2, and bits.
struct CodingCost {
  double error = 0, bits = 0;
  CodingCost& operator+=(const CodingCost& other) {
    error += other.error;
    bits += other.bits;
    return *this;
  }
};

/// Numbers in lines, one for each row and place in a kernel, as a sample of a part.
struct CostSample {
  const MatrixF* lines = nullptr;
  size_t inner = 1;                        ///< lines that share the scale of a row
  bool frequencies = false;                ///< whether places have scales
  bool columns = false;                    ///< whether columns may have scales
  double rows_each = 1, columns_each = 1;  ///< how many rows and columns of the part each one stands for
};

class CodingCosts {
 public:
  CodingCosts(const ContextCoder& coder, const RdQuantizer& quantizer);

  double lambda() const { return lambda_; }
  /// What the part costs under the layout with the least error + lambda bits, which is put into `layout`; or
  /// under the one that is there. Tables are those of any step: contexts are relative to it.
  CodingCost of(const CostSample& sample, double step, std::optional<ScaleLayout>& layout) const;

 private:
  struct Scaled;
  double sum(const Scaled& scaled, const std::vector<float>& entries) const;
  double side_bits(const Scaled& scaled, const CostSample& sample) const;

  ContextCoder coder_;
  double lambda_ = 0;
  std::vector<float> costs_, bits_;  ///< [class][key]: error + lambda bits in step^2, and bits
};

}  // namespace jsq

// What coding a part would cost under given tables, from its numbers alone: no pool, no stream. Scales are
// measured as they would be coded, and every number costs what a table says of its context and magnitude.
#pragma once

#include <cstdint>
#include <vector>

#include "lib/methods/rdoq_factors.hpp"
#include "lib/packers/context_stream.hpp"
#include "lib/quantizers/rd_quantizer.hpp"

namespace jsq {

/// Magnitudes by sixteenths of an octave, from 2^-10 steps on.
constexpr uint32_t cost_shift = 19, cost_keys = 384;
uint32_t cost_key(float x);
/// [class][key]: error + lambda bits in step^2.
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

class CodingCosts {
 public:
  CodingCosts(const ContextCoder& coder, const RdQuantizer& quantizer);

  double lambda() const { return lambda_; }
  /// `lines` of numbers, a line for each row and place in a kernel: `inner` of them share the scale of a row.
  /// With frequencies, places have scales; with columns, columns may. Under the layout with the least error +
  /// lambda bits. Tables are those of any step: contexts are relative to it.
  CodingCost of(const MatrixF& lines, size_t inner, bool frequencies, bool columns, double step) const;

 private:
  struct Scaled;
  double sum(const std::vector<float>& table, const Scaled& scaled) const;
  double side_bits(const Scaled& scaled) const;

  ContextCoder coder_;
  double lambda_ = 0;
  std::vector<float> costs_, bits_;  ///< [class][key]
};

}  // namespace jsq

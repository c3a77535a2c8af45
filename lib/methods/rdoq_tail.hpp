// The last elements of a large pool, coded with another weight of a bit than the others, so that real bytes
// come to what is wanted.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "lib/methods/method.hpp"
#include "lib/methods/rdoq_coding.hpp"

namespace jsq {

class RdoqTail {
 public:
  using TakenBlock = MethodEncoder::TakenBlock;

  /// `taken`: all blocks, as they are under the plan in use; all of them should take `more` bytes more.
  RdoqTail(const RdoqCoding& coding, double more, std::span<const TakenBlock> taken);

  /// Whether the plan can have a tail, and what is wanted is not too much for one.
  bool possible() const { return possible_; }
  /// What the last try left to be wanted: chooses the next.
  void try_again(double more);
  /// Whether the tail takes enough bytes to change by what is wanted.
  bool suffices() const { return bytes_ >= 2 * std::abs(wanted_); }
  RdoqPlan plan() const;
  /// Number of the first block of the tail.
  size_t first() const { return first_; }

 private:
  void begin(double least);
  uint64_t elements_of(const TakenBlock& block) const;
  double lambda_for(const RdoqPlan& plan, double factor) const;
  double next() const;

  const RdoqCoding& coding_;
  bool possible_ = false;
  std::vector<TakenBlock> blocks_;  ///< all, as they were at first
  double wanted_;                   ///< bytes that all of them should take more than at first
  size_t first_ = 0;
  uint64_t begins_ = 0;  ///< pool index of its first element
  double bytes_ = 0;     ///< that the tail took at first
  double lambda_ = 0;    ///< of the last try
  /// Weights, and bytes more than at first; that of the others leads.
  std::vector<std::pair<double, double>> tries_;
};

}  // namespace jsq

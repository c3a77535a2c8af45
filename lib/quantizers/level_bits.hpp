// What levels take under the static tables of a context coder: the rate of every decision by rate and
// distortion.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "lib/packers/context_stream.hpp"

namespace jsq {

class LevelBits {
 public:
  static constexpr double uncodable = 1e9;

  LevelBits() = default;
  /// `quantizer`: 1 for the shifted one of dependent levels.
  explicit LevelBits(const ContextLevels& coder, uint32_t quantizer = 0);

  /// Bits that coding `level` >= 0 in class k takes; 64 for what class 0 does not have, `uncodable` beyond a
  /// closed table.
  double operator()(int32_t level, ContextClass k) const;

 private:
  std::vector<std::array<double, context_symbols>> symbol_bits_;  ///< of each table
  std::array<double, 32> escape_bits_{};
  std::array<ContextUse, context_classes> uses_{};
  std::vector<uint32_t> rungs_;
  uint32_t sign_bits_ = 1,
           own_sign_ = 0;  ///< a sign apart from symbols takes; 1 where only positive ones are
  std::vector<bool> closed_;
};

}  // namespace jsq

// Trellis-coded quantization with true code lengths: of all sequences of dependent levels, the one with the
// least sum of |x - value|^2 + lambda bits, by the algorithm of Viterbi over eight states. Of each element
// only four levels matter, the best of either parity in either quantizer. Sources: Marcellin and Fischer,
// IEEE Trans. Communications 38 (1990); Schwarz et al., DCC 2019.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "lib/quantizers/level_bits.hpp"

namespace jsq {

class TrellisQuantizer {
 public:
  TrellisQuantizer() = default;
  /// `lambda` in step^2 a bit; `finer` is that of the first elements of a range.  \pre the coder's model is
  /// dependent
  TrellisQuantizer(const ContextCoder& coder, double lambda, double finer = 0);

  /// Appends the levels of one range, the state before it being 0: elements that are not zero or whose class
  /// has raw bits. The first `first_finer` elements take the finer weight of a bit. Returns the sum of error
  /// + lambda bits in step^2. Deterministic; 17 bytes and about 50 ns an element.
  double quantize(std::span<const float> values, std::span<const ContextClass> classes, size_t first_finer,
                  ActiveLevels& active) const;

  double lambda() const { return lambda_; }
  double bits(uint32_t quantizer, int32_t level, ContextClass k) const { return bits_[quantizer](level, k); }

 private:
  static constexpr int32_t known_levels = 18;
  struct Known {
    std::array<double, known_levels> value, bits;
  };
  struct Choice {
    double cost;
    int32_t level;
  };
  double value(uint32_t quantizer, int32_t level, ContextClass k) const;
  double length(uint32_t quantizer, int32_t level, ContextClass k) const;
  Choice best_of(uint32_t quantizer, int32_t parity, double x, ContextClass k, double lambda) const;

  double lambda_ = 0, finer_ = 0, inverse_step_ = 0;
  std::array<LevelBits, 2> bits_;
  Reconstruction values_;
  std::array<ContextUse, context_classes> uses_{};
  std::array<std::vector<Known>, 2> known_;                     ///< [quantizer][class]
  std::array<std::array<int32_t, context_classes>, 2> most_{};  ///< [quantizer][class]: the largest level
};

}  // namespace jsq

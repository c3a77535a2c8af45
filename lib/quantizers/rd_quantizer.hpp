// Rate-distortion optimised quantization with static code lengths: of each context, the thresholds at which
// the level with the least |x - value|^2 + lambda bits changes. Since code lengths do not depend on
// neighbours, the lower envelope of these parabolas is the exact optimum, and choosing a level costs one
// comparison for most elements.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cpu/context_levels.hpp"
#include "lib/packers/context_stream.hpp"
#include "lib/quantizers/level_bits.hpp"

namespace jsq {

class RdQuantizer {
 public:
  RdQuantizer() = default;
  /// `lambda` in step^2 a bit. Deterministic: integer code lengths, + - * / in double.
  RdQuantizer(const ContextLevels& coder, double lambda);

  /// Level of x = |g| / step, x >= 0, in class k.
  int32_t level(float x, ContextClass k) const {
    const Cells& cells = cells_[k];
    if (!(x >= cells.start[1])) return 0;
    return above(x, cells);
  }
  /// Appends the elements from `first` on whose level is not 0, or whose class has raw bits: positions,
  /// ascending, and signed levels.
  void quantize(std::span<const float> values, std::span<const ContextClass> classes, size_t first,
                ActiveLevels& active) const;
  /// The decisions as cells of every class, with the values that `values` gives to levels. What has no symbol
  /// of its own, or raw bits beside it, lies beyond the cells' limits.
  std::vector<cpu::LevelCells> level_cells(const ContextCoder& values) const;
  /// Symbol ids and values of all elements, by this quantizer's cells, where levels have symbols of their
  /// own, with those of zero for others, which are appended to `active`. Returns whether any level is not 0.
  bool quantize(std::span<const float> values, std::span<const ContextClass> classes,
                std::span<const cpu::LevelCells> cells, std::span<uint16_t> ids, std::span<float> decoded,
                size_t first, ActiveLevels& active) const;
  /// Bits that coding `level` >= 0 in class k takes.
  double bits(int32_t level, ContextClass k) const { return bits_(level, k); }
  double lambda() const { return lambda_; }

 private:
  static constexpr size_t most_cells = 28;
  static constexpr uint32_t lookup_scale = 8, lookup_cells = 64;  ///< x in eighths, below 8
  struct Cells {
    std::array<float, most_cells>
        start;  ///< start[j]: the least x of cell j; start[0] = 0, infinite beyond the last
    std::array<int32_t, most_cells> level;
    uint32_t count = 1;
    std::array<uint8_t, lookup_cells> cell_at;  ///< the cell of x = i / lookup_scale
    float round = 0.5f;                         ///< what is added before truncation beyond the cells
    bool unbounded = false;                     ///< larger levels than the last cell's exist
  };
  static int32_t above(float x, const Cells& cells);
  /// Signed level of an element.
  int32_t level_of(float value, ContextClass k) const;
  void make_cells(const ContextLevels& coder, ContextClass k);

  double lambda_ = 0;
  float inverse_step_ = 0;
  std::vector<Cells> cells_;        ///< of each class
  std::array<float, 256> first_{};  ///< of each class: the least x that is looked at
  LevelBits bits_;
  std::array<ContextUse, context_classes> uses_{};
  std::array<uint32_t, context_classes> rungs_{};
};

}  // namespace jsq

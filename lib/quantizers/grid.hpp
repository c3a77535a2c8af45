// The grids that dithering methods round to: values of one scale -> levels -> values, whole arrays at a time.
// Element mathematics is kernels/element/{dither,natural,grid}.hpp.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/cpu/dither.hpp"
#include "kernels/element/grid.hpp"
#include "lib/packers/levels.hpp"

namespace jsq {

using element::GridKind;

struct Grid {
  GridKind kind = GridKind::uniform;
  uint32_t steps = 1;                ///< of all grids but the natural one
  element::ExponentRange exponents;  ///< of the natural grid
  uint32_t workers = 1;  ///< whose messages may be added: the range of uniform grids leaves them room

  element::GridRule rule() const { return {kind, steps, workers, exponents}; }
  LevelRange range() const;
  /// Whether level 0 is zero whatever the scale.
  bool has_zero() const { return kind != GridKind::exponential_pairs; }
  /// Levels of values on the grid of one scale; `uniforms` empty: nearest. Returns the expected squared
  /// error, 0 where it is not asked for.
  double quantize(std::span<const float> values, float scale, std::span<const float> uniforms,
                  std::span<int32_t> levels, cpu::Expected expected = cpu::Expected::error) const;
  /// Whether quantize_by_words() knows the grid, which takes less time.
  bool takes_words() const {
    return kind == GridKind::natural && exponents.lowest == element::lowest_normal_exponent;
  }
  /// The same levels from the random words that uniforms are made of.  \pre takes_words()
  void quantize_by_words(std::span<const float> values, std::span<const uint32_t> words,
                         std::span<int32_t> levels) const;
  /// What the levels stand for; never beyond the largest finite number.
  void dequantize(std::span<const int32_t> levels, float scale, std::span<float> values) const;
};

}  // namespace jsq

// The grids that dithering methods round to: values of one scale -> levels -> values, whole arrays at a time.
// Element mathematics is kernels/element/{dither,natural}.hpp.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/element/natural.hpp"
#include "lib/packers/levels.hpp"

namespace jsq {

/// The numbers are those of the wire format.
enum class GridKind : uint8_t {
  uniform = 0,             ///< scale x level / steps
  exponential = 1,         ///< scale x {0, 2^-steps, ..., 1/2, 1}
  natural = 2,             ///< 0 and the powers of two of a range of exponents, without a scale
  exponential_pairs = 3,   ///< scale x {+-2^-steps, ..., +-1/2, +-1}: no zero
  uniform_undivided = 4,   ///< scale x level x workers / steps: a grid that need not end at the scale
  shared_exponential = 5,  ///< scale x 2 workers x {0, 2^-steps, ..., 1/2}
};

struct Grid {
  GridKind kind = GridKind::uniform;
  uint32_t steps = 1;                ///< of all grids but the natural one
  element::ExponentRange exponents;  ///< of the natural grid
  uint32_t workers = 1;  ///< whose messages may be added: the range of uniform grids leaves them room

  LevelRange range() const;
  /// Whether level 0 is zero whatever the scale.
  bool has_zero() const { return kind != GridKind::exponential_pairs; }
  /// Levels of values on the grid of one scale; `uniforms` empty: nearest. Returns the expected squared
  /// error.
  double quantize(std::span<const float> values, float scale, std::span<const float> uniforms,
                  std::span<int32_t> levels) const;
  /// What the levels stand for; never beyond the largest finite number.
  void dequantize(std::span<const int32_t> levels, float scale, std::span<float> values) const;
};

}  // namespace jsq

// Rounding of clamped coordinates to a table of integers and back, as THC does: element loops compiled for
// every SIMD level, with the same bits at each.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/element/table_rounding.hpp"

namespace jsq::cpu {

using element::RoundingTable;
using element::TablePlacer;

/// positions[i] of coordinates[i], which becomes what clamping added to it.
void place_in_table(const TablePlacer& placer, std::span<float> coordinates, std::span<float> positions);

/// levels[i] <- the index of the entry below or above positions[i], less the middle: the upper one if
/// uniforms[i] is below the share of the way, or, with no uniforms, from half of the way on. Returns the sum
/// of the expected squared errors, or of the errors without uniforms, in sixteen lanes folded by halving.
double round_to_table(const RoundingTable& table, std::span<const float> positions,
                      std::span<const float> uniforms, std::span<int32_t> levels);

/// values[i] <- 2 entry - g of the index levels[i] + middle.
void centred_entries(const RoundingTable& table, int32_t g, std::span<const int32_t> levels,
                     std::span<float> values);

/// out[i] <- in[i] unit in double, limited to finite floats. `out` may be `in`.
void scale_finite(std::span<const float> in, double unit, std::span<float> out);

/// out[i] <- in[i] unit, with the sign of signs[i] (bit 31). `out` may be longer, and is not `in`.
void scale_with_signs(std::span<const float> in, float unit, std::span<const uint32_t> signs,
                      std::span<float> out);

/// out[i] <- in[i] unit in double, with the sign of signs[i] (bit 31). \pre |in[i] unit| < FLT_MAX; `in`
/// may be longer, and is not `out`
void scale_bounded_with_signs(std::span<const float> in, double unit, std::span<const uint32_t> signs,
                              std::span<float> out);

}  // namespace jsq::cpu

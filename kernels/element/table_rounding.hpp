// Rounding of a rotated coordinate to a table of integers and back, as THC does, element by element; and what
// the norm of a Hadamard block makes of its coordinates.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/element/bit_length.hpp"
#include "kernels/element/float_bits.hpp"
#include "kernels/element/hostdevice.hpp"

namespace jsq::element {

constexpr uint32_t table_entries = 16;
constexpr int32_t most_table_entry = 47;

/// Ascending whole numbers from 0, at most most_table_entry, none of them more than the one before it and
/// that again but for the second; none: every whole number of 0..last.
struct RoundingTable {
  float entries[table_entries] = {};
  int32_t cells[most_table_entry + 1] = {};  ///< the index of the entry below a whole number; not the last
  bool has_entries = false;
  int32_t last = 1;    ///< the last index
  int32_t middle = 0;  ///< subtracted from every index

  void set_entries(const uint8_t (&whole_numbers)[table_entries]) {
    has_entries = true;
    for (uint32_t e = 0; e < table_entries; ++e) entries[e] = float(whole_numbers[e]);
    for (int32_t whole = 0, e = 0; whole <= most_table_entry; ++whole) {
      while (e + 2 < int32_t(table_entries) && whole >= whole_numbers[e + 1]) ++e;
      cells[whole] = e;
    }
  }
};

/// Where a coordinate lies in a table: clamped to +-clamp, then 0..last.
struct TablePlacer {
  float mantissa = 1;    ///< coordinates are divided by it,
  float deviations = 1;  ///< and multiplied by this
  float clamp = 1;
  float per_deviation = 1;  ///< table units
  float last = 1;
};

/// A coordinate in deviations.
JSQ_HD float deviations_of(const TablePlacer& p, float coordinate) {
  return coordinate / p.mantissa * p.deviations;
}
JSQ_HD float clamped_deviations(const TablePlacer& p, float z) {
  const float inside = z < p.clamp ? z : p.clamp;
  return inside > -p.clamp ? inside : -p.clamp;
}
/// 0..last of a clamped coordinate.
JSQ_HD float table_position(const TablePlacer& p, float inside) {
  const float position = (inside + p.clamp) * p.per_deviation;
  return position < p.last ? position : p.last;
}

// Of a position `from` above the entry below it, which has the next one `gap` above it. Both are exact
// differences, since a position is at most twice an entry that is not 0.

/// The share of the way from one entry to the next.
JSQ_HD float table_way(float from, float gap) {
  return from / gap;
}
/// Expected squared error of going to the upper entry with the probability of the way.
JSQ_HD double table_rounding_error(float from, float gap) {
  return (double(gap) - double(from)) * double(from);
}
/// Squared error of going to `entry`.
JSQ_HD double table_distance(float position, float entry) {
  const double off = double(entry) - double(position);
  return off * off;
}

/// 2 T - g of an entry T of a table that ends at g.
JSQ_HD float centred_entry(float entry, int32_t g) {
  return 2 * entry - float(g);
}

/// g times unit in double, limited to finite floats.
JSQ_HD float scaled_finite(float g, double unit) {
  constexpr double largest = 0x1.fffffep127;
  double value = double(g) * unit;
  value = value < largest ? value : largest;
  return float(value > -largest ? value : -largest);
}

/// floor(log2(norm)).  \pre norm is positive and finite
JSQ_HD int32_t exponent_of(float norm) {
  const uint32_t key = magnitude_key(norm);
  return key >> 23 ? int32_t(key >> 23) - 127 : int32_t(bit_length(key)) - 150;
}
/// 2^exponent.  \pre -1022 <= exponent <= 1023
JSQ_HD double double_power_of_two(int32_t exponent) {
  return bits_as<double>(uint64_t(exponent + 1023) << 52);
}
/// What values are multiplied by so that their norm is from 1 to 2, exactly; 0 of the norm 0.
JSQ_HD double norm_divisor(float norm) {
  return norm > 0 ? double_power_of_two(-exponent_of(norm)) : 0.0;
}

/// What Hadamard blocks of one padded size have in common, whatever their norms N are: `spread` coordinates
/// share the norm, so that one of them deviates by N / sqrt(spread).
struct RotationShape {
  TablePlacer placer;  ///< but for the mantissa
  double spread_root;
  double share, root;  ///< an entry is worth share N / root when it is rotated back
  double entry;        ///< deviations
};
/// `clamp` deviations are spread over entries 0..g.
JSQ_HD RotationShape rotation_shape(double clamp, int32_t g, double padded, double spread) {
  RotationShape shape{};
  shape.placer.clamp = float(clamp);
  shape.placer.per_deviation = float(double(g) / (2 * clamp));
  shape.placer.last = float(g);
  shape.placer.deviations = float(std::sqrt(spread / padded));
  shape.spread_root = std::sqrt(spread);
  shape.share = clamp / double(g);
  shape.root = std::sqrt(spread * padded);
  shape.entry = 2 * clamp / g;
  return shape;
}
JSQ_HD TablePlacer table_placer(const RotationShape& shape, float norm) {
  TablePlacer placer = shape.placer;
  placer.mantissa = float(double(norm) * norm_divisor(norm));
  return placer;
}
/// What 2 T - g, rotated back, is multiplied by.
JSQ_HD double restored_unit(const RotationShape& shape, float norm) {
  return shape.share * double(norm) / shape.root;
}
/// Expected squared error of a Hadamard block of `count` elements with padding. Rounding errors are
/// independent, so the padding takes its share of their sum `rounding`; what clamping adds is one known
/// vector, whose part without padding has the squares `clamped`.
JSQ_HD double rotation_error(const RotationShape& shape, float norm, double rounding, double clamped,
                             uint32_t count, uint32_t padded) {
  const double deviation = double(norm) / shape.spread_root;
  return deviation * deviation *
         (rounding * shape.entry * shape.entry * (double(count) / double(padded)) + clamped);
}

}  // namespace jsq::element

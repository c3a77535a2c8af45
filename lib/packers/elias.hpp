// Elias' omega code (Elias, IEEE Trans. Inform. Theory 21, 1975), the recursive code of QSGD: the code of n
// >= 1 is a zero bit, before it n in binary if n > 1, before that the binary length of n less one in the same
// way, and so on. Codes, their lengths, and a reader of streams in which omega codes and plain bits
// alternate.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "kernels/cpu/bit_io.hpp"
#include "kernels/element/level_layout.hpp"

namespace jsq {

using element::omega_code;
using element::OmegaCode;

namespace elias_tables {

/// The length of a code depends on the binary length of the value alone. [0] is not used.
inline constexpr auto length_of_width = [] {
  std::array<uint8_t, 33> lengths{};
  for (uint32_t width = 1; width <= 32; ++width)
    lengths[width] = uint8_t(omega_code(uint32_t(1ull << (width - 1))).length);
  return lengths;
}();

/// Codes of the small values, which a table gives faster than the recursion.
constexpr uint32_t small_codes = 256;
struct SmallCode {
  uint16_t bits;
  uint16_t length;
};
inline constexpr auto small_code = [] {
  std::array<SmallCode, small_codes> codes{};
  for (uint32_t value = 1; value < small_codes; ++value)
    codes[value] = {uint16_t(omega_code(value).bits), uint16_t(omega_code(value).length)};
  return codes;
}();

/// What the first bits of a stream tell: a whole code, or the whole groups of a longer one.
constexpr uint32_t prefix_bits = 11;
struct Prefix {
  uint8_t value;       ///< the value; of an unfinished code the last whole group
  uint8_t length : 7;  ///< bits that these groups (and the closing zero) take
  uint8_t whole : 1;
};
inline constexpr auto prefix = [] {
  std::array<Prefix, 1u << prefix_bits> table{};
  for (uint32_t bits = 0; bits < table.size(); ++bits) {
    uint32_t value = 1, at = 0;
    bool whole = false;
    while (at < prefix_bits && !whole) {
      const uint32_t left = prefix_bits - at;
      if (!(bits >> (left - 1) & 1)) {
        whole = true;
        ++at;
      } else if (value + 1 > left) {
        break;
      } else {
        const uint32_t group = value + 1;
        value = (bits >> (left - group)) & ((1u << group) - 1);
        at += group;
      }
    }
    table[bits] = {uint8_t(value), uint8_t(at), uint8_t(whole)};
  }
  return table;
}();

}  // namespace elias_tables

/// Bits of the code of `value`.  \pre value >= 1
constexpr uint32_t omega_length(uint32_t value) {
  return elias_tables::length_of_width[uint32_t(std::bit_width(value))];
}

/// Writes the code of `value` and after it the low `count` bits of `tail`.  \pre value >= 1, count <= 16,
/// tail < 2^count
inline void put_omega(cpu::BitWriter& out, uint32_t value, uint32_t tail = 0, uint32_t count = 0) {
  if (value < elias_tables::small_codes) {
    const elias_tables::SmallCode code = elias_tables::small_code[value];
    out.put(uint32_t(code.bits) << count | tail, code.length + count);
    return;
  }
  const OmegaCode code = omega_code(value);
  const uint32_t low = code.length < 16 ? code.length : 16;
  out.put(uint32_t(code.bits >> low), code.length - low);
  out.put(uint32_t(code.bits & ((1u << low) - 1)) << count | tail, low + count);
}

/// Reads omega codes and plain bits. One refill() gives 56 bits, enough for an omega code and 13 more. Beyond
/// the end the bits are zeros; finished() tells in the end whether there was too little, too much, or padding
/// that is not zero.
class OmegaReader {
 public:
  explicit OmegaReader(std::string_view bytes)
      : begin_(bytes.data()), next_(bytes.data()), end_(bytes.data() + bytes.size()) {}

  /// Makes at least 56 bits available.
  void refill() {
    if (end_ - next_ >= 8) {
      uint64_t word;
      std::memcpy(&word, next_, 8);
      window_ |= __builtin_bswap64(word) >> available_;
      next_ += (63 - available_) >> 3;
      available_ |= 56;
      return;
    }
    refill_near_the_end();
  }
  /// The next `count` bits.  \pre count <= 32, and as many are available
  uint32_t take(uint32_t count) {
    const auto bits = uint32_t(window_ >> 1 >> (63 - count));
    skip(count);
    return bits;
  }
  /// The value of the next code; 0 if it does not fit 32 bits.  \pre 43 bits are available
  uint32_t omega() {
    const elias_tables::Prefix prefix = elias_tables::prefix[window_ >> (64 - elias_tables::prefix_bits)];
    skip(prefix.length);
    return prefix.whole ? prefix.value : finish_omega(prefix.value);
  }
  /// True when everything was read and nothing beyond it, and the last byte is padded with zero bits.
  bool finished() const {
    const auto loaded = uint64_t(next_ - begin_) + virtual_bytes_;
    const uint64_t bits = loaded * 8 - available_;
    const uint32_t padding = uint32_t(8 - bits % 8) % 8;
    if ((bits + 7) / 8 != uint64_t(end_ - begin_)) return false;
    return (window_ >> 1 >> (63 - padding)) == 0;
  }

 private:
  void skip(uint32_t count) {
    window_ <<= count;
    available_ -= count;
  }
  uint32_t finish_omega(uint32_t value) {
    while (window_ >> 63) {
      if (value > 31) return 0;
      value = take(value + 1);
    }
    skip(1);
    return value;
  }
  void refill_near_the_end() {
    while (available_ < 56) {
      uint64_t byte = 0;
      if (next_ < end_) {
        byte = uint8_t(*next_++);
      } else {
        ++virtual_bytes_;
      }
      window_ |= byte << (56 - available_);
      available_ += 8;
    }
  }
  const char* begin_;
  const char* next_;
  const char* end_;
  uint64_t window_ = 0;  ///< the next bits from the top down
  uint32_t available_ = 0;
  uint64_t virtual_bytes_ = 0;  ///< zero bytes handed out beyond the end
};

}  // namespace jsq

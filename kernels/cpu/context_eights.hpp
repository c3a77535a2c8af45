// The inner loop of decoding context streams with eight or sixteen lanes: eight elements, one a lane, in one
// vector step.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace jsq::cpu {

/// The symbols that a table has, in their order, for who finds them by comparing: where each begins, how many
/// slots it has, and which it is. Places behind the last begin behind all slots. Tables of at most `few` are
/// compared with less often than others.
struct alignas(64) ComparedSymbols {
  static constexpr size_t few = 9, most = 16;
  uint32_t start[most], frequency[most], symbol[most];
  uint32_t count = 0;  ///< most + 1 of a table that has more
};
ComparedSymbols make_compared_symbols(std::span<const uint32_t> frequencies);

/// What elements are decoded with. The table of class k is number k; above `last` it is `last`, or with
/// `alternate` that of the two last ones whose number is as even or odd as k.
struct ContextDecoding {
  const uint32_t* slots = nullptr;            ///< [table][4096]: symbol | (frequency - 1) << 5 | offset << 17
  const ComparedSymbols* compared = nullptr;  ///< [table]
  const float* values = nullptr;              ///< [class][32]: value of a symbol
  uint32_t last = 0;
  bool alternate = false;

  uint32_t table_of(uint32_t k) const { return k <= last ? k : last - (alternate ? (k - last) & 1 : 0); }
};

struct ContextDecoded {
  size_t count = 0, escapes = 0;  ///< elements decoded, escapes listed
};

/// Decodes groups of `lanes` elements (8 or 16) while a word for each of them or more is left, element i on
/// states[i mod lanes]: symbols, values, and the ascending places of the symbol 31. Advances `at`, the place
/// in `words`. Groups of class 0 alone cost nothing. The same at every SIMD level.  \pre `count` escapes are
/// writable, and one more
ContextDecoded decode_context_groups(const ContextDecoding& with, uint32_t lanes, const uint8_t* classes,
                                     size_t count, const char* words, size_t size, size_t& at,
                                     uint32_t* states, uint8_t* symbols, float* values, uint32_t* escapes);

}  // namespace jsq::cpu

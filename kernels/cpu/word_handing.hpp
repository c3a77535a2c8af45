// How eight lanes of the entropy decoder take words: each that needs one the next, in order.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace jsq::cpu {

/// For every set of lanes that take a word, the shuffle of sixteen bytes that hands them the next words;
/// zeros to the others.
inline constexpr auto word_handing = [] {
  std::array<std::array<uint8_t, 16>, 256> table{};
  for (size_t mask = 0; mask < 256; ++mask)
    for (size_t lane = 0, word = 0; lane < 8; ++lane) {
      const bool takes = mask >> lane & 1;
      table[mask][2 * lane] = uint8_t(takes ? 2 * word : 0x80);
      table[mask][2 * lane + 1] = uint8_t(takes ? 2 * word + 1 : 0x80);
      word += takes;
    }
  return table;
}();

}  // namespace jsq::cpu

// Every integer of a structure set to what a hostile file would set it to, without knowing where its integers
// are: at each byte, integers of 16, 32 and 64 bits and a uvarint take the place of what stands there.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "lib/core/bytes.hpp"

namespace jsq::test {

/// Calls use(changed) with each change of `bytes`.
template <class Use>
void for_each_hostile_field(std::string_view bytes, Use use) {
  constexpr std::array<uint64_t, 11> values = {0,
                                               1,
                                               0xffff,
                                               0xfffe,
                                               0xffffffff,
                                               0xfffffffe,
                                               UINT64_MAX,
                                               UINT64_MAX - 1,
                                               uint64_t(1) << 31,
                                               uint64_t(1) << 32,
                                               uint64_t(1) << 48};
  for (size_t at = 0; at < bytes.size(); ++at) {
    for (size_t width : {2, 4, 8}) {
      if (at + width > bytes.size()) break;
      for (uint64_t value : values) {
        if (width < 8 && value >> (8 * width) != 0) continue;
        std::string changed(bytes);
        for (size_t b = 0; b < width; ++b) changed[at + b] = char(value >> (8 * b));
        use(changed);
      }
    }
    size_t end = at;
    while (end + 1 < bytes.size() && end < at + 9 && (bytes[end] & 0x80)) ++end;
    for (uint64_t value : values) {
      ByteWriter field;
      field.uvarint(value);
      std::string changed(bytes.substr(0, at));
      changed += field.bytes();
      changed += bytes.substr(end + 1);
      use(changed);
    }
  }
}

}  // namespace jsq::test

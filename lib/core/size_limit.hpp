// What a size target allows in bytes.
#pragma once

#include <algorithm>
#include <cstdint>

#include "jsq/target.hpp"

namespace jsq {

/// For so many bytes and elements of input; 0 for a target that is no size.
inline uint64_t size_limit(const Target& target, uint64_t input_bytes, uint64_t elements) noexcept {
  // What is beyond any file stays representable, times 8 too.
  const auto whole = [](double bytes) { return uint64_t(std::min(bytes, 0x1p59)); };
  switch (target.kind) {
    case TargetKind::ratio:
      return whole(double(input_bytes) / target.value);
    case TargetKind::bpw:
      return whole(double(elements) * target.value / 8);
    case TargetKind::bytes:
      return whole(target.value);
    default:
      return 0;
  }
}

}  // namespace jsq

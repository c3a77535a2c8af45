// What the layouts of level blocks share: signs and magnitudes, and how a damaged block is refused.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "jsq/error.hpp"
#include "kernels/cpu/levels.hpp"
#include "lib/packers/levels.hpp"

namespace jsq {

// Without branches: a processor cannot guess a gradient's sign.
inline uint32_t sign_bit(int32_t level) {
  return uint32_t(level) >> 31;
}
inline uint32_t magnitude_of(int32_t level) {
  return (uint32_t(level) ^ (0u - sign_bit(level))) + sign_bit(level);
}
/// The level of a magnitude and a sign bit, for magnitudes that the range allows.
inline int32_t signed_level(uint32_t magnitude, uint32_t negative) {
  return int32_t((magnitude ^ (0u - negative)) + negative);
}

[[noreturn]] inline void damaged_levels(std::string_view what, const std::string& found) {
  throw Error(Errc::damaged, std::string(what) + " is damaged: " + found);
}

/// \throws Error damaged unless every decoded level is in the range.
inline void check_levels(std::span<const int32_t> levels, LevelRange range, std::string_view what) {
  const cpu::LevelBounds bounds = cpu::level_bounds(levels);
  if (!levels.empty() && (bounds.least < range.low || bounds.greatest > range.high))
    damaged_levels(what, "a level outside " + std::to_string(range.low) + ".." + std::to_string(range.high));
}

}  // namespace jsq

// Messages of integer levels at a fixed width, with their addition: the code domain of every method that sums
// levels.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lib/packers/levels.hpp"

namespace jsq {

/// Levels of `range`, which also holds every sum, at ceil(log2 A) bits each.
std::string pack_message(std::span<const int32_t> levels, LevelRange range);
/// \throws Error damaged for a message of another size.
std::vector<int32_t> unpack_message(std::string_view message, LevelRange range, size_t levels);
/// into <- into + from, level by level; a sum beyond the range is cut. Returns how many were.
uint64_t add_messages(std::string& into, std::string_view from, LevelRange range, size_t levels);

/// The message of one f32, reduced by its maximum: how workers agree on a scale.
std::string pack_scale(float scale);
float unpack_scale(std::string_view message);
void max_scales(std::string& into, std::string_view from);

}  // namespace jsq

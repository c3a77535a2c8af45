#include "lib/collectives/packed_levels.hpp"

#include <algorithm>
#include <cmath>

#include "lib/core/bytes.hpp"

namespace jsq {

std::string pack_message(std::span<const int32_t> levels, LevelRange range) {
  std::string message;
  pack_levels(LevelPacker::fixed, levels, range, message);
  return message;
}

std::vector<int32_t> unpack_message(std::string_view message, LevelRange range, size_t count) {
  std::vector<int32_t> levels(count);
  unpack_levels(LevelPacker::fixed, message, range, levels, "message of levels");
  return levels;
}

uint64_t add_messages(std::string& into, std::string_view from, LevelRange range, size_t count) {
  std::vector<int32_t> sums = unpack_message(into, range, count);
  const std::vector<int32_t> levels = unpack_message(from, range, count);
  uint64_t cut = 0;
  for (size_t i = 0; i < count; ++i) {
    const int64_t sum = int64_t(sums[i]) + levels[i];
    const int64_t kept = std::clamp<int64_t>(sum, range.low, range.high);
    cut += kept != sum;
    sums[i] = int32_t(kept);
  }
  into = pack_message(sums, range);
  return cut;
}

std::string pack_scale(float scale) {
  ByteWriter out;
  out.f32(scale);
  return out.take();
}

float unpack_scale(std::string_view message) {
  ByteReader in(message, "message of a scale");
  const float scale = in.magnitude("the scale");
  in.expect_end();
  return scale;
}

void max_scales(std::string& into, std::string_view from) {
  into = pack_scale(std::max(unpack_scale(into), unpack_scale(from)));
}

}  // namespace jsq

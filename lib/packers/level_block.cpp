#include "lib/packers/level_block.hpp"

#include <cmath>

#include "lib/core/bytes.hpp"
#include "lib/packers/level_histogram.hpp"

namespace jsq {

double write_level_block(std::span<const float> scales, std::span<const int32_t> levels, LevelRange range,
                         std::optional<LevelPacker> packer, std::string& out) {
  static thread_local LevelHistogram histogram;
  histogram.count(levels);
  ByteWriter head;
  const LevelPacker chosen = packer ? *packer : smallest_packer(levels, histogram, range);
  head.u8(uint8_t(chosen));
  for (float scale : scales) head.f32(scale);
  out.append(head.bytes());
  pack_levels(chosen, levels, histogram, range, out);
  return histogram.entropy_bits();
}

void read_level_block(std::string_view block, LevelRange range, std::span<float> scales,
                      std::span<int32_t> levels, std::string_view what) {
  ByteReader in(block, what);
  const uint8_t packer = in.u8();
  if (packer >= level_packers || !packer_allows(LevelPacker(packer), range))
    in.damaged("level packer " + std::to_string(packer) + " is unknown or does not suit the levels");
  for (float& scale : scales) scale = in.magnitude("a scale");
  unpack_levels(LevelPacker(packer), in.raw(in.remaining()), range, levels, what);
}

}  // namespace jsq

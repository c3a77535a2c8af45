#include "lib/packers/level_device.hpp"

#include <algorithm>

#include "jsq/error.hpp"
#include "lib/packers/entropy_levels.hpp"

namespace jsq {
namespace {

constexpr uint64_t most_varint_bytes = 10;

}  // namespace

cuda::LevelLayout level_layout(const LevelHistogram& histogram, LevelRange range,
                               std::optional<LevelPacker> packer, uint64_t gap_bits, size_t scales) {
  cuda::LevelLayout layout;
  layout.packer = packer ? *packer : smallest_packer(histogram, range, gap_bits);
  layout.signs = range.low < 0 && range.high > 0;
  layout.width = fixed_level_bits(range);
  layout.most_bytes = 1 + sizeof(float) * scales;
  if (layout.packer != LevelPacker::entropy) {
    layout.most_bytes += packed_level_bytes(layout.packer, histogram, range, gap_bits);
    return layout;
  }
  EntropyLevelPlan plan = plan_entropy_levels(histogram, range);
  layout.scheme = plan.scheme;
  layout.lanes = plan.lanes;
  layout.most_words = plan.most_words;
  std::copy(plan.symbols.begin(), plan.symbols.end(), layout.symbols);
  layout.most_bytes += plan.head.size() + (plan.raw_bits + 7) / 8;
  if (plan.lanes > 0)
    layout.most_bytes +=
        most_varint_bytes + sizeof(uint32_t) * plan.lanes + sizeof(uint16_t) * plan.most_words;
  layout.head = std::move(plan.head);
  return layout;
}

BlockSums error_block_sums(const cuda::LevelSums& found) {
  BlockSums sums;
  sums.squared_error = found.squared_error;
  sums.dot = found.dot;
  sums.decoded_energy = found.decoded_energy;
  sums.error_sum = found.error_sum;
  sums.max_error = found.max_error;
  return sums;
}

void read_level_head(std::string_view block, LevelRange range, size_t scales,
                     cuda::LevelDecoder::Block& head) {
  head.sound = false;
  const size_t scale_bytes = sizeof(float) * scales;
  if (block.size() < 1 + scale_bytes) return;
  const auto packer = uint8_t(block[0]);
  if (packer >= level_packers || !packer_allows(LevelPacker(packer), range)) return;
  head.packer = LevelPacker(packer);
  head.width = fixed_level_bits(range);
  head.scales_at = 1;
  head.levels_at = uint32_t(1 + scale_bytes);
  if (head.packer == LevelPacker::entropy) {
    try {
      const EntropyLevelHead parts = read_entropy_level_head(block.substr(head.levels_at), "the block");
      head.scheme = parts.scheme;
      head.lanes = parts.lanes;
      head.token = parts.token;
      head.stream_bytes = uint32_t(parts.stream_bytes);
      head.levels_at += uint32_t(parts.stream_at);
      std::copy(parts.frequencies.begin(), parts.frequencies.end(), head.frequencies);
    } catch (const Error&) {
      return;  // the processor's decoder tells what is wrong
    }
  }
  head.sound = true;
}

}  // namespace jsq

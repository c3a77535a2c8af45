// Level blocks on the device: layouts chosen by what the device counted, heads read before it unpacks.
#pragma once

#include <optional>
#include <string_view>

#include "kernels/cuda/levels.hpp"
#include "lib/core/block_sums.hpp"
#include "lib/packers/level_histogram.hpp"
#include "lib/packers/levels.hpp"

namespace jsq {

/// The layout of a block with `scales` scales, as write_level_block would choose it. `packer` empty: the
/// smallest.
cuda::LevelLayout level_layout(const LevelHistogram& histogram, LevelRange range,
                               std::optional<LevelPacker> packer, uint64_t gap_bits, size_t scales);

/// Errors of decoded values as sums of a block, without those of other kinds.
BlockSums error_block_sums(const cuda::LevelSums& found);

/// Reads the head of the block that lies at `offset` of all bytes; `sound` is false where it cannot be right.
/// \pre block.count is set
void read_level_head(std::string_view block, LevelRange range, size_t scales,
                     cuda::LevelDecoder::Block& head);

}  // namespace jsq

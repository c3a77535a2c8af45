// The packers of quantization levels: one block of small signed integers -> bytes, and back. Fixed width,
// five trits a byte, QSGD's two Elias layouts, and an entropy coder with a table of the block's own. SPEC.md,
// "Level blocks", defines the bytes; what a level stands for (scales, grids) is the method's matter and not
// stored here.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "kernels/element/level_layout.hpp"

namespace jsq {

class LevelHistogram;

using element::level_packers;
using element::LevelPacker;

/// The levels that may occur: A = high - low + 1 of them.  \pre low <= high
struct LevelRange {
  int32_t low = 0;
  int32_t high = 0;
  uint64_t symbols() const { return uint64_t(int64_t(high) - low) + 1; }
};

/// Whether the packer can store levels of the range: fixed any; base243 A = 3; the Elias layouts low <= 0 <=
/// high; entropy low <= 0 <= high with magnitudes up to 16383.
bool packer_allows(LevelPacker packer, LevelRange range);

/// Appends the block of `levels` to `out`; a block of no levels has no bytes.
/// \pre packer_allows, every level in range, fewer than 2^32 - 1 levels.  \throws Error internal for the
/// first two. Deterministic, thread-safe, O(n); elias_sparse O(n) only in its search for what is not zero.
void pack_levels(LevelPacker packer, std::span<const int32_t> levels, LevelRange range, std::string& out);

/// The same, with the histogram of exactly these levels at hand.
void pack_levels(LevelPacker packer, std::span<const int32_t> levels, const LevelHistogram& histogram,
                 LevelRange range, std::string& out);

/// Size of what pack_levels appends, in bits, before the padding of its last byte. Exact for every packer;
/// entropy codes the block to know it.
uint64_t packed_level_bits(LevelPacker packer, std::span<const int32_t> levels, LevelRange range);

/// The allowed packer of the fewest bytes, ties to the lower number. From the histogram of levels, and of the
/// gaps between those that are not zero, without coding. The size of entropy is estimated, within one part in
/// 256 and 8 bytes: where two packers are as close as that, the other one may be the smaller.
LevelPacker smallest_packer(std::span<const int32_t> levels, LevelRange range);
LevelPacker smallest_packer(std::span<const int32_t> levels, const LevelHistogram& histogram,
                            LevelRange range);

/// The same by the histogram alone; `gap_bits`: the omega codes of the distances between levels that are not
/// 0.
LevelPacker smallest_packer(const LevelHistogram& histogram, LevelRange range, uint64_t gap_bits);
/// Bytes that pack_levels appends, by the same.  \pre not entropy
uint64_t packed_level_bytes(LevelPacker packer, const LevelHistogram& histogram, LevelRange range,
                            uint64_t gap_bits);
/// Bits of a level in the fixed layout.
uint32_t fixed_level_bits(LevelRange range);

/// Reads exactly levels.size() levels from exactly `bytes`.
/// \throws Error damaged, naming `what`, for anything that is not a whole block of levels in range with zero
/// padding. Thread-safe, O(n + bytes).
void unpack_levels(LevelPacker packer, std::string_view bytes, LevelRange range, std::span<int32_t> levels,
                   std::string_view what);

/// n times the empirical entropy of the levels, in bits: what no code of single levels goes below, its table
/// aside. For reports; not a function of the bytes, since log2 may differ between libraries. O(n), O(n log n)
/// for wide ranges.
double level_entropy_bits(std::span<const int32_t> levels);

}  // namespace jsq

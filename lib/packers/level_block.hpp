// The block of a level-coded method (SPEC.md, "Level blocks"): the packer's number, the scales of the block's
// buckets, and the packed levels. A block of levels 0 alone, where 0 decodes to zero, is empty.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "lib/packers/levels.hpp"

namespace jsq {

/// Appends the block; `packer` empty: the smallest. O(n). Returns level_entropy_bits of the levels.
double write_level_block(std::span<const float> scales, std::span<const int32_t> levels, LevelRange range,
                         std::optional<LevelPacker> packer, std::string& out);
/// A block of the fixed layout that is written piece by piece, by who never has all of its levels at once.
class FixedBlock {
 public:
  /// Whether levels of the range are narrow enough.
  static bool suits(LevelRange range);
  /// Appends a block of so many levels, to be given by add(). `out` stays untouched meanwhile, and outlives
  /// this.
  FixedBlock(size_t scales, size_t levels, LevelRange range, std::string& out);
  void set_scale(size_t index, float scale);
  /// The next levels: a multiple of eight but for the last ones.  \throws Error internal: one out of range.
  void add(std::span<const int32_t> levels);
  /// Whether all levels so far were 0.
  bool is_zero() const { return any_level_ == 0; }

 private:
  LevelRange range_;
  uint32_t width_, any_level_ = 0;
  std::string& out_;
  size_t scales_at_, next_at_;
};

/// Reads exactly scales.size() finite scales of 0 or more and levels.size() levels.  \throws Error damaged,
/// naming `what`.
void read_level_block(std::string_view block, LevelRange range, std::span<float> scales,
                      std::span<int32_t> levels, std::string_view what);

/// "auto" and the packers' names, for options.
constexpr std::pair<std::string_view, LevelPacker> level_packer_names[] = {
    {"fixed", LevelPacker::fixed},
    {"base243", LevelPacker::base243},
    {"elias-sparse", LevelPacker::elias_sparse},
    {"elias-dense", LevelPacker::elias_dense},
    {"entropy", LevelPacker::entropy}};

}  // namespace jsq

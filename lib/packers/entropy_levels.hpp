// The entropy-coded layout of a level block: magnitudes as tokens of a rANS coder with a table of the block's
// own, then signs and low bits as they are.
//
// -16383 <= low <= 0 <= high <= 16383: a magnitude m is a token and raw low bits by one of three schemes.
// With D = 16, 8 or 4 for scheme 0, 1, 2: token m and no raw bits if m < D; otherwise, with b the binary
// length of m, token D + b - 1 - log2 D and the low b - 1 bits of m raw. Scheme 0 has no magnitudes of 16 or
// more.
//   1. A bit stream: 2 bits scheme (0..2), 2 bits log2 of the lanes N, 4 bits K - 1; the table of the K
//   tokens as in
//      "Entropy model", present; aligned.
//   2. If more than one token has a weight above 0: uvarint W, the number of words, then the N states and W
//   words of an
//      rANS stream as in "Entropy-coded stream", with one section: the token of every level, all with that
//      table normalised. Otherwise nothing, N is 1, and all tokens are the one with a weight.
//   3. A bit stream, for each level that is not 0: one sign bit, 1 = negative, if low < 0 < high (otherwise
//   the sign is
//      that of the range); the raw bits of its token; aligned.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "lib/packers/entropy_model.hpp"
#include "lib/packers/level_histogram.hpp"
#include "lib/packers/levels.hpp"

namespace jsq {

constexpr int32_t largest_entropy_level = 16383;

/// Appends the block; returns the bits of its third part, without padding. \pre levels in range, their
/// histogram, not empty.
uint64_t pack_entropy_levels(std::span<const int32_t> levels, const LevelHistogram& histogram,
                             LevelRange range, std::string& out);

/// Size of the block in bytes, estimated without coding it: a lane emits a word for each whole 16 bits of its
/// tokens (what is left, half of 16 bits on average, stays in its state), and the coder's divisions lose next
/// to nothing. \pre not empty
uint64_t entropy_level_bytes(const LevelHistogram& histogram, LevelRange range);

/// What coding the levels of a histogram takes, before a level is coded.
struct EntropyLevelPlan {
  std::string head;  ///< the first part
  element::TokenScheme scheme{1, 0};
  uint32_t lanes = 0;  ///< 0: all tokens are the same, and there is no second part
  std::array<element::RansSymbol, element::rans_max_symbols> symbols{};
  uint64_t most_words = 0;  ///< of the stream: a step loses at most a tenth of a bit
  uint64_t raw_bits = 0;    ///< of the third part
};
/// \pre not empty
EntropyLevelPlan plan_entropy_levels(const LevelHistogram& histogram, LevelRange range);

/// What the head of a block says, and where its parts lie.
struct EntropyLevelHead {
  element::TokenScheme scheme{1, 0};
  uint32_t lanes = 0;  ///< 0: all tokens are `token`
  uint32_t token = 0;
  SymbolFrequencies frequencies{};
  size_t stream_at = 0, stream_bytes = 0;  ///< the states and words; the third part follows
};
/// \throws Error damaged, naming `what`.
EntropyLevelHead read_entropy_level_head(std::string_view bytes, std::string_view what);

/// \throws Error damaged, naming `what`.
void unpack_entropy_levels(std::string_view bytes, LevelRange range, std::span<int32_t> levels,
                           std::string_view what);

}  // namespace jsq

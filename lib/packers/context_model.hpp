// The static tables of context-coded levels. A context is the predicted scale of an element in half octaves
// of the quantizer's step; each context has one table of signed levels, stored as a ladder: for every rung k
// the odds that a magnitude stops at k, given that it reached k. SPEC.md, "Context tables", is the
// definition; no coding of elements here.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cpu/bit_io.hpp"
#include "kernels/element/context.hpp"

namespace jsq {

using element::context_symbols;
using element::escape_symbol;
using element::highest_context;
using element::lowest_context;
constexpr uint32_t most_rungs = 16;     ///< magnitudes 0..15 can have symbols of their own
constexpr int highest_own_context = 5;  ///< above it tables repeat with raw low bits
constexpr int odds_limit = 48;          ///< odds are 2^(i/4), i of -48..48

/// odds / (1 + odds) in 2^-16, 1..65535, of odds 2^(index/4).
uint32_t odds_probability(int index);
/// The index nearest to `stopped` : `passed`; 0 : 0 gives 0. Float arithmetic without libm.
int odds_index(uint64_t stopped, uint64_t passed);

/// A distribution over magnitudes 0.. as conditional odds. What passes all rungs is the escape, or, where the
/// ladder is closed, stops at the last rung for certain (whose odds are then not stored).
struct Ladder {
  uint32_t rungs = 1;  ///< 1..32 magnitudes with probabilities of their own
  bool closed = true;
  std::array<int8_t, 32> odds{};

  uint32_t stored_odds() const { return closed ? rungs - 1 : rungs; }
  bool operator==(const Ladder&) const = default;
};

/// Which signs the levels of a set have. Where there is one alone, no sign takes a bit.
enum class LevelSigns : uint8_t { both, positive, negative };

using ContextFrequencies = std::array<uint32_t, context_symbols>;

/// Frequencies of signed symbols (sum 4096): a magnitude above 0 is split evenly between its two symbols, or
/// belongs to the one that there is.
/// \pre at most most_rungs rungs
ContextFrequencies signed_frequencies(const Ladder& ladder, LevelSigns signs = LevelSigns::both);
/// Frequencies of the rungs themselves; closed ladders of up to 32 rungs.
ContextFrequencies plain_frequencies(const Ladder& ladder);

/// Which table an element of context c uses, and how many low bits of its magnitude are raw.
struct ContextUse {
  uint8_t table = 0;
  uint8_t raw_bits = 0;
  bool operator==(const ContextUse&) const = default;
};

/// All tables of one parameter set.
struct ContextModel {
  int lowest = 0;              ///< context of the first table; below it everything is zero
  std::vector<Ladder> tables;  ///< of contexts lowest.. ; none: everything is zero
  Ladder escapes;              ///< bit length of an escaped magnitude's excess
  bool has_escapes = false;
  LevelSigns signs = LevelSigns::both;  ///< of all levels; stored beside the tables
  /// Tables of the same contexts for the shifted quantizer of dependent levels; empty where levels are
  /// independent.
  std::vector<Ladder> shifted;

  bool dependent() const { return !shifted.empty(); }
  const std::vector<Ladder>& tables_of(uint32_t quantizer) const { return quantizer ? shifted : tables; }
  int highest() const { return lowest + int(tables.size()) - 1; }
  /// \pre tables are not empty and c >= lowest
  ContextUse use_of(int c) const {
    if (c <= highest()) return {uint8_t(c - lowest), uint8_t(c >= 4 ? (c - 2) >> 1 : 0)};
    if (highest() < highest_own_context) return {uint8_t(tables.size() - 1), 0};
    return {uint8_t(4 + (c & 1) - lowest), uint8_t((c - 2) >> 1)};
  }

  void write(cpu::BitWriter& out) const;
  /// Returns false when the tables are impossible. `dependent`: those of the shifted quantizer follow.
  bool read(cpu::BitReader& in, bool dependent = false);
  uint64_t table_bits() const;
};

/// What a pass over the data counts for one table: magnitudes 0..15 of the part above the raw bits, then all
/// beyond.
using MagnitudeCounts = std::array<uint64_t, most_rungs + 1>;
/// Bit lengths (of excess + 1, less 1) of escapes, 0..31.
using EscapeCounts = std::array<uint64_t, 32>;

/// The tables that code `counts` (one entry for each context from `lowest`) in the fewest bits, their own
/// included. `open`: magnitudes that were not seen must stay codable (they escape).
void fit_tables(ContextModel& model, int lowest, std::span<const MagnitudeCounts> counts, bool open);
/// The same for the shifted quantizer, beside tables that are there.  \pre as many counts as tables
void fit_shifted(ContextModel& model, std::span<const MagnitudeCounts> counts, bool open);
/// The table of escapes; every length stays codable when `open`.
void fit_escapes(ContextModel& model, const EscapeCounts& counts, bool open);

/// Signed Rice code of small numbers: zigzag, `low` raw bits, the rest in unary.
void write_signed_rice(cpu::BitWriter& out, int value, uint32_t low);
/// Sets `possible` to false beyond +-limit.
int read_signed_rice(cpu::BitReader& in, uint32_t low, int limit, bool& possible);
uint32_t signed_rice_bits(int value, uint32_t low);

}  // namespace jsq

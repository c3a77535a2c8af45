// The static tables of one set of tensors: how often an activity follows another, a class occurs in a run of
// some activity, and a magnitude index occurs in a class. Counts -> weights (what the stream stores) ->
// frequencies. SPEC.md, "Entropy model", is the definition; this file does no coding of blocks.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cpu/bit_io.hpp"
#include "kernels/element/class_layout.hpp"
#include "kernels/element/rans.hpp"

namespace jsq {

constexpr uint32_t max_symbols = element::rans_max_symbols;
using SymbolCounts = std::array<uint64_t, max_symbols>;
using SymbolWeights = std::array<uint32_t, max_symbols>;
using SymbolFrequencies = std::array<uint32_t, max_symbols>;

using element::classes_per_token;
using element::token_symbols;

/// What a pass over the data counts, in every context that a table can have. Mergeable by addition.
struct EntropyCounts {
  std::array<SymbolCounts, element::max_activity_buckets> activity{};  ///< [previous][this]
  std::array<SymbolCounts, element::max_activity_buckets>
      classes{};  ///< [activity][class], padding of a last token included
  std::array<std::array<SymbolCounts, element::max_activity_buckets>, element::max_classes>
      magnitude{};  ///< [class][activity][coded bits]
  void merge(const EntropyCounts& other);
};

/// Weight of a symbol seen `count` times of `total`: 0 for none, otherwise 1..8191 with at most four
/// significant bits.
uint32_t symbol_weight(uint64_t count, uint64_t total);
/// The weight of every symbol of a histogram.
SymbolWeights symbol_weights(const SymbolCounts& counts);
/// Frequencies that sum to 4096, at least 1 for every weight above 0 (SPEC.md, "Normalisation").  \pre a
/// weight is above 0.
SymbolFrequencies normalise(const std::array<uint64_t, max_symbols>& weights);
/// The same for any number of symbols.  \pre equal sizes; the sum of the weights is below 2^64
void normalise(std::span<const uint64_t> weights, std::span<uint32_t> frequencies);
/// -log2(frequency / 4096) in units of 2^-16 bit, rounded up. Integer arithmetic.
uint32_t code_length_q16(uint32_t frequency);

/// The stored form of the weights of symbols 0..symbols-1 (SPEC.md, "Entropy model").
void write_symbol_table(cpu::BitWriter& out, const SymbolWeights& weights, uint32_t symbols);
/// Reads what write_symbol_table wrote; all weights are 0 for an absent table. Returns false when it is
/// impossible.
bool read_symbol_table(cpu::BitReader& in, SymbolWeights& weights, uint32_t symbols);
/// Size of the stored form in bits.
uint64_t symbol_table_bits(const SymbolWeights& weights, uint32_t symbols);

/// The stored tables and how they are used.
struct EntropyModel {
  uint32_t classes = 1;
  std::array<uint8_t, element::max_classes> width{};
  bool map_coded = false;  ///< the class map is entropy-coded (activities and tokens)
  uint8_t magnitudes_coded =
      0;  ///< bit j-1: magnitude indices of class j are entropy-coded (class 0 never is)
  uint8_t magnitudes_by_activity = 0;  ///< bit j-1: with one table for each activity, not one in all
  uint32_t buckets = 0;                ///< activities 0..buckets-1 occur
  std::array<SymbolWeights, element::max_activity_buckets> activity{};
  std::array<SymbolWeights, element::max_activity_buckets> class_weight{};
  std::array<std::array<SymbolWeights, element::max_activity_buckets>, element::max_classes> magnitude{};

  bool needs_activities() const { return map_coded || magnitudes_by_activity != 0; }
  bool uses_rans() const { return map_coded || magnitudes_coded != 0; }

  void write(cpu::BitWriter& out) const;
  /// Reads tables for `classes`, `width` and the flags already set.  Returns false when they are impossible.
  bool read(cpu::BitReader& in);
  /// The same model of magnitudes, for a map that is not entropy-coded.
  EntropyModel without_map() const;
  /// Stored size in bits.
  uint64_t table_bits() const;

  SymbolFrequencies activity_frequencies(uint32_t previous) const;
  SymbolFrequencies token_frequencies(uint32_t activity) const;
  SymbolFrequencies magnitude_frequencies(uint32_t index, uint32_t activity) const;

  /// Bits (ideal code lengths, in 2^-16 bit) that coding `counts` takes: map and magnitudes apart.
  struct Cost {
    uint64_t map_q16 = 0;
    uint64_t magnitudes_q16 = 0;
  };
  Cost cost(const EntropyCounts& counts) const;
};

/// The model that codes `counts` in the fewest bits, tables included: decides which classes' magnitudes are
/// worth coding and which of them by activity. `code_map` and `code_magnitudes` forbid what is false.
EntropyModel fit_entropy_model(const EntropyCounts& counts, uint32_t classes,
                               const std::array<uint8_t, element::max_classes>& width, bool code_map,
                               bool code_magnitudes);

}  // namespace jsq

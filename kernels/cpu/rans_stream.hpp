// Interleaved rANS streams: `lanes` states, symbol i of a section on lane i mod lanes, words in decoding
// order. A stream is the lanes' states (u32) and then 16-bit words, all little-endian. Sections share states
// and words.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/cpu/rans_beside.hpp"
#include "kernels/cpu/rans_eights.hpp"
#include "kernels/element/rans.hpp"

namespace jsq::cpu {

constexpr uint32_t max_lanes = 16;

/// Encodes sections last to first, symbols last to first, as rANS must; then finish() gives the stream.
class RansEncoder {
 public:
  /// `symbols_at_most`: over all sections.
  RansEncoder(uint32_t lanes, size_t symbols_at_most);

  /// `ids[i]` indexes `table`; every id's symbol has a frequency above 0.
  void encode_section(std::span<const uint16_t> ids, const element::RansSymbol* table);
  /// The same with a table of at most element::rans_max_symbols.
  void encode_section(std::span<const uint16_t> ids, std::span<const element::RansSymbol> table);
  /// The same section of several streams of as many lanes, at most encoded_together: ids[k] for encoders[k],
  /// which may end with symbols that have the whole of a table, since these leave a stream as it is.  \pre
  /// equal lengths that are multiples of 16
  static void encode_sections(std::span<RansEncoder> encoders, const uint16_t* const* ids, size_t length,
                              const SymbolTable& table);
  /// Appends the stream to `out`.
  void finish(std::string& out) const;

 private:
  /// All but whole groups of eight symbols on eight lanes, whose number it returns.
  size_t encode_last(std::span<const uint16_t> ids, const element::RansSymbol* table);
  template <uint32_t lanes>
  static void encode_in_turns(EncodingLanes* streams, const uint16_t* const* ids, size_t length,
                              const element::RansSymbol* table);
  uint16_t* next() { return words_.get() + first_word_; }
  uint32_t lanes_;
  uint32_t states_[max_lanes];
  size_t size_;
  std::unique_ptr<uint16_t[]> words_;  // filled from the back; not set before
  size_t first_word_;
};

/// Decodes what RansEncoder wrote. Words beyond the end read as zero; finished() tells whether the stream was
/// consumed exactly, so that a damaged stream is found without a check in each step.
class RansDecoder {
 public:
  RansDecoder(std::string_view stream, uint32_t lanes);

  /// Begins a section: the next symbol is on lane 0.
  void begin_section() { lane_ = 0; }
  /// One symbol with the given table of 4096 slots.
  uint32_t next(const element::RansSlot* table) {
    uint32_t& state = states_[lane_];
    const uint32_t symbol = step(state, table, words_);
    lane_ = lane_ + 1 == lanes_ ? 0 : lane_ + 1;
    return symbol;
  }
  // Tables are numbered: table t is the 4096 slots from base + 4096 t on.
  /// Symbols each of which names the table of the next one, tables[symbol]; the first is decoded with
  /// tables[0]. Whether all of them have a table.
  bool next_following(const element::RansSlot* base, std::span<const uint8_t> tables,
                      std::span<uint8_t> symbols);
  /// For each of the tables, `each` symbols with it; all into `symbols`, one after another.
  void next_groups(const element::RansSlot* base, std::span<const uint8_t> tables, size_t each,
                   uint8_t* symbols);
  /// symbols[i] decoded with tables[i]; begins where the last symbol ended.
  void next_indexed(const element::RansSlot* base, const uint8_t* tables, uint8_t* symbols, size_t count);
  /// The stream for the loops that decode several side by side.  \pre at most eight lanes, the next symbol on
  /// lane 0; rans_padding zero bytes behind the stream
  EightLanes lend() const;
  /// Goes on where those have ended.
  void take_back(const EightLanes& lent);
  /// Every word consumed, every lane back at the encoder's start.
  bool finished() const;

 private:
  /// The words that are left; zeros behind them.
  struct Words {
    const char* bytes;
    size_t size;
    size_t at = 0;
    uint16_t next() {
      uint16_t word = 0;
      if (at + 2 <= size) std::memcpy(&word, bytes + at, 2);
      at += 2;
      return word;
    }
  };
  static uint32_t step(uint32_t& state, const element::RansSlot* table, Words& words) {
    const element::RansSlot slot = table[state & (element::rans_total - 1)];
    uint32_t x = element::rans_advance(state, slot);
    if (x < element::rans_lower_bound) x = (x << 16) | words.next();
    state = x;
    return element::rans_slot_symbol(slot);
  }
  /// Whether so many symbols may take two bits each or more: then a branch on a state's need of a word is
  /// often guessed wrong, and it is faster to do without (thc 3.7 -> 3.1 ns an element); at one bit it is
  /// slower (qsgd 1.7 -> 2.2).
  bool is_dense(size_t symbols) const {
    return words_.at < words_.size && (words_.size - words_.at) * 4 > symbols;
  }
  size_t take_eights(uint8_t* symbols, size_t count, const element::RansSlot* table);

  uint32_t states_[max_lanes];
  Words words_;
  uint32_t lanes_;
  uint32_t lane_ = 0;
  bool whole_;
};

}  // namespace jsq::cpu

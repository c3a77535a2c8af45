// One interleaved rANS stream of context-coded levels with the side information that their contexts come
// from. Sections: side symbols (adaptive tables), elements (the static tables of a ContextModel), escapes;
// then raw bits. An element below the lowest context costs nothing, so that time and bytes follow what is not
// zero. SPEC.md, "Context streams".
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/cpu/bit_io.hpp"
#include "kernels/cpu/context_eights.hpp"
#include "kernels/element/rans.hpp"
#include "lib/packers/context_model.hpp"

namespace jsq {

using ContextClass = uint8_t;
using element::context_classes;

/// Interleaved states of a stream of so many bytes: more are faster, and take two bytes each.
constexpr uint32_t most_context_lanes = 16;
constexpr uint32_t context_lanes(size_t stream_bytes) {
  return stream_bytes >= 12288 ? most_context_lanes : stream_bytes >= 1024 ? 8 : 1;
}

/// A table of 16 symbols that follows what it codes. Integer arithmetic only.
class AdaptiveTable {
 public:
  AdaptiveTable();
  /// Begins with these frequencies, none 0, of sum 4096; follows more slowly from the 65th symbol on.
  explicit AdaptiveTable(const std::array<uint16_t, 16>& frequencies);
  uint32_t start(uint32_t symbol) const { return cumulative_[symbol]; }
  uint32_t frequency(uint32_t symbol) const {
    return uint32_t(cumulative_[symbol + 1] - cumulative_[symbol]);
  }
  uint32_t symbol_at(uint32_t slot) const;
  void update(uint32_t symbol);

 private:
  std::array<uint16_t, 17> cumulative_;
  uint32_t seen_ = 0;
  bool slows_ = false;
};

/// What side information is coded with; gathers symbols in coding order for the encoder.
class SideWriter {
 public:
  void adaptive(AdaptiveTable& table, uint32_t symbol);
  /// Bits of any value, at most 12.
  void raw(uint32_t value, uint32_t bits);
  void nibble(uint32_t value) { raw(value, 4); }
  std::span<const element::RansSymbol> symbols() const { return symbols_; }
  /// Ideal code length so far, in 2^-16 bit.  O(symbols)
  uint64_t bits_q16() const;

 private:
  std::vector<element::RansSymbol> symbols_;
};

/// Values of levels: (256 |q| + offset) m 2^(e - 8), the offset in 1/256 step depending on table and level
/// (1, 2, more).
struct Reconstruction {
  uint16_t mantissa = 32768;  ///< m, of 32768..65535
  int16_t exponent = 0;       ///< e: the step is m 2^e
  bool has_offsets = false;
  std::vector<std::array<int8_t, 3>> offsets;          ///< one entry for each table, in 1/32 step
  std::vector<std::array<int8_t, 3>> shifted_offsets;  ///< of the shifted quantizer, with dependent levels
  /// Levels that name binary32 values exactly: level q is +-(the value of key (|q| - 1 + base) << shift).
  bool exact = false;
  uint32_t base = 0;
  uint8_t shift = 0;

  double step() const;
  /// Rounded half octaves of the step: what contexts are relative to.
  int step_octaves() const;
  /// 1/256 steps. `quantizer`: 1 for the shifted one of dependent levels.
  int64_t points(ContextUse use, uint32_t magnitude, uint32_t quantizer = 0) const;
  float value(ContextUse use, int32_t level, uint32_t quantizer = 0) const;
};

constexpr auto largest_level = int32_t(element::largest_level);

/// The elements of a block that are not the zero of a class without raw bits.
struct ActiveLevels {
  std::vector<uint32_t> positions;  ///< ascending
  std::vector<int32_t> levels;
  /// Elements besides the first at which a range begins: with dependent levels the state is 0 there.
  /// Ascending.
  std::vector<uint32_t> begins;
};

/// Signed level of a symbol below the escape.
inline int32_t level_of(uint32_t symbol) {
  const auto magnitude = int32_t(element::symbol_magnitude(symbol));
  return element::symbol_is_negative(symbol) ? -magnitude : magnitude;
}

/// A model with the values of its levels: all that decisions about levels ask of a coder, and made in a
/// fraction of its time.
class ContextLevels {
 public:
  ContextLevels() = default;
  ContextLevels(ContextModel model, Reconstruction values);

  const ContextModel& model() const { return model_; }
  const Reconstruction& values() const { return values_; }
  ContextUse use(ContextClass c) const { return uses_[c]; }
  /// Class of context c; contexts above the highest take its class.
  ContextClass class_of(int c) const {
    return model_.tables.empty() ? ContextClass(0) : ContextClass(element::context_class(c, model_.lowest));
  }

 protected:
  ContextModel model_;
  Reconstruction values_;
  std::array<ContextUse, context_classes> uses_{};
};

/// A model ready to code.
class ContextCoder : public ContextLevels {
 public:
  ContextCoder() = default;
  ContextCoder(ContextModel model, Reconstruction values);

  /// Value of a symbol without raw bits.
  const float* symbol_values() const { return symbol_values_.data(); }

  /// Appends the stream. No element of class 0 is active; every element of a class with raw bits is.
  void encode(std::span<const element::RansSymbol> side, std::span<const ContextClass> classes,
              const ActiveLevels& active, std::string& out) const;
  /// The same of elements whose symbol ids are known, but for the active ones, which have that of zero: 32
  /// class + symbol. \pre levels are independent
  void encode(std::span<const element::RansSymbol> side, std::span<const ContextClass> classes,
              std::span<uint16_t> ids, const ActiveLevels& active, std::string& out) const;
  /// What a decoder makes of the elements.
  void reconstruct(std::span<const ContextClass> classes, const ActiveLevels& active,
                   std::span<float> values) const;

  /// What a decoder makes of the active elements, in their places.  \pre levels are independent
  void put_values(std::span<const ContextClass> classes, const ActiveLevels& active,
                  std::span<float> values) const;

  void prepare_decoding();

 private:
  friend class ContextReader;
  /// Ideal code length of an element, raw bits with it. `escape_length`: of a symbol that escapes.
  double bits_of(ContextClass k, uint32_t quantizer, uint32_t symbol, uint32_t escape_length) const;
  void encode_dependent(std::span<const element::RansSymbol> side, std::span<const ContextClass> classes,
                        const ActiveLevels& active, std::string& out) const;
  void reconstruct_dependent(std::span<const ContextClass> classes, const ActiveLevels& active,
                             std::span<float> values) const;
  std::vector<element::RansSymbol> symbols_;  // [quantizer][class][symbol]; class 0 is "always zero"
  std::vector<element::RansSymbol> escape_symbols_;
  std::vector<uint32_t> slots_;                 // [table + 1][4096], then those of the shifted quantizer
  std::vector<cpu::ComparedSymbols> compared_;  // [table + 1]
  std::vector<uint32_t> escape_slots_;
  std::vector<float> symbol_values_;  // [quantizer][class][symbol]
};

/// Reads one stream: side symbols, then elements, then finish().
class ContextReader {
 public:
  /// \pre the coder is prepared for decoding; it and the bytes outlive the reader.
  ContextReader(const ContextCoder& coder, std::string_view stream, std::string_view what);
  uint32_t adaptive(AdaptiveTable& table);
  uint32_t raw(uint32_t bits);
  uint32_t nibble() { return raw(4); }
  /// Decodes as many elements as there are classes, once. `begins` as in ActiveLevels. `code_lengths`, empty
  /// or one for each element, receives their ideal bits.  \throws Error damaged.
  void elements(std::span<const ContextClass> classes, std::span<float> values,
                std::span<const uint32_t> begins = {}, std::span<float> code_lengths = {});
  /// Bits of information that side symbols took so far, from a start that differences do not know. For
  /// reports.
  double bits_read() const;
  /// The interleaved states, and the byte at which the next word lies: behind the side symbols, where the
  /// elements begin, for a decoder elsewhere.
  std::span<const uint32_t> states() const { return {states_, lanes_}; }
  size_t position() const { return at_; }

 private:
  void dependent_elements(std::span<const ContextClass> classes, std::span<float> values,
                          std::span<const uint32_t> begins, std::span<float> code_lengths);
  uint32_t step(uint32_t lane, uint32_t start, uint32_t frequency);
  uint32_t next_slot(const uint32_t* slots);
  [[noreturn]] void damaged(const char* found) const;

  const ContextCoder& coder_;
  std::string_view stream_, what_;
  uint32_t states_[most_context_lanes];
  uint32_t lanes_, lane_ = 0;
  size_t at_ = 0;
};

}  // namespace jsq

// The block format of class-coded methods (SPEC.md, "Class blocks"): one block of values -> class map + code
// words -> bytes, and back; and the tally that counts what coding would need, without writing a byte.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "jsq/tensor.hpp"
#include "kernels/cpu/class_run_coding.hpp"
#include "kernels/cpu/class_runs.hpp"
#include "kernels/cpu/classify.hpp"
#include "kernels/cpu/quantize.hpp"
#include "kernels/cpu/rans_beside.hpp"
#include "kernels/cpu/rans_eights.hpp"
#include "kernels/element/class_layout.hpp"
#include "kernels/element/class_plan.hpp"
#include "lib/core/block_sums.hpp"
#include "lib/packers/entropy_model.hpp"

namespace jsq {

using element::map_packers;
using element::MapPacker;
using element::packed_index_bits;
using element::raw_map_bits;

/// Whether a map lists kept elements, so that it needs a class of width 0 and another.
constexpr bool lists_kept(MapPacker map) {
  return map != MapPacker::raw && map != MapPacker::entropy;
}

/// Integers that counting blocks gives; they merge in any order.
struct ClassTally {
  std::array<uint64_t, element::max_classes> members{};
  EntropyCounts entropy;
  uint64_t rice_bits = 0;  ///< bits of a Rice-coded map, block headers included
  void merge(const ClassTally& other);
};

/// A block, the values that it decodes to, and what errors call it.
struct ClassBlock {
  std::string_view bytes;
  std::span<float> values;
  std::string_view what;
};

/// Values that become a block, where they stand (as ClassCoder::encode says), and what receives it.
struct UncodedBlock {
  std::span<const float> values;
  uint64_t first_pool_index = 0, first_element = 0;
  uint32_t tensor = 0;
  DType dtype = DType::f32;  ///< that errors are measured in
  std::string* out = nullptr;
  BlockSums* sums = nullptr;
};

/// Everything that coding a tensor's blocks needs: plan, packers and tables. Immutable while blocks are
/// coded, so that threads share it.
class ClassCoder {
 public:
  element::ClassPlan plan;
  MapPacker map = MapPacker::entropy;  ///< all but raw and entropy need a class of width 0 and another
  uint32_t lanes = 8;
  EntropyModel model;

  /// Builds the coding tables from the model; call once before encode or decode.
  void prepare_encoding();
  void prepare_decoding();

  /// Appends the block of `values` to `out`; `first_pool_index` is the pool index of values[0] (for cutoffs),
  /// `first_element` its index in tensor `tensor` (for random numbers). Every value is finite. Thread-safe.
  /// O(n). `sums` receives the errors of the decoded values after rounding to `dtype`.
  void encode(std::span<const float> values, uint64_t first_pool_index, uint64_t first_element,
              uint32_t tensor, DType dtype, std::string& out, BlockSums& sums) const;

  /// The same bytes for who asks for no errors: of `sums` members alone are right.
  void encode_unmeasured(std::span<const float> values, uint64_t first_pool_index, uint64_t first_element,
                         uint32_t tensor, std::string& out, BlockSums& sums) const;

  /// The same of several blocks, whose symbols are coded side by side.  \pre at most encoded_together
  void encode(std::span<const UncodedBlock> blocks) const;
  void encode_unmeasured(std::span<const UncodedBlock> blocks) const;
  /// How many blocks are better coded at once.
  static constexpr size_t encoded_together = cpu::encoded_together;

  /// The same for a block of n elements of which `kept`, ascending, are in class 1 with these code words, and
  /// the others in class 0.  \pre two classes, the first without bits.
  void encode_codes(size_t n, std::span<const uint32_t> kept, std::span<const uint8_t> codes,
                    std::string& out) const;
  void tally_codes(size_t n, std::span<const uint32_t> kept, std::span<const uint8_t> codes,
                   ClassTally& counts) const;

  /// Decodes a block into exactly values.size() elements, and returns the indices of those in classes with
  /// bits, ascending, which are the thread's until it decodes or encodes again.  \throws Error damaged,
  /// naming `what`. Thread-safe. O(n).
  std::span<const uint32_t> decode(std::string_view block, std::span<float> values,
                                   std::string_view what) const;

  /// The same of several blocks, whose entropy-coded streams are decoded side by side; `kept`, as many, where
  /// what is kept is asked for.  \pre at most decoded_together()
  void decode(std::span<const ClassBlock> blocks, std::span<std::span<const uint32_t>> kept = {}) const;
  /// How many blocks are better decoded at once.
  size_t decoded_together() const;

  /// Counts a block: classes, symbols in every context, and the errors of the decoded values after rounding
  /// to `dtype`.
  void tally(std::span<const float> values, uint64_t first_pool_index, uint64_t first_element,
             uint32_t tensor, DType dtype, ClassTally& counts, BlockSums& sums) const;

  /// The same without the errors.
  void tally_symbols(std::span<const float> values, uint64_t first_pool_index, uint64_t first_element,
                     uint32_t tensor, ClassTally& counts) const;

  /// The decoded values of class j: entry sign x 2^(width - 1) + magnitude index; none without bits.
  std::vector<float> points(uint32_t j) const;
  /// The encoder's tables, coding_tables x rans_max_symbols, as prepare_encoding() left them.
  std::span<const element::RansSymbol> symbols() const { return symbols_; }

  /// The part of a tally that needs no quantization: classes and activities only. Several times faster.
  void count(std::span<const float> values, uint64_t first_pool_index, ClassTally& counts) const;

 private:
  /// What is written of a code word: a symbol, counted from those of activity 0, and bits as they are; none
  /// of a class that is not entropy-coded.
  struct CodeParts {
    uint16_t id = 0;
    uint8_t raw = 0, raw_bits = 0;
  };
  void split_codes();
  void prepare_run_coding();
  /// Quantizes a block into the scratch, and adds what that loses.
  void measure(const UncodedBlock& block) const;
  /// Whether a block may be coded run by run.
  bool goes_by_runs(size_t n, uint64_t first_pool_index) const;
  bool go_by_runs(std::span<const UncodedBlock> blocks) const;
  void encode_runs(std::span<const UncodedBlock> blocks) const;
  /// The entropy coder's stream and its length.
  void append_symbols(std::span<const uint16_t> activities, std::span<const uint16_t> tokens,
                      std::span<const uint16_t> magnitudes, std::string& out) const;
  /// How a class member's value is found: by its code word from a plane of the class; or by a sign and low
  /// bits from a stream that all classes with symbols share, and a symbol above the low bits.
  struct ValueParts {
    uint8_t bits = 0;  ///< that are read
    uint8_t low_bits = 0, low_mask = 0;
    bool has_symbols = false;
    uint8_t half = 0;  ///< magnitudes of a class with symbols
    std::array<float, 256> values{};
  };
  void join_values();
  class Reading;
  void read_alone(Reading& reading) const;
  void decode_beside(std::span<const ClassBlock> blocks, std::span<std::span<const uint32_t>> kept,
                     size_t first_buffer) const;
  void prepare_runs();
  /// `by_list`: the scratch has no classes, only the list of what is in class 1 of two.
  void write_block(size_t n, std::string& out, bool by_list = false) const;
  void tally_block(size_t n, ClassTally& counts, bool by_list = false) const;

  std::vector<element::RansSymbol> symbols_;
  std::vector<CodeParts> code_parts_;  // [class][code word], of 256 each
  std::vector<element::RansSlot> slots_;
  std::vector<cpu::SymbolStarts> starts_;
  // Numbers of tables, which stand in both: of activities and of the tokens of each; of magnitudes.
  std::array<uint8_t, 16> activity_tables_{};
  std::array<uint8_t, element::max_activity_buckets> token_tables_{};
  std::array<std::array<uint8_t, element::max_activity_buckets>, element::max_classes> magnitude_tables_{};
  std::vector<ValueParts> value_parts_;  // of the classes; apart, since coders are moved about
  std::array<uint8_t, 16 * 4> token_classes_{};
  std::optional<cpu::RunCoding> run_coding_;  // of blocks that are written run by run, where they can be
  // What these are coded with: the magnitudes of all classes in one activity beside each other.
  std::vector<element::RansSymbol> run_symbols_;
  std::vector<cpu::SymbolGroup> run_symbol_groups_;
  std::optional<cpu::RunClasses> runs_;  // of blocks that are read run by run, where they can be
};

/// Adds what quantizing a block gave to its sums.
void add_quantized(const cpu::KeptSums& kept, const cpu::DroppedSums& dropped, BlockSums& sums);

}  // namespace jsq

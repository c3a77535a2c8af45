// Context streams on the device: levels that are coded with the scale predicted for each element. Side
// symbols of a stream and all tables are read by the host; elements are decoded there. Beside device.hpp, so
// that only rdoq sees it.
#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "kernels/cuda/device.hpp"
#include "kernels/element/context.hpp"

namespace jsq::cuda {

/// Which signs levels have: where there is one alone, no bit is stored.
enum class ContextSigns : uint8_t { both, positive, negative };

/// What the elements of a class are coded with (with one of two quantizers, where levels are dependent).
struct ContextUse {
  uint8_t table = 0;  ///< 0: nothing is coded, and the element is zero
  uint8_t raw_bits = 0;
  uint8_t rungs = 0;  ///< magnitudes of its own symbols; beyond them is the escape
  int8_t offsets[3] = {};
  bool has_offsets = false;
};

/// The tables of a parameter set, and what its levels stand for.
struct ContextTables {
  int lowest = 0;                     ///< the context of class 1
  std::vector<uint32_t> frequencies;  ///< [table][context_symbols]; the last table is that of escapes
  std::vector<ContextUse> uses;       ///< [quantizer][class]
  std::vector<float> values;          ///< [quantizer][class][symbol], of classes without raw bits
  bool raw_bits = false;              ///< some class has any
  ContextSigns signs = ContextSigns::both;
  uint32_t mantissa = 0;  ///< of the step
  double unit = 0;        ///< of points times the mantissa
  bool exact = false;     ///< levels name values
  uint32_t base = 0, shift = 0;
};

/// Consecutive elements whose contexts come from scales: row scale + column scale + that of the place.
struct ContextPiece {
  size_t first = 0;  ///< of its values
  uint32_t count = 0;
  uint64_t length = 0;  ///< elements of a row
  uint64_t offset = 0;  ///< of the first element in its row
  uint64_t inner = 0;   ///< elements of a column in a row; 0: there are no columns
  size_t rows = 0;      ///< scale of the first row
  size_t columns = 0;   ///< scale of column 0
};

/// Decodes context streams of one parameter set.
class ContextDecoder {
 public:
  struct Block {
    uint64_t offset = 0;  ///< of its first byte
    uint64_t bytes = 0;
    size_t first = 0;  ///< of its values
    size_t count = 0;
    bool zero = false;             ///< it has no bytes
    std::span<const float> given;  ///< its values then, where they are known
    bool sound = true;             ///< otherwise it is passed by
    uint32_t words_at = 0;         ///< the words of its elements, from its first byte
    uint32_t lanes = 0;            ///< at most 16
    uint32_t states[16] = {};
  };
  /// What blocks are decoded with: scales of all of their elements, pieces by ascending `first`.
  struct Contexts {
    std::vector<ContextPiece> pieces;
    std::vector<int16_t> scales;
    void append(const Contexts& more) {
      for (ContextPiece piece : more.pieces) {
        piece.rows += scales.size();
        piece.columns += scales.size();
        pieces.push_back(piece);
      }
      scales.insert(scales.end(), more.scales.begin(), more.scales.end());
    }
  };
  virtual ~ContextDecoder() = default;
  /// sound[i]: whether the values of block i may be used. Not thread-safe.
  virtual void decode(std::string_view bytes, std::span<const Block> blocks, const Contexts& contexts,
                      std::span<float> values, std::span<uint8_t> sound) = 0;
};
std::unique_ptr<ContextDecoder> make_context_decoder(const ContextTables& tables);

}  // namespace jsq::cuda

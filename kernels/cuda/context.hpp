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
  uint32_t kernel = 0;  ///< elements of a kernel whose places have offsets; 0: none have
  uint32_t place = 0;   ///< of the first element in its kernel
  size_t offsets = 0;   ///< scale of place 0
};

constexpr uint32_t no_transform = UINT32_MAX, most_axes = 3;
/// How the elements of a part were changed before they were coded: predicted from factors, or by a cosine
/// transform of their kernels, or both.
struct PartTransform {
  uint32_t rank = 0;           ///< 0: not predicted
  size_t left = 0, right = 0;  ///< places of its factors: [component][column], [row and place][component]
  uint32_t axes = 0;           ///< of kernels, the slowest first; 0: no cosine transform
  uint32_t extent[most_axes] = {}, stride[most_axes] = {};
  uint32_t cosines[most_axes] = {};  ///< place of the axis' table
};
/// Of a parameter set, whose levels then stand for integers, in 1/256 step.
struct PartTransforms {
  std::vector<PartTransform> parts;
  std::vector<int32_t> factors;  ///< those of the right weighted
  std::vector<int32_t> cosines;  ///< tables [u][i]
  double unit = 1;               ///< 1/256 step
};
/// Consecutive elements of one part that are brought from integers to values; whole kernels where the part
/// has a transform.
struct UnitPiece {
  size_t first = 0;  ///< of its values
  uint32_t count = 0;
  uint32_t transform = no_transform;
  uint32_t row = 0, column = 0;  ///< of its first kernel in the part
  uint32_t columns = 1;          ///< kernels of a row
  uint32_t inner = 1;            ///< elements of a kernel
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
  /// What blocks are decoded with: scales of all of their elements, pieces by ascending `first`; and with
  /// transforms, what is to be finished.
  struct Contexts {
    std::vector<ContextPiece> pieces;
    std::vector<int16_t> scales;
    std::vector<UnitPiece> units;
    void append(const Contexts& more) {
      for (ContextPiece piece : more.pieces) {
        piece.rows += scales.size();
        piece.columns += scales.size();
        piece.offsets += scales.size();
        pieces.push_back(piece);
      }
      scales.insert(scales.end(), more.scales.begin(), more.scales.end());
      units.insert(units.end(), more.units.begin(), more.units.end());
    }
  };
  virtual ~ContextDecoder() = default;
  /// sound[i]: whether the values of block i may be used. Not thread-safe.
  virtual void decode(std::string_view bytes, std::span<const Block> blocks, const Contexts& contexts,
                      std::span<float> values, std::span<uint8_t> sound) = 0;
};
/// `transforms`: null where levels stand for values.
std::unique_ptr<ContextDecoder> make_context_decoder(const ContextTables& tables,
                                                     const PartTransforms* transforms);

}  // namespace jsq::cuda

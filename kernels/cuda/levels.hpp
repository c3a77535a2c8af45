// Level blocks on the device: every element rounded to a grid, the levels packed. Beside device.hpp, so that
// only methods that dither see it.
#pragma once

#include <cmath>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/cuda/device.hpp"
#include "kernels/element/grid.hpp"
#include "kernels/element/level_layout.hpp"
#include "kernels/element/table_rounding.hpp"

namespace jsq::cuda {

/// What the scale of a bucket is.
enum class BucketNorm : uint8_t { linf, l2 };

/// How the elements of one tensor become levels, and levels values.
struct LevelTensor {
  element::GridRule rule;
  int32_t low = 0;          ///< the least level
  uint32_t symbols = 1;     ///< levels low..low + symbols - 1; as many counters a block
  float scale = 0;          ///< of the tensor, where there are no buckets
  float limit = HUGE_VALF;  ///< magnitudes are clipped to it
  /// Instead of a grid: level 1 for negative elements, which stands for `negative`, and 0 for `scale`.
  bool signs = false;
  float negative = 0;
  int32_t shift = 0;  ///< of a decoder: added to a level before it stands for a value
  double length = 0;  ///< of a rotation: elements of the tensor with padding
};

/// Levels of rotated coordinates: random signs, Hadamard transforms of blocks, and a table of integers. What
/// is left of a tensor is padded with zeros as element::padded_length says, and the padding has levels too.
struct Rotation {
  uint32_t block_log2 = 0;  ///< at most 16
  element::RoundingTable table;
  int32_t granularity = 1;     ///< the last entry
  double clamp = 1;            ///< deviations
  bool norm_of_block = false;  ///< an L2 norm as a scale of each Hadamard block; else LevelTensor::scale
  uint64_t seed = 0;           ///< of the signs
};

/// Levels that count systematic samples: of positions (j + offset) / rate on the line of all magnitudes.
struct SampleRate {
  double rate = 0, offset = 0;
};
struct SamplePlan {
  SampleRate rate;
  double unit = 1;  ///< variances are in it
  std::vector<std::vector<double>>
      starts;  ///< [tensor][chunk of sum_chunk elements]: the magnitudes before it
};

struct LevelPlan {
  std::vector<LevelTensor> tensors;  ///< of the pool
  uint32_t bucket = 0;  ///< elements that share a scale, counted from the start of each block; 0: the tensor
  BucketNorm norm = BucketNorm::linf;
  bool nearest = false;
  bool count_gaps = false;            ///< LevelSums::gap_bits is wanted
  uint64_t stream = 0;                ///< of the uniform numbers
  std::optional<SamplePlan> samples;  ///< instead of rounding; without buckets
  std::optional<Rotation> rotation;   ///< instead of rounding as it is; with its blocks as buckets
};

/// What rounding a block gives beside its levels. Sums have the order of cpu::error_sums.
struct LevelSums {
  double squared_error = 0, dot = 0, decoded_energy = 0, error_sum = 0,
         max_error = 0;       ///< of values as the dump stores them
  double expected_error = 0;  ///< of stochastic rounding, buckets left to right
  double other_error = 0;     ///< nearest: before the stored type rounds; else: of clipping
  uint64_t gap_bits = 0;      ///< omega codes of the distances between levels that are not 0
  uint32_t nonzeros = 0;
  uint32_t max_key = 0;  ///< 0: all elements are zero
};

/// How a block's levels are stored.
struct LevelLayout {
  bool empty = false;    ///< no bytes at all
  bool numbered = true;  ///< the packer's number and the scales precede the levels
  element::LevelPacker packer = element::LevelPacker::fixed;
  uint32_t width = 0;       ///< of fixed
  uint64_t most_bytes = 0;  ///< never more than these
  // of entropy
  std::string head;  ///< scheme and table
  element::TokenScheme scheme{1, 0};
  uint32_t lanes = 0;  ///< 0: all tokens are the same, nothing is coded
  uint64_t most_words = 0;
  bool signs = false;  ///< both signs occur
  element::RansSymbol symbols[element::rans_max_symbols];
};

/// Decides the layout of block `block` by its sums and counts.
using ChooseLayout =
    std::function<LevelLayout(size_t block, const LevelSums& sums, std::span<const uint32_t> counts)>;

/// Coded level blocks, handed out in order.
class LevelBlocks {
 public:
  virtual ~LevelBlocks() = default;
  /// The next block; its bytes are valid until the next call. `choose` was called for it before.  \throws
  /// DeviceError.
  virtual std::string_view next() = 0;
};
/// Codes `blocks` of at most sum_chunk elements, of samples at most 2^20.  \pre the pool was made by
/// make_pool_values and outlives the result.
std::unique_ptr<LevelBlocks> encode_levels(PoolValues& pool, LevelPlan plan,
                                           std::span<const BlockRange> blocks, ChooseLayout choose);

/// Sums of the magnitudes of every chunk of sum_chunk elements, in pool order, as cpu::sum_in_fours has them.
/// \pre as above
std::vector<double> sums_in_fours(PoolValues& pool);

/// Sums of what is not negative and of what is.
struct SignSums {
  double of[2] = {0, 0};
  uint64_t negatives = 0;
};
/// Of every chunk, in pool order; lanes of 16 as everywhere.  \pre as above
std::vector<SignSums> sums_by_sign(PoolValues& pool);

/// Decodes level blocks of one tensor plan (limit is not used).
class LevelDecoder {
 public:
  /// A block whose head is read: where its parts lie, in bytes from the beginning of all.
  struct Block {
    uint64_t offset = 0;  ///< of its first byte
    uint64_t bytes = 0;
    size_t first = 0;  ///< of its values
    size_t count = 0;
    bool zero = false;  ///< it has no bytes
    bool sound = true;  ///< otherwise it is passed by
    element::LevelPacker packer = element::LevelPacker::fixed;
    uint32_t width = 0;
    uint32_t scales_at = 0, levels_at = 0;  ///< from its first byte
    // of entropy
    element::TokenScheme scheme{1, 0};
    uint32_t lanes = 0;         ///< 0: all tokens are `token`
    uint32_t stream_bytes = 0;  ///< at levels_at; signs and low bits follow
    uint32_t token = 0;
    uint32_t frequencies[element::rans_max_symbols] = {};
  };
  virtual ~LevelDecoder() = default;
  /// sound[i]: whether the values of block i may be used. Not thread-safe.
  virtual void decode(std::string_view bytes, std::span<const Block> blocks, std::span<float> values,
                      std::span<uint8_t> sound) = 0;
};
std::unique_ptr<LevelDecoder> make_level_decoder(const LevelTensor& tensor, uint32_t bucket);

/// Decodes blocks of rotated coordinates of one set of parameters.
class RotationDecoder {
 public:
  struct Block {
    LevelDecoder::Block levels;  ///< `count` with padding, `first` is not used
    size_t first = 0;            ///< of its values
    size_t count = 0;
    uint32_t tensor = 0;         ///< in the archive
    uint64_t first_element = 0;  ///< in storage order
    double length = 0;           ///< of the tensor, with padding
  };
  virtual ~RotationDecoder() = default;
  /// As LevelDecoder::decode.
  virtual void decode(std::string_view bytes, std::span<const Block> blocks, std::span<float> values,
                      std::span<uint8_t> sound) = 0;
};
/// `norm`: of the tensor, where there is no norm of each block.
std::unique_ptr<RotationDecoder> make_rotation_decoder(const Rotation& rotation, float norm);

}  // namespace jsq::cuda

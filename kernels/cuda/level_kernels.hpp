// Launches of the kernels of level blocks. For files of this folder only.
#pragma once

#include "kernels/cuda/class_encode.hpp"
#include "kernels/cuda/levels.hpp"

namespace jsq::cuda {

/// A block to be rounded, and where its levels, scales and counts go.
struct RoundView {
  BlockView block;
  LevelTensor tensor;
  int16_t* levels = nullptr;   ///< aligned to 16 bytes, room for a multiple of 32 of them
  float* scales = nullptr;     ///< one a bucket
  uint32_t* counts = nullptr;  ///< tensor.symbols of them, zeros
};

/// What all blocks of a launch share.
struct RoundPlan {
  uint32_t bucket = 0;
  BucketNorm norm = BucketNorm::linf;
  bool nearest = false;
  bool count_gaps = false;
  uint64_t stream = 0;
};

/// Rounds blocks. All pointers on the device.  \pre most_symbols: the most symbols of a block
void launch_round(const RoundPlan& plan, const RoundView* blocks, uint32_t count, uint32_t most_symbols,
                  LevelSums* sums, const Stream& stream);

/// Scratch memory of the rotations of one stream.
struct RotationRoom {
  DeviceBuffer<float> coordinates;
  DeviceBuffer<double> errors;
};
/// Rotates blocks and rounds them to a table. All pointers on the device.
void launch_rotate(const Rotation& rotation, const RoundPlan& plan, const RoundView* blocks, uint32_t count,
                   LevelSums* sums, RotationRoom& room, const Stream& stream);

/// A piece of a block whose samples are counted: at most sum_chunk elements.
struct PieceView {
  const float* values = nullptr;
  uint32_t count = 0;
  uint32_t first = 0;          ///< index of its first element in the block
  int16_t* levels = nullptr;   ///< aligned to 8 bytes, room for a multiple of 4 of them
  uint32_t* counts = nullptr;  ///< of the block
  double start = 0;            ///< the magnitudes before it
  LevelTensor tensor;
  element::StoredFloat stored = element::StoredFloat::whole;
};
struct PieceSums {
  LevelSums sums;  ///< gap_bits without those of its first level that is not 0
  uint32_t first = 0,
           last = 0;  ///< 1 + index in the block of the first and last level that is not 0; 0 for none
};
/// Counts samples. All pointers on the device.
void launch_sample(const PieceView* pieces, uint32_t count, const SampleRate& rate, PieceSums* sums,
                   const Stream& stream);

/// Levels to be packed, and where the bytes go.
struct PackView {
  const int16_t* levels = nullptr;
  const float* scales = nullptr;
  uint32_t* out = nullptr;        ///< whole words
  uint16_t* words = nullptr;      ///< room of the entropy coder
  const uint8_t* head = nullptr;  ///< of entropy
  uint32_t count = 0, scale_count = 0;
  uint32_t most_bytes = 0, most_words = 0;
  uint32_t head_bytes = 0;
  uint32_t nonzeros = 0;
  int32_t low = 0;
  uint32_t width = 0;
  uint32_t lanes = 0;
  element::TokenScheme scheme{1, 0};
  element::LevelPacker packer = element::LevelPacker::fixed;
  bool numbered = true, signs = false;
  element::RansSymbol symbols[element::rans_max_symbols];
};
/// bytes[i]: what block i took.
void launch_pack(const PackView* blocks, uint32_t count, uint32_t* bytes, const Stream& stream);

/// The decoder of level blocks between places in device memory.
class LevelUnpacker {
 public:
  /// As make_level_decoder has them.
  LevelUnpacker(const LevelTensor& tensor, uint32_t bucket);
  ~LevelUnpacker();
  /// `values` and `sound` (one a block) as LevelDecoder::decode leaves them. All pointers on the device;
  /// `bytes` has whole words.
  void launch(const uint8_t* bytes, std::span<const LevelDecoder::Block> blocks, float* values,
              uint8_t* sound, const Stream& stream);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace jsq::cuda

// Dense blocks on the device: every element in two or four bytes. Beside device.hpp, so that only dense
// methods see it.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "kernels/cuda/device.hpp"

namespace jsq::cuda {

/// How an element is coded: whole is f32.
using DenseFormat = element::StoredFloat;

/// What coding a dense block gives beside its bytes. Sums have the order of cpu::error_sums.
struct DenseSums {
  double squared_error = 0, dot = 0, decoded_energy = 0, error_sum = 0,
         max_error = 0;            ///< of values as the dump stores them
  double coded_squared_error = 0;  ///< before the stored type rounds
  bool zero = false;               ///< all bytes are 0
};

/// Coded dense blocks, handed out in order.
class DenseBlocks {
 public:
  virtual ~DenseBlocks() = default;
  /// The next block; its bytes are valid until the next call.  \throws DeviceError.
  virtual std::string_view next(DenseSums& sums) = 0;
};
/// Codes `blocks` of at most sum_chunk elements.  \pre the pool was made by make_pool_values and outlives the
/// result.
std::unique_ptr<DenseBlocks> encode_dense(PoolValues& pool, DenseFormat format,
                                          std::span<const BlockRange> blocks);

/// Decodes elements of a format into f32; returns whether all of them are finite.
class DenseDecoder {
 public:
  virtual ~DenseDecoder() = default;
  struct Block {
    uint64_t offset = 0;  ///< in the bytes
    size_t first = 0;     ///< of its values
    size_t count = 0;     ///< 0: nothing to do
    bool zero = false;    ///< it has no bytes
  };
  /// finite[i]: block i has finite values only. Not thread-safe.
  virtual void decode(std::string_view bytes, std::span<const Block> blocks, std::span<float> values,
                      std::span<uint8_t> finite) = 0;
};
std::unique_ptr<DenseDecoder> make_dense_decoder(DenseFormat format);

}  // namespace jsq::cuda

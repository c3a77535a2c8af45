// Signs of which a group shares two means (onebit) on the device: sums of groups in storage order, blocks of
// signs with the errors of what they decode to, and their decoder. Beside device.hpp, so that only onebit
// sees it.
#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "kernels/cuda/levels.hpp"

namespace jsq::cuda {

/// Which group an element of a tensor belongs to: index / period, or with `interleaved` modulo period.
/// Buckets begin anew with every block, and are counted there.
struct SignGroups {
  uint64_t groups = 1, period = UINT64_MAX;
  bool interleaved = false;
  uint32_t bucket = 0;  ///< instead of all others, where it is not 0
};

/// What the signs of a group stand for.
struct SignMeans {
  float positive = 0, negative = 0;
};

/// By group of a whole tensor; each is added in storage order.  \throws DeviceError
std::vector<SignSums> group_sums(PoolValues& pool, size_t tensor, const SignGroups& groups);
/// By bucket of these blocks of one tensor, one block after the other.  \throws DeviceError
std::vector<SignSums> bucket_sums(PoolValues& pool, uint32_t bucket, std::span<const BlockRange> blocks);

/// Blocks of signs, one bit for each, the first in the highest bit of a byte.
struct SignBlocks {
  std::vector<LevelSums> sums;  ///< `nonzeros`: how many are negative
  std::vector<uint32_t> bits;   ///< bytes of block b from word b x words on
  size_t words = 0;
};
/// Of blocks of one tensor of at most sum_chunk elements. `means`: of all groups of the tensor, or of the
/// buckets of these blocks.  \throws DeviceError
SignBlocks code_signs(PoolValues& pool, const SignGroups& groups, std::span<const SignMeans> means,
                      std::span<const BlockRange> blocks);

/// Decodes blocks of signs of one parameter set.
class SignDecoder {
 public:
  struct Block {
    uint64_t offset = 0;  ///< of its first byte; the means of its buckets precede its signs
    uint64_t bytes = 0;
    size_t first = 0;  ///< of its values
    size_t count = 0;
    uint64_t first_element = 0;
    SignGroups groups;
    bool zero = false;  ///< it has no bytes
    bool sound = true;  ///< otherwise it is passed by
  };
  virtual ~SignDecoder() = default;
  /// sound[i]: whether the values of block i may be used. Not thread-safe.
  virtual void decode(std::string_view bytes, std::span<const Block> blocks, std::span<float> values,
                      std::span<uint8_t> sound) = 0;
};
/// `means`: of all groups; empty where groups are buckets.
std::unique_ptr<SignDecoder> make_sign_decoder(std::span<const SignMeans> means);

}  // namespace jsq::cuda

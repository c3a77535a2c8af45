// A method with one size parameter (bits, levels, kept elements, rank), or none: given the size it codes
// blocks, and sized_encoder.cpp finds the size that a target asks for. What a scheme decodes to is measured,
// never modelled.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/cuda/device.hpp"
#include "lib/methods/method.hpp"

namespace jsq {

/// The sizes that can be chosen. A larger one means more bytes and less error. The native one is that of the
/// options, or the paper's where they leave it open.
struct SizeRange {
  uint64_t least = 0;
  uint64_t most = 0;
  uint64_t native = 0;
};

/// A block of a pool: its tensor there, its first element and their number.
using PoolBlock = cuda::BlockRange;

/// Every block, or with `wanted` elements below the pool's every n-th one so that about as many are there.
std::vector<PoolBlock> pool_blocks(const TensorPool& pool, uint8_t block_log2, uint64_t wanted = UINT64_MAX);

class Scheme {
 public:
  virtual ~Scheme() = default;
  virtual SizeRange sizes() const = 0;
  /// Prepares coding at `size`. With `draft`, only the blocks of pool_blocks(pool, block_log2(),
  /// draft_elements) will be encoded, so that statistics may be gathered from them alone.
  virtual void set_size(uint64_t size, bool draft) = 0;
  /// Only what stored_set() and block_log2() say of a size, but for tables that a set may hold: what a
  /// frame's directory needs before a search has found the size to prepare.
  virtual void outline(uint64_t size) { set_size(size, false); }
  virtual StoredSet stored_set(size_t t) const = 0;
  /// log2 of the elements in a block, 16..20; may depend on the size.
  virtual uint8_t block_log2() const { return 16; }

  /// Appends the block's code and writes what a decoder makes of it (before the stored dtype rounds it). Of
  /// `sums` it adds nominal_bits, entropy_bits and, unless it is deterministic, expected_error. Nothing
  /// appended means that the block decodes to zeros. `decoded` empty: nobody asks for it, nor of `sums` for
  /// more than nominal_bits.
  virtual void encode(size_t t, const BlockPlace& place, std::span<const float> values, std::string& out,
                      std::span<float> decoded, BlockSums& sums) const = 0;

  /// All blocks of the pool from the device, their sums complete; null where the scheme has no such path.
  virtual std::unique_ptr<DeviceBlocks> encode_on_device(const TensorPool& pool) const;

  /// Whether nothing is drawn: what is expected of the error is what is measured of it.
  virtual bool deterministic() const { return false; }

  /// Whether some of the blocks tell what all of them take. Where they do not, since tensors differ much or
  /// preparing takes longer than coding, a search codes the whole pool.
  virtual bool drafts() const { return true; }

  /// How much more code some blocks hold than as many elements of the pool do on average, as far as that is
  /// known beforehand: a draft's bytes stand for so much more.
  virtual double draft_weight(std::span<const PoolBlock> /*draft*/) const { return 1; }

  /// Bytes that the blocks, those of a draft or all, take whatever is in them. Drafts may have smaller
  /// blocks.
  virtual double fixed_bytes(bool /*draft*/) const { return 0; }

  /// What all blocks take at the size that is prepared, where preparing it has counted them.
  virtual std::optional<double> told_bytes() const { return std::nullopt; }

  /// What the report of a pool says beyond the sums.
  virtual void describe(PoolReport& report) const;
  virtual void save(State& state) const;

  /// Elements that a draft looks at.
  static constexpr uint64_t draft_elements = 1u << 16;
};

}  // namespace jsq

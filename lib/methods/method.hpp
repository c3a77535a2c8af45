// What a method implements: an encoder for one pool of tensors under one budget, a decoder from stored parameters.
// One virtual call a block, never one an element.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "jsq/compress.hpp"
#include "jsq/method.hpp"
#include "lib/core/block_sums.hpp"
#include "lib/core/pool.hpp"

namespace jsq {

/// Beside the method's own options.
struct EncoderContext {
  Rounding rounding = Rounding::automatic;
  uint64_t seed = 0;
};

/// Encodes one pool. Aim first (as often as wanted), then ask for parameters, blocks and the report.
class MethodEncoder {
 public:
  virtual ~MethodEncoder() = default;

  /// Chooses what is expected to take at most `body_bytes` for blocks and parameters, as close to it as the method can.
  /// Returns the expected bytes. A pool that cannot fit is dropped (all blocks empty).
  virtual uint64_t aim_bytes(uint64_t body_bytes) = 0;
  /// The papers' accounting: at most this many payload bits.  \throws Error unreachable_target.
  virtual void aim_payload_bits(uint64_t payload_bits) = 0;
  /// The fewest bytes whose error is at most `target` (nmse, maxabs or hprime).  \throws Error unreachable_target.
  virtual void aim_error(const Target& target) = 0;

  /// Bytes that a decoder needs beside the blocks; stored once for the pool.
  virtual std::string parameters() const = 0;
  virtual uint8_t block_log2() const = 0;
  /// Appends the block that starts at element `first` of pool tensor t; nothing appended means all zeros. `sums` receives
  /// the errors of the decoded values, rounded to the tensor's stored dtype. Thread-safe.
  virtual void encode_block(size_t t, uint64_t first, std::span<const float> values, std::string& out,
                            BlockSums& sums) const = 0;

  /// `total`: the sums of all blocks.
  virtual PoolReport report(const BlockSums& total) const = 0;
};

class MethodDecoder {
 public:
  virtual ~MethodDecoder() = default;
  /// Decodes one non-empty block.  \throws Error damaged, naming `what`. Thread-safe.
  virtual void decode_block(std::string_view block, std::span<float> values, std::string_view what) const = 0;
  /// "jointsq:alloc=exact,quant=cell": the method and the options that its parameters record.
  virtual std::string describe() const = 0;
};

/// One row of the registry.
struct MethodRow {
  MethodInfo info;
  std::unique_ptr<MethodEncoder> (*make_encoder)(const TensorPool& pool, const MethodSpec& spec, const EncoderContext& context);
  std::unique_ptr<MethodDecoder> (*make_decoder)(std::string_view parameters, std::string_view what);
};

/// \throws Error unknown_name.
const MethodRow& method_row(std::string_view name);
/// \throws Error newer_format: a method id this jsq does not know.
const MethodRow& method_with_id(uint32_t wire_id);

/// The rows' definitions, one file each.
extern const MethodRow jointsq_row;

}  // namespace jsq

// What a method implements: an encoder for one pool of tensors under one budget, a decoder from stored
// parameters. One virtual call a block, never one an element. Methods with one size parameter implement
// Scheme (scheme.hpp) instead.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "jsq/compress.hpp"
#include "jsq/method.hpp"
#include "lib/core/block_sums.hpp"
#include "lib/core/pool.hpp"

namespace jsq {

class Endpoint;
class Scheme;
class State;
struct EndpointContext;
struct TensorCoding;

/// Beside the method's own options.
struct EncoderContext {
  Rounding rounding = Rounding::automatic;
  uint64_t seed = 0;             ///< the frame's, which decoders know and all workers share
  uint64_t stream = 0;           ///< the worker's own, for random numbers that only the encoder needs
  const State* state = nullptr;  ///< of the step before; null in a single shot
};

/// What a block's random positions, matrix views and cutoffs depend on.
struct BlockPlace {
  uint32_t tensor = 0;               ///< number in the archive
  uint64_t first = 0;                ///< index of the block's first element, in storage order
  const TensorInfo* info = nullptr;  ///< of the whole tensor
  uint64_t seed = 0;                 ///< the frame's
};

/// What a frame stores beside a tensor's blocks. Tensors with equal sets share one.
struct StoredSet {
  uint32_t method_id = 0;
  std::string parameters;
};

/// The blocks of a pool, coded on the device: handed out in order, while the device works on the next ones.
class DeviceBlocks {
 public:
  virtual ~DeviceBlocks() = default;
  /// Appends the next block, as encode_block would.  \throws Error backend_unavailable.
  virtual void next(std::string& out, BlockSums& sums) = 0;
};

/// Encodes one pool. Aim first (as often as wanted), then ask for parameters, blocks and the report.
class MethodEncoder {
 public:
  virtual ~MethodEncoder() = default;

  /// The size that the options name, or the paper's.
  virtual void aim_native() = 0;
  /// Divides tensors into blocks as an aim at about so many bytes will, where that is known before: the frame
  /// has to store something of every block.
  virtual void shape_blocks(uint64_t body_bytes);
  /// Whether tensor t takes blocks, as far as is known after shape_blocks(): a parameter set may hold it.
  virtual bool takes_blocks(size_t t) const;
  /// Chooses what is expected to take at most `body_bytes` for blocks and parameters, as close to it as the
  /// method can. Returns the expected bytes, which exceed `body_bytes` where nothing fits.
  virtual uint64_t aim_bytes(uint64_t body_bytes) = 0;
  /// What blocks and parameters really took after the last aim_bytes. Returns whether the next one will be
  /// right because of it; otherwise it is as far off as the last.
  virtual bool learn(uint64_t body_bytes);
  /// A block as it was coded after the last aim.
  struct TakenBlock {
    size_t tensor = 0;  ///< of the pool
    uint64_t first = 0;
    uint64_t bytes = 0;
  };
  /// A finer aim than aim_bytes() can take beforehand: chooses other ways to code the last blocks, so that
  /// all of them, which took `taken`, and the set are expected to take `more` bytes more (fewer where
  /// negative). Blocks before these stay valid with the new set. Returns how many stay; nothing where the
  /// method cannot. May be asked again, with what the last blocks took then.
  virtual std::optional<size_t> aim_tail(double more, std::span<const TakenBlock> taken);
  /// The papers' accounting: at most this many payload bits.  \throws Error unreachable_target.
  virtual void aim_payload_bits(uint64_t payload_bits) = 0;
  /// The fewest bytes whose error is at most `target` (nmse, maxabs or hprime).  \throws Error
  /// unreachable_target.
  virtual void aim_error(const Target& target) = 0;

  /// What decoders of tensor t need beside its blocks.
  virtual StoredSet stored_set(size_t t) const = 0;
  virtual uint8_t block_log2(size_t t) const = 0;
  /// Appends the block that starts at element `first` of pool tensor t; nothing appended means all zeros.
  /// `sums` receives the errors of the decoded values, rounded to the tensor's stored dtype. Thread-safe.
  virtual void encode_block(size_t t, uint64_t first, std::span<const float> values, std::string& out,
                            BlockSums& sums) const = 0;
  /// The same bytes for who asks for no errors: nothing of `sums` but nominal_bits and members need be right.
  virtual void encode_unmeasured(size_t t, uint64_t first, std::span<const float> values, std::string& out,
                                 BlockSums& sums) const;
  /// Values of a tensor of the pool that become a block, from its element `first` on, and what receives it.
  struct Uncoded {
    size_t tensor = 0;
    uint64_t first = 0;
    std::span<const float> values;
    std::string* out = nullptr;
    BlockSums* sums = nullptr;
  };
  /// How many blocks, those of tensor t among them, encode_together() had better be given at once.
  virtual size_t blocks_together(size_t t) const;
  /// encode_block() or, where not `measured`, encode_unmeasured() of each; blocks coded side by side can be
  /// faster. Thread-safe.  \pre at most blocks_together() of any of their tensors
  virtual void encode_together(std::span<const Uncoded> blocks, bool measured) const;
  /// All blocks of the pool, tensor by tensor, from the device; null where the pool is not there or the
  /// method has no such path.
  virtual std::unique_ptr<DeviceBlocks> encode_on_device() const;
  /// Whether the processor codes the blocks where the pool is on a device.
  virtual bool codes_on_processor() const { return false; }

  /// `total`: the sums of all blocks.
  virtual PoolReport report(const BlockSums& total) const = 0;

  /// Leaves what the next step needs beyond feedback (factors, parity) in `state`.
  virtual void save(State& state) const;
};

/// Decodes many blocks of one parameter set at once. Not thread-safe.
class DeviceBlockDecoder {
 public:
  struct Block {
    uint64_t offset = 0;  ///< in the bytes
    uint64_t bytes = 0;   ///< 0: all zeros
    size_t first = 0;     ///< of its values
    size_t count = 0;
    BlockPlace place;
  };
  virtual ~DeviceBlockDecoder() = default;
  /// sound[i] tells whether the values of block i may be used; where not, decode_block says what is wrong
  /// with it.
  virtual void decode(std::string_view bytes, std::span<const Block> blocks, std::span<float> values,
                      std::span<uint8_t> sound) = 0;
};

/// A block that is not empty, the values that it decodes to, and what errors call it.
struct StoredBlock {
  BlockPlace place;
  std::string_view bytes;
  std::span<float> values;
  std::string_view what;
};

class MethodDecoder {
 public:
  virtual ~MethodDecoder() = default;
  /// The same on the device; null where the method has no such path.  \throws Error backend_unavailable.
  virtual std::unique_ptr<DeviceBlockDecoder> device_decoder() const;
  /// Decodes one non-empty block.  \throws Error damaged, naming `what`. Thread-safe.
  virtual void decode_block(const BlockPlace& place, std::string_view block, std::span<float> values,
                            std::string_view what) const = 0;
  /// How many blocks decode_together() had better be given at once.
  virtual size_t blocks_together() const;
  /// decode_block() of each; blocks decoded side by side can be faster. Thread-safe.  \pre at most
  /// blocks_together()
  virtual void decode_together(std::span<const StoredBlock> blocks) const;
  /// Told once, before anything is decoded, which tensors use the parameter set, in order, for methods that
  /// keep tensors in it.  \throws Error damaged.
  virtual void bind(std::span<const BlockPlace> tensors);
  /// The values of a block without bytes: zeros, unless bind() found them in the parameter set. Thread-safe.
  virtual void decode_empty(const BlockPlace& place, std::span<float> values) const;
  /// "jointsq:alloc=exact,quant=cell": the method and the options that its parameters record.
  virtual std::string describe() const = 0;
  /// Whether coding() tells what bits are for.
  virtual bool tells_coding() const { return false; }
  /// What the bits of a whole tensor are for, from all of its blocks. Thread-safe.  \throws Error damaged,
  /// naming `what`.
  virtual TensorCoding coding(const BlockPlace& tensor, uint8_t block_log2,
                              std::span<const std::string_view> blocks, std::string_view what) const;
};

/// One row of the registry. A row has make_scheme or, when it is no such method, its own make_encoder.
struct MethodRow {
  MethodInfo info;
  std::unique_ptr<Scheme> (*make_scheme)(const TensorPool& pool, const MethodSpec& spec,
                                         const EncoderContext& context);
  std::unique_ptr<MethodEncoder> (*make_encoder)(const TensorPool& pool, const MethodSpec& spec,
                                                 const EncoderContext& context);
  std::unique_ptr<MethodDecoder> (*make_decoder)(std::string_view parameters, std::string_view what);
  /// One worker's side of the allreduce in the code domain; null: messages are gathered, decoded and
  /// averaged.
  std::unique_ptr<Endpoint> (*make_endpoint)(const MethodSpec& spec, const EndpointContext& context,
                                             std::span<const float> values) = nullptr;
  bool packs = false;  ///< parameter sets may hold tensors: blocks without bytes are asked of the decoder too
  bool ranks =
      false;  ///< looks at the magnitudes of a pool by rank, so that their histogram is wanted at once
  /// The share of the elements, the largest, whose ranks matter to a budget of so many bits an element: an
  /// estimate, not too low in general. Null: all of them.
  double (*ranked_share)(const MethodSpec& spec, double bits) = nullptr;
};

/// The row's encoder; a scheme is wrapped by the search for its size.
std::unique_ptr<MethodEncoder> make_encoder(const MethodRow& row, const TensorPool& pool,
                                            const MethodSpec& spec, const EncoderContext& context);

/// \throws Error unknown_name.
const MethodRow& method_row(std::string_view name);
/// \throws Error newer_format: a method id this jsq does not know.
const MethodRow& method_with_id(uint32_t wire_id);
/// Whether this jsq knows the id, of a method whose parameter sets may hold tensors.
bool method_packs(uint32_t wire_id);

/// The rows' definitions, one file each.
extern const MethodRow fp32_row, fp16_row, bf16_row, qsgd_row, nuqsgd_row, natural_row, terngrad_row,
    signsgd_row, ef_signsgd_row, onebit_row, topk_row, randk_row, dgc_row, qlsgd_row, acsgd_row, mcgq_row,
    gqsgd_std_row, gqsgd_exp_row, thc_row, powersgd_row, acpsgd_row, lgreco_row, jointsq_row, rdoq_row;

}  // namespace jsq

// Read a frame: its directory, its blocks, whole tensors or slices of them. The format is formats/SPEC.md.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "jsq/backend.hpp"
#include "jsq/export.hpp"
#include "jsq/gradients.hpp"
#include "jsq/tensor.hpp"

namespace jsq {

/// One dump inside an archive.
struct FrameDump {
  std::string path;
  DumpInfo dump;
  size_t first_tensor = 0, tensor_count = 0;
};

/// One tensor of a frame, as its directory describes it.
struct FrameTensor {
  TensorInfo info;
  uint32_t dump = 0;
  uint32_t method_id = 0;
  uint32_t parameter_set = 0;
  uint8_t block_log2 = 16;            ///< blocks hold 2^block_log2 elements, the last one the rest
  std::vector<uint64_t> block_bytes;  ///< payload bytes of each block, without its checksum; 0: all zeros
  uint64_t first_byte = 0;            ///< file offset of the first block
  uint8_t nonfinite_policy = 0;       ///< 0 none met, 1 replaced by zero, 2 kept
  uint64_t nonfinite_count = 0;
  uint64_t exception_bytes = 0;  ///< stored bytes of the kept non-finite elements
};

/// Bytes of a frame by what they are for.
struct FrameSizes {
  uint64_t file = 0, header = 0, blocks = 0, checksums = 0, exceptions = 0, directory = 0, parameters = 0,
           footer = 0;
};

/// What the bits of one layer are for, as ideal code lengths.
struct LayerCoding {
  std::vector<uint64_t> shape;
  bool cosine = false;  ///< kernels are in the cosine domain
  uint32_t rank = 0;    ///< of its low-rank prediction; 0: there is none
  double factor_bits = 0;
  double scale_bits = 0;     ///< of rows, columns, runs and places in a kernel
  double residual_bits = 0;  ///< of the levels: what transforms leave
};
/// What a tensor's bits are for, of methods that tell.
struct TensorCoding {
  std::vector<LayerCoding> layers;  ///< of a flat tensor, or the tensor itself
  double table_bits = 0;            ///< of its parameter set, whose tensors share them
};

struct BlockDamage {
  size_t tensor = 0;
  size_t block = 0;           ///< number of blocks for the exception record
  uint64_t offset_bytes = 0;  ///< file offset of the damaged block
  std::string message;
};

class FrameReader;
JSQ_API void read_to_device(const FrameReader& reader, size_t tensor, uint64_t first, uint64_t count,
                            float* device, void* stream);

/// An open frame. Const members are thread-safe.
class JSQ_API FrameReader {
 public:
  /// Opens a frame file ('-': standard input, spooled).  \throws Error not_found, read_failed, damaged,
  /// newer_format, limit.
  static FrameReader open(const std::string& path);
  /// A frame in memory, which must outlive the reader.
  static FrameReader from_bytes(std::string_view bytes, std::string name = "frame");
  FrameReader(FrameReader&&) noexcept;
  FrameReader& operator=(FrameReader&&) noexcept;
  ~FrameReader();

  /// Who decodes from now on: the processor, unless cuda is asked for, since values that the device decodes
  /// have yet to be brought to the host (read_to_device() leaves them there). Values do not depend on it.
  /// \throws Error backend_unavailable: cuda was asked for, and the machine cannot. Where a tensor's method
  /// cannot, reading it throws that.
  void use(Backend backend);

  const std::vector<FrameDump>& dumps() const;
  const std::vector<FrameTensor>& tensors() const;
  const std::vector<std::pair<std::string, std::string>>& metadata() const;
  uint64_t seed() const;
  FrameSizes sizes() const;
  /// Index of the tensor named `name` ("path::name" where several dumps hold it). \throws Error unknown_name.
  size_t find(std::string_view name) const;
  /// Name of a tensor's method and the options its parameters record ("jointsq:alloc=exact,quant=cell").
  std::string method_of(size_t tensor) const;
  /// What the tensor's bits are for, found by decoding it; nothing where its method does not tell.
  /// O(elements). \throws Error damaged.
  std::optional<TensorCoding> coding_of(size_t tensor) const;

  /// Values [first, first + values.size()) of a tensor, storage order, decoded from the blocks that hold
  /// them. Non-finite elements that were kept are restored. `threads`: at most that many, 0 for all cores.
  /// O(blocks touched). \throws Error damaged, usage (beyond the tensor).
  void read(size_t tensor, uint64_t first, std::span<float> values, unsigned threads = 0) const;
  /// The values of tensors [first, first + count), one after the other, as read() gives them; faster where
  /// they are short, since several are decoded side by side.  \throws Error as read(), and usage where there
  /// are not as many tensors or `values` is not as long as they are.
  void read_tensors(size_t first, size_t count, std::span<float> values, unsigned threads = 0) const;
  /// The same as little-endian stored bytes of the tensor's dtype; kept non-finite elements with every bit.
  void read_stored(size_t tensor, uint64_t first, uint64_t count, std::span<std::byte> out,
                   unsigned threads = 0) const;

  /// How many elements of a tensor had better be read at once where it is read piece by piece, by so many
  /// workers: whole blocks, which are decoded side by side, or in one go on a device.
  uint64_t elements_together(size_t tensor, size_t workers) const;

  /// Writes dump `dump` to `sink` with several threads and bounded memory.
  void write_dump(size_t dump, GradientSink& sink, unsigned threads = 0) const;

  /// Checks every block's checksum and, unless `quick`, decodes it. Returns what is damaged, in file order.
  std::vector<BlockDamage> test(bool quick, unsigned threads = 0) const;

 private:
  struct State;
  explicit FrameReader(std::unique_ptr<State> state);
  friend void read_to_device(const FrameReader& reader, size_t tensor, uint64_t first, uint64_t count,
                             float* device, void* stream);
  std::unique_ptr<State> state_;
};

/// First bytes of every frame.
constexpr std::string_view frame_magic = "JSQ\x1a";

}  // namespace jsq

#include "lib/methods/rdoq_device_decoder.hpp"

#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <string>
#include <vector>

#include "jsq/error.hpp"
#include "lib/core/device.hpp"
#include "lib/packers/context_device.hpp"

namespace jsq {
namespace {

class RdoqDeviceDecoder final : public DeviceBlockDecoder {
 public:
  RdoqDeviceDecoder(const RdoqParameters& parameters, PackedValues packed)
      : parameters_(parameters),
        packed_(std::move(packed)),
        decoder_(on_device([&] { return cuda::make_context_decoder(device_tables(parameters.coder)); })) {}

  void decode(std::string_view bytes, std::span<const Block> blocks, std::span<float> values,
              std::span<uint8_t> sound) override {
    std::vector<Head> heads(blocks.size());
    // On its own: a thread that waits takes up nothing else, whose buffers are the thread's.
    tbb::this_task_arena::isolate([&] {
      tbb::parallel_for(size_t(0), blocks.size(), [&](size_t b) { read_head(bytes, blocks[b], heads[b]); });
    });
    std::vector<cuda::ContextDecoder::Block> wanted;
    cuda::ContextDecoder::Contexts contexts;
    for (Head& head : heads) {
      wanted.push_back(head.block);
      contexts.append(head.contexts);
    }
    on_device([&] { decoder_->decode(bytes, wanted, contexts, values, sound); });
  }

 private:
  struct Head {
    cuda::ContextDecoder::Block block;
    cuda::ContextDecoder::Contexts contexts;
  };

  /// What precedes a block's elements.
  void read_head(std::string_view bytes, const Block& block, Head& head) const {
    head.block.offset = block.offset;
    head.block.bytes = block.bytes;
    head.block.first = block.first;
    head.block.count = block.count;
    head.block.zero = block.bytes == 0;
    if (block.bytes == 0) {
      head.block.given = packed_(block.place, block.count);
      return;
    }
    try {
      const std::string_view stream = bytes.substr(size_t(block.offset), size_t(block.bytes));
      ContextReader in(parameters_.coder, stream, "the block");
      ScaleCodec codec;
      const TensorRange range{block.place.tensor, block.place.info, block.place.first, block.count};
      size_t at = block.first;
      read_pieces(parameters_, range, in, codec, "the block", [&](const StoredPiece& stored) {
        add_device_piece(head.contexts, at, stored.piece, stored.layout, stored.rows, stored.columns);
        at += stored.piece.count;
      });
      head.block.lanes = uint32_t(in.states().size());
      std::copy(in.states().begin(), in.states().end(), head.block.states);
      // Words that were read beyond the end are missing.
      head.block.sound = in.position() <= stream.size();
      head.block.words_at = uint32_t(in.position());
    } catch (const Error&) {
      head.block.sound = false;  // the processor's decoder tells what is wrong
    }
    if (!head.block.sound) head.contexts = {};
  }

  const RdoqParameters& parameters_;
  PackedValues packed_;
  std::unique_ptr<cuda::ContextDecoder> decoder_;
};

}  // namespace

bool decodes_on_device(const RdoqParameters& parameters) {
  return !parameters.has_transforms;
}

std::unique_ptr<DeviceBlockDecoder> make_rdoq_device_decoder(const RdoqParameters& parameters,
                                                             PackedValues packed) {
  return std::make_unique<RdoqDeviceDecoder>(parameters, std::move(packed));
}

}  // namespace jsq

// Blocks of levels on the device, for any method whose blocks are levels: heads are read here, the rest
// there.
#pragma once

#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "kernels/cuda/levels.hpp"
#include "lib/core/device.hpp"
#include "lib/methods/method.hpp"

namespace jsq {

class LevelDeviceDecoder final : public DeviceBlockDecoder {
 public:
  /// Tells from a block's bytes where its parts lie; offset, bytes, first and count are set.
  using ReadHead = std::function<void(std::string_view block, cuda::LevelDecoder::Block& head)>;

  /// \throws Error backend_unavailable.
  LevelDeviceDecoder(const cuda::LevelTensor& tensor, uint32_t bucket, ReadHead read_head)
      : read_head_(std::move(read_head)),
        decoder_(on_device([&] { return cuda::make_level_decoder(tensor, bucket); })) {}

  void decode(std::string_view bytes, std::span<const Block> blocks, std::span<float> values,
              std::span<uint8_t> sound) override {
    std::vector<cuda::LevelDecoder::Block> heads;
    for (const Block& block : blocks) {
      cuda::LevelDecoder::Block& head = heads.emplace_back();
      head.offset = block.offset;
      head.bytes = block.bytes;
      head.first = block.first;
      head.count = block.count;
      head.zero = block.bytes == 0;
      if (!head.zero) read_head_(bytes.substr(size_t(block.offset), size_t(block.bytes)), head);
    }
    on_device([&] { decoder_->decode(bytes, heads, values, sound); });
  }

 private:
  ReadHead read_head_;
  std::unique_ptr<cuda::LevelDecoder> decoder_;
};

}  // namespace jsq

// Class blocks decoded on the device, for any method whose blocks are nothing else.
#pragma once

#include <memory>
#include <vector>

#include "lib/core/device.hpp"
#include "lib/methods/method.hpp"
#include "lib/packers/class_device.hpp"

namespace jsq {

class ClassDeviceDecoder final : public DeviceBlockDecoder {
 public:
  /// \throws Error backend_unavailable.
  explicit ClassDeviceDecoder(const ClassCoder& coder) : decoder_(make_device_decoder(coder)) {}

  void decode(std::string_view bytes, std::span<const Block> blocks, std::span<float> values,
              std::span<uint8_t> sound) override {
    std::vector<cuda::ClassDecoder::Block> wanted;
    for (const Block& block : blocks) wanted.push_back({block.offset, block.bytes, block.first, block.count});
    on_device([&] { decoder_->decode(bytes, wanted, values, sound); });
  }

 private:
  std::unique_ptr<cuda::ClassDecoder> decoder_;
};

}  // namespace jsq

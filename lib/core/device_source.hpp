// A dump whose tensors lie in device memory.
#pragma once

#include <mutex>

#include "jsq/device.hpp"

namespace jsq {

class DeviceSource final : public GradientSource {
 public:
  /// As a dump of this kind.
  DeviceSource(std::vector<DeviceTensor> tensors, DumpInfo dump);
  const DumpInfo& dump() const override { return dump_; }
  const std::vector<TensorInfo>& tensors() const override { return infos_; }
  std::span<const float> read(size_t tensor, uint64_t first, size_t count,
                              std::vector<float>& scratch) const override;
  void read_stored(size_t tensor, uint64_t first, size_t count, std::byte* out) const override;

  /// The tensor's values on the device, as f32: where they lie, or in a copy of other types that is made
  /// here. Thread-safe.  \throws Error backend_unavailable.
  const float* values(size_t tensor) const;

 private:
  const std::byte* element(size_t tensor, uint64_t index) const;

  std::vector<DeviceTensor> tensors_;
  mutable std::mutex mutex_;
  mutable std::vector<std::shared_ptr<void>> widened_;
  std::vector<TensorInfo> infos_;
  DumpInfo dump_;
};

}  // namespace jsq

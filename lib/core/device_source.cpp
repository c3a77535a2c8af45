#include "lib/core/device_source.hpp"

#include <string>

#include "jsq/error.hpp"
#include "kernels/cuda/user_memory.hpp"
#include "lib/core/device.hpp"
#include "lib/core/stored_values.hpp"

namespace jsq {

DeviceSource::DeviceSource(std::vector<DeviceTensor> tensors, DumpInfo dump)
    : tensors_(std::move(tensors)), dump_(std::move(dump)) {
  for (const DeviceTensor& tensor : tensors_) {
    const DType dtype = tensor.info.dtype;
    if ((dtype != DType::f32 && dtype != DType::f16 && dtype != DType::bf16) || tensor.info.big_endian)
      throw Error(Errc::unsupported_dtype,
                  "tensor '" + tensor.info.name +
                      "' in device memory: expected f32, f16 or bf16 of this machine; convert it there");
    if (tensor.data == nullptr && tensor.info.elements() > 0)
      throw Error(Errc::usage, "tensor '" + tensor.info.name +
                                   "' in device memory: the pointer is null and " +
                                   std::to_string(tensor.info.elements()) + " elements are expected");
    infos_.push_back(tensor.info);
  }
  widened_.resize(tensors_.size());
}

const std::byte* DeviceSource::element(size_t tensor, uint64_t index) const {
  return static_cast<const std::byte*>(tensors_[tensor].data) + index * dtype_bytes(infos_[tensor].dtype);
}

const float* DeviceSource::values(size_t tensor) const {
  const TensorInfo& info = infos_[tensor];
  if (info.dtype == DType::f32) return static_cast<const float*>(tensors_[tensor].data);
  const std::lock_guard lock(mutex_);
  std::shared_ptr<void>& widened = widened_[tensor];
  if (!widened)
    widened = on_device(
        [&] { return cuda::widen(tensors_[tensor].data, stored_float(info.dtype), info.elements()); });
  return static_cast<const float*>(widened.get());
}

std::span<const float> DeviceSource::read(size_t tensor, uint64_t first, size_t count,
                                          std::vector<float>& scratch) const {
  scratch.resize(count);
  const DType dtype = infos_[tensor].dtype;
  if (dtype == DType::f32) {
    read_stored(tensor, first, count, reinterpret_cast<std::byte*>(scratch.data()));
    return scratch;
  }
  std::vector<std::byte> stored(count * dtype_bytes(dtype));
  read_stored(tensor, first, count, stored.data());
  decode_elements(dtype, false, stored.data(), scratch);
  return scratch;
}

void DeviceSource::read_stored(size_t tensor, uint64_t first, size_t count, std::byte* out) const {
  on_device(
      [&] { cuda::copy_from_user(out, element(tensor, first), count * dtype_bytes(infos_[tensor].dtype)); });
}

std::shared_ptr<const GradientSource> device_source(std::vector<DeviceTensor> tensors, DeviceStream stream) {
  require_backend("cuda");
  DumpInfo dump;
  dump.format = tensors.size() == 1 ? DumpFormat::npy : DumpFormat::npz;
  auto source = std::make_shared<DeviceSource>(std::move(tensors), std::move(dump));
  on_device([&] { cuda::wait_for(stream); });
  return source;
}

std::shared_ptr<void> device_memory(size_t bytes) {
  require_backend("cuda");
  return on_device([&] { return cuda::allocate_for_user(bytes); });
}

void copy_to_device(std::string_view bytes, void* device, DeviceStream stream) {
  on_device([&] { cuda::copy_to_user(device, bytes.data(), bytes.size(), stream); });
}

struct DeviceClock::Events {
  std::unique_ptr<cuda::Clock> clock;
};
DeviceClock::DeviceClock() : events_(std::make_unique<Events>()) {
  events_->clock = on_device([] { return cuda::make_clock(); });
}
DeviceClock::~DeviceClock() = default;
void DeviceClock::start() {
  on_device([&] { events_->clock->start(); });
}
double DeviceClock::seconds() {
  return on_device([&] { return events_->clock->seconds(); });
}

}  // namespace jsq

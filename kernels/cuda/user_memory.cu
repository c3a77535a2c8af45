#include "kernels/cuda/user_memory.hpp"

#include "kernels/cuda/resident_values.hpp"

namespace jsq::cuda {
namespace {

class EventClock final : public Clock {
 public:
  void start() override {
    check(cudaDeviceSynchronize(), "waiting for the device");
    begin_.record(stream_);
  }
  double seconds() override {
    check(cudaDeviceSynchronize(), "waiting for the device");
    end_.record(stream_);
    end_.synchronize();
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, begin_, end_), "reading the device's clock");
    return double(milliseconds) / 1000;
  }

 private:
  Stream stream_;
  Event begin_, end_;
};

}  // namespace

int device_of_thread() {
  int device = 0;
  if (cudaGetDevice(&device) == cudaSuccess) return device;
  (void)cudaGetLastError();
  return 0;
}

DeviceOfThread::DeviceOfThread(int device) : before_(device_of_thread()) {
  if (device != before_) check(cudaSetDevice(device), "going to a device");
}
DeviceOfThread::~DeviceOfThread() {
  if (device_of_thread() != before_) (void)cudaSetDevice(before_);
}

void wait_for(void* stream) {
  check(cudaStreamSynchronize(static_cast<cudaStream_t>(stream)), "waiting for the user's stream");
}

void copy_from_user(void* host, const void* device, size_t bytes) {
  if (bytes > 0)
    check(cudaMemcpy(host, device, bytes, cudaMemcpyDeviceToHost), "copying from the user's memory");
}

void copy_to_user(void* device, const void* host, size_t bytes, void* stream) {
  if (bytes == 0) return;
  check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, static_cast<cudaStream_t>(stream)),
        "copying to the user's memory");
  wait_for(stream);
}

void copy_within(void* to, const void* from, size_t bytes, void* stream) {
  if (bytes == 0) return;
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, static_cast<cudaStream_t>(stream)),
        "copying to the user's memory");
  wait_for(stream);
}

std::shared_ptr<void> allocate_for_user(size_t bytes) {
  void* memory = nullptr;
  check(cudaMalloc(&memory, bytes), "allocating device memory");
  return {memory, [](void* freed) { (void)cudaFree(freed); }};
}

namespace {

__global__ void widen_elements(const uint16_t* stored, element::StoredFloat format, uint64_t count,
                               float* values) {
  const uint64_t stride = uint64_t(gridDim.x) * blockDim.x;
  for (uint64_t i = uint64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride)
    values[i] = format == element::StoredFloat::f16 ? element::f16_to_f32(stored[i])
                                                    : element::bf16_to_f32(stored[i]);
}

}  // namespace

std::shared_ptr<void> widen(const void* stored, element::StoredFloat format, uint64_t count) {
  constexpr uint32_t threads = 256;
  constexpr uint64_t most_blocks = 4096;
  std::shared_ptr<void> values = allocate_for_user(size_t(std::max<uint64_t>(count, 1)) * sizeof(float));
  if (count == 0) return values;
  const Stream stream;
  widen_elements<<<uint32_t(std::min((count + threads - 1) / threads, most_blocks)), threads, 0, stream>>>(
      static_cast<const uint16_t*>(stored), format, count, static_cast<float*>(values.get()));
  check_launch("widening values");
  stream.synchronize();
  return values;
}

void use_in_place(PoolValues& pool, size_t t, const float* values) {
  static_cast<ResidentValues&>(pool).use_in_place(t, values);
}

const float* place_of(PoolValues& pool, size_t t) {
  return static_cast<ResidentValues&>(pool).place_of(t);
}

std::unique_ptr<Clock> make_clock() {
  return std::make_unique<EventClock>();
}

}  // namespace jsq::cuda

// Device memory and streams that belong to the library's user, and the device's clock. Beside device.hpp, so
// that only what hands them on sees it. Pointers are opaque here: a stream is a cudaStream_t, null the
// default one.
#pragma once

#include <cstddef>
#include <memory>

#include "kernels/cuda/device.hpp"

namespace jsq::cuda {

/// The device of the calling thread; 0 where none is usable.
int device_of_thread();
/// Puts the calling thread on a device for as long as this lives.
class DeviceOfThread {
 public:
  /// \throws DeviceError; not where no device is usable, which what follows tells.
  explicit DeviceOfThread(int device);
  DeviceOfThread(const DeviceOfThread&) = delete;
  DeviceOfThread& operator=(const DeviceOfThread&) = delete;
  ~DeviceOfThread();

 private:
  [[maybe_unused]] int before_;  ///< a build without CUDA never puts it back
};

/// Returns when what was put on the user's stream is done.  \throws DeviceError.
void wait_for(void* stream);
/// Copies and waits.  \throws DeviceError.
void copy_from_user(void* host, const void* device, size_t bytes);
/// Copies behind what is on `stream`, and waits.  \throws DeviceError.
void copy_to_user(void* device, const void* host, size_t bytes, void* stream);

/// Copies within the device behind what is on `stream`, and waits.  \throws DeviceError.
void copy_within(void* to, const void* from, size_t bytes, void* stream);

/// Device memory that is freed with its last owner, for programs without CUDA's headers.  \throws
/// DeviceError.
std::shared_ptr<void> allocate_for_user(size_t bytes);

/// A copy in f32 of `count` values of f16 or bf16, all on the device.
std::shared_ptr<void> widen(const void* stored, element::StoredFloat format, uint64_t count);

/// The values of pool tensor t are there already and are used where they lie. They must outlive the pool.
/// \pre the pool was made by make_pool_values and has not been used.
void use_in_place(PoolValues& pool, size_t t, const float* values);
/// Where pool tensor t lies in device memory, for as long as the pool does; null where the pool does not fit
/// and moves.  \throws DeviceError
const float* place_of(PoolValues& pool, size_t t);

/// Time between two points as the device takes it.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual void start() = 0;
  /// Since start(), in seconds, when all the device was given is done.
  virtual double seconds() = 0;
};
/// \throws DeviceError without a usable device.
std::unique_ptr<Clock> make_clock();

}  // namespace jsq::cuda

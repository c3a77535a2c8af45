// Owners of what the CUDA runtime hands out: device memory, pinned host memory, streams and events. Every
// call is checked; what an owner holds is given back when it goes. For files of this folder only: others
// include device.hpp.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "kernels/cuda/device.hpp"

namespace jsq::cuda {

/// \throws DeviceError with the runtime's reason, naming `action`.
inline void check(cudaError_t status, const char* action) {
  if (status == cudaSuccess) return;
  (void)cudaGetLastError();  // so that the next call reports its own failure
  throw DeviceError(std::string(action) + " failed: " + cudaGetErrorString(status));
}
/// After a kernel launch.
inline void check_launch(const char* kernel) {
  check(cudaGetLastError(), kernel);
}

/// Memory of `size()` elements on the device, uninitialised.
template <class T>
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  explicit DeviceBuffer(size_t size) { reserve(size); }
  DeviceBuffer(DeviceBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~DeviceBuffer() { (void)cudaFree(data_); }

  T* data() const { return data_; }
  size_t size() const { return size_; }
  /// At least `size` elements; contents are lost where it grows.
  void reserve(size_t size) {
    if (size <= size_) return;
    check(cudaFree(std::exchange(data_, nullptr)), "freeing device memory");
    size_ = 0;
    check(cudaMalloc(reinterpret_cast<void**>(&data_), size * sizeof(T)), "allocating device memory");
    size_ = size;
  }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
};

/// Page-locked host memory that its owners gave back, for the next ones: to lock pages takes a hundred times
/// as long as to copy them.
class PinnedPool {
 public:
  static constexpr size_t unit_bytes = size_t(1) << 16, most_bytes = size_t(1) << 26;

  /// At least `bytes` of it, and not much more, which becomes what was allocated.
  static void* take(size_t& bytes) {
    bytes = (bytes + unit_bytes - 1) / unit_bytes * unit_bytes;
    {
      PinnedPool& pool = instance();
      const std::lock_guard lock(pool.mutex_);
      if (const auto found = pool.unused_.lower_bound(bytes);
          found != pool.unused_.end() && found->first <= 2 * bytes) {
        void* const memory = found->second;
        bytes = found->first;
        pool.unused_.erase(found);
        pool.held_ -= bytes;
        return memory;
      }
    }
    void* memory = nullptr;
    check(cudaMallocHost(&memory, bytes), "allocating pinned memory");
    return memory;
  }
  static void give_back(void* memory, size_t bytes) {
    if (memory == nullptr) return;
    PinnedPool& pool = instance();
    {
      const std::lock_guard lock(pool.mutex_);
      if (pool.held_ + bytes <= most_bytes) {
        pool.unused_.emplace(bytes, memory);
        pool.held_ += bytes;
        return;
      }
    }
    (void)cudaFreeHost(memory);
  }

 private:
  /// Never destroyed: the runtime may be gone before it, and frees what it has.
  static PinnedPool& instance() {
    static auto* const pool = new PinnedPool;
    return *pool;
  }
  std::mutex mutex_;
  std::multimap<size_t, void*> unused_;  ///< by size
  size_t held_ = 0;
};

/// Page-locked host memory, which copies run beside the program.
template <class T>
class PinnedBuffer {
 public:
  PinnedBuffer() = default;
  explicit PinnedBuffer(size_t size) { reserve(size); }
  PinnedBuffer(PinnedBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  PinnedBuffer& operator=(PinnedBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~PinnedBuffer() { PinnedPool::give_back(data_, bytes_); }

  T* data() const { return data_; }
  T& operator[](size_t i) const { return data_[i]; }
  size_t size() const { return bytes_ / sizeof(T); }
  /// At least `size` elements; contents are lost where it grows.
  void reserve(size_t size) {
    if (size * sizeof(T) <= bytes_) return;
    PinnedPool::give_back(std::exchange(data_, nullptr), std::exchange(bytes_, 0));
    size_t bytes = size * sizeof(T);
    data_ = static_cast<T*>(PinnedPool::take(bytes));
    bytes_ = bytes;
  }

 private:
  T* data_ = nullptr;
  size_t bytes_ = 0;
};

class Stream {
 public:
  Stream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "creating a stream"); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream() { (void)cudaStreamDestroy(stream_); }
  operator cudaStream_t() const { return stream_; }
  void synchronize() const { check(cudaStreamSynchronize(stream_), "running on the device"); }

 private:
  cudaStream_t stream_ = nullptr;
};

class Event {
 public:
  Event() { check(cudaEventCreate(&event_), "creating an event"); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event() { (void)cudaEventDestroy(event_); }
  operator cudaEvent_t() const { return event_; }
  void record(const Stream& stream) { check(cudaEventRecord(event_, stream), "recording an event"); }
  void synchronize() const { check(cudaEventSynchronize(event_), "running on the device"); }
  /// Everything put on `stream` from now on waits for what was recorded.
  void hold_back(const Stream& stream) const {
    check(cudaStreamWaitEvent(stream, event_, 0), "waiting for an event");
  }

 private:
  cudaEvent_t event_ = nullptr;
};

template <class T>
void copy_to_device(T* device, const T* host, size_t count, const Stream& stream) {
  if (count > 0)
    check(cudaMemcpyAsync(device, host, count * sizeof(T), cudaMemcpyHostToDevice, stream),
          "copying to the device");
}
template <class T>
void copy_to_host(T* host, const T* device, size_t count, const Stream& stream) {
  if (count > 0)
    check(cudaMemcpyAsync(host, device, count * sizeof(T), cudaMemcpyDeviceToHost, stream),
          "copying from the device");
}
template <class T>
void clear(T* device, size_t count, const Stream& stream) {
  if (count > 0) check(cudaMemsetAsync(device, 0, count * sizeof(T), stream), "clearing device memory");
}

/// Bytes of a frame on the device, as whole words; by way of two pinned buffers, of which one is filled while
/// the other is copied.
class StagedBytes {
 public:
  void put(std::string_view bytes, const Stream& stream) {
    constexpr size_t piece_bytes = size_t(1) << 22;
    words_.reserve(bytes.size() / sizeof(uint32_t) + 2);
    clear(words_.data() + bytes.size() / sizeof(uint32_t), 1, stream);  // the last word is read whole
    for (size_t at = 0, turn = 0; at < bytes.size(); at += piece_bytes) {
      Staging& staging = staging_[turn ^= 1];
      const std::string_view piece = bytes.substr(at, piece_bytes);
      staging.copied.synchronize();
      staging.room.reserve(piece.size());
      std::copy(piece.begin(), piece.end(), staging.room.data());
      copy_to_device(reinterpret_cast<char*>(words_.data()) + at, staging.room.data(), piece.size(), stream);
      staging.copied.record(stream);
    }
  }
  const uint32_t* words() const { return words_.data(); }
  const uint8_t* bytes() const { return reinterpret_cast<const uint8_t*>(words_.data()); }

 private:
  struct Staging {
    PinnedBuffer<char> room;
    Event copied;
  };
  DeviceBuffer<uint32_t> words_;
  std::array<Staging, 2> staging_;
};

}  // namespace jsq::cuda

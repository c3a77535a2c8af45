// The decoders of a frame's parameter sets on the device. Two threads at most have one at a time: while the
// values of one are copied to the host, the kernels of the other run. Whichever thread it is, it works on one
// device.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "formats/wire/set_decoders.hpp"
#include "kernels/cuda/user_memory.hpp"
#include "lib/core/device.hpp"
#include "lib/methods/method.hpp"

namespace jsq::wire {

class DeviceDecoders {
 public:
  static constexpr unsigned most_taken = 2;

  /// Of `count` sets, which must outlive this.
  DeviceDecoders(const SetDecoders& sets, size_t count) : sets_(sets), unused_(count) {}

  /// A decoder in the hands of one thread, or none.
  class Taken {
   public:
    Taken(DeviceDecoders& all, uint32_t set)
        : all_(all),
          set_(set),
          device_(on_device([&] { return cuda::DeviceOfThread(all.device()); })),
          decoder_(all.take_one(set)) {}
    Taken(const Taken&) = delete;
    Taken& operator=(const Taken&) = delete;
    ~Taken() {
      if (decoder_) all_.give_back(set_, std::move(decoder_));
    }
    explicit operator bool() const { return decoder_ != nullptr; }
    DeviceBlockDecoder* operator->() const { return decoder_.get(); }

   private:
    DeviceDecoders& all_;
    uint32_t set_;
    cuda::DeviceOfThread device_;
    std::unique_ptr<DeviceBlockDecoder> decoder_;
  };

  /// The device of all decoders: that of the thread which asks first. Thread-safe.
  int device() {
    const std::lock_guard lock(mutex_);
    if (!device_) device_ = cuda::device_of_thread();
    return *device_;
  }

  /// One of set `set`, as soon as fewer than most_taken are; none where the method has none. Thread-safe.
  /// \pre the thread has none  \throws Error backend_unavailable.
  Taken take(uint32_t set) { return {*this, set}; }

 private:
  std::unique_ptr<DeviceBlockDecoder> take_one(uint32_t set) {
    std::unique_lock lock(mutex_);
    given_back_.wait(lock, [&] { return taken_ < most_taken; });
    std::unique_ptr<DeviceBlockDecoder> decoder;
    if (unused_[set].empty()) {
      decoder = sets_.of(set).device_decoder();
    } else {
      decoder = std::move(unused_[set].back());
      unused_[set].pop_back();
    }
    if (decoder) ++taken_;
    return decoder;
  }
  void give_back(uint32_t set, std::unique_ptr<DeviceBlockDecoder> decoder) {
    const std::lock_guard lock(mutex_);
    unused_[set].push_back(std::move(decoder));
    --taken_;
    given_back_.notify_one();
  }

  const SetDecoders& sets_;
  std::mutex mutex_;
  std::optional<int> device_;
  std::condition_variable given_back_;
  std::vector<std::vector<std::unique_ptr<DeviceBlockDecoder>>> unused_;
  unsigned taken_ = 0;
};

}  // namespace jsq::wire

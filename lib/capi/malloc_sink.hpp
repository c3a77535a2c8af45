// Bytes under construction in malloc'd memory, since C code frees them.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "jsq/compress.hpp"

namespace jsq::capi {

class MallocSink final : public ByteSink {
 public:
  void write(std::span<const std::byte> bytes) override {
    if (bytes.empty()) return;
    if (bytes.size() > capacity_ - size_) grow(bytes.size());
    std::memcpy(data_.get() + size_, bytes.data(), bytes.size());
    size_ += bytes.size();
  }
  size_t size() const noexcept { return size_; }
  /// The bytes, which are the caller's from now on.
  void* release() noexcept { return data_.release(); }

 private:
  struct Free {
    void operator()(std::byte* memory) const noexcept { std::free(memory); }
  };

  void grow(size_t more) {
    const size_t capacity = std::max(size_ + more, 2 * capacity_);
    auto* moved = static_cast<std::byte*>(std::realloc(data_.get(), capacity));
    if (moved == nullptr) throw std::bad_alloc();
    (void)data_.release();
    data_.reset(moved);
    capacity_ = capacity;
  }

  std::unique_ptr<std::byte, Free> data_;
  size_t size_ = 0, capacity_ = 0;
};

}  // namespace jsq::capi

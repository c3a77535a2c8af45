// Memory that is used again and again, and never initialised: pages that nobody writes take none.
#pragma once

#include <cstddef>
#include <memory>

namespace jsq {

template <class T>
class Room {
 public:
  /// Where at least `count` elements fit, which have no values where that is more than ever before.
  T* for_elements(size_t count) {
    if (size_ < count) {
      data_ = std::make_unique_for_overwrite<T[]>(count);
      size_ = count;
    }
    return data_.get();
  }
  T* data() { return data_.get(); }

 private:
  std::unique_ptr<T[]> data_;
  size_t size_ = 0;
};

}  // namespace jsq

// Replaces operator new, so that a test sees the largest allocation of its thread. For one source file of a
// program.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace jsq::test {

/// The largest allocation since the last reset.
inline thread_local size_t largest_allocation = 0;

inline void* allocate(size_t bytes, size_t alignment) {
  largest_allocation = std::max(largest_allocation, bytes);
  // More than any test here justifies fails at once, as it would on a small machine.
  void* memory = bytes > (size_t(1) << 30)
                     ? nullptr
                     : std::aligned_alloc(alignment, (bytes + alignment) / alignment * alignment);
  if (!memory) throw std::bad_alloc();
  return memory;
}

}  // namespace jsq::test

// Not inlined: a compiler that sees into one side of a pair calls it mismatched.
[[gnu::noinline]] void* operator new(size_t bytes) {
  return jsq::test::allocate(bytes, alignof(std::max_align_t));
}
[[gnu::noinline]] void* operator new(size_t bytes, const std::nothrow_t&) noexcept try {
  return jsq::test::allocate(bytes, alignof(std::max_align_t));
} catch (const std::bad_alloc&) {
  return nullptr;
}
[[gnu::noinline]] void* operator new(size_t bytes, std::align_val_t alignment) {
  return jsq::test::allocate(bytes, size_t(alignment));
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, size_t, std::align_val_t) noexcept {
  std::free(memory);
}

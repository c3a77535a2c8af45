// What tests need that the linker puts between the program and the CUDA runtime (--wrap).
#pragma once

/// As the runtime passes it, which a build without CUDA does not declare.
struct Dim3 {
  unsigned x, y, z;
};

/// Begins the definition of a function that takes the place of the runtime's `name`, after declaring that one
/// as __real_##name: weak, since a build without CUDA has none.
// NOLINTBEGIN: these names are the linker's
#define JSQ_WRAPPED(name, ...)                          \
  int __real_##name(__VA_ARGS__) __attribute__((weak)); \
  int __wrap_##name(__VA_ARGS__)
// NOLINTEND

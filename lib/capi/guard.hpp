// What every function of the C interface does around its work: it checks pointers and sizes of structures,
// and turns exceptions into codes and a message. The one place where that happens.
#pragma once

#include <algorithm>
#include <cstring>
#include <exception>
#include <functional>
#include <new>
#include <string>
#include <string_view>

#include "jsq/error.hpp"
#include "jsq/jsq.h"

namespace jsq::capi {

/// The calling thread's message and nearest target. They never allocate where memory has just run out: then a
/// literal takes the message's place.
class LastError {
 public:
  const char* text() const noexcept { return literal_ != nullptr ? literal_ : message_.c_str(); }
  const char* nearest() const noexcept { return nearest_.c_str(); }
  void set_literal(const char* literal) noexcept;
  void set(const char* message, std::string_view nearest = {}) noexcept;

 private:
  std::string message_, nearest_;
  const char* literal_ = nullptr;
};
LastError& last_error() noexcept;

/// The code of the exception that is being handled; keeps its message. \pre within a catch block.
int code_of_exception() noexcept;

/// Runs `body` and turns what it throws into a code.
template <typename Body>
int guarded(Body&& body) noexcept {
  try {
    body();
    return JSQ_OK;
  } catch (...) {
    return code_of_exception();
  }
}

/// \throws Error usage when an argument that must point somewhere does not.
void require(const void* pointer, const char* function, const char* argument);

/// \throws Error usage: a structure of `given` bytes, of which jsq knows versions of `least` to `most` bytes.
[[noreturn]] void refuse_size(size_t given, size_t least, size_t most, const char* function,
                              const char* name);

/// The caller's structure with the members that it does not know as zero. \param least bytes of the
/// structure's first version. \throws Error usage when it is smaller, or larger with something set that jsq
/// does not know.
template <typename Struct>
Struct known_members(const Struct& given, size_t least, const char* function, const char* name) {
  Struct known = {};
  const auto* bytes = reinterpret_cast<const unsigned char*>(&given);
  constexpr size_t plausible = 4096;  // beyond that `size` is no size
  for (size_t i = sizeof(Struct); i < given.size; ++i)
    if (given.size > plausible || bytes[i] != 0)
      refuse_size(given.size, least, sizeof(Struct), function, name);
  if (given.size < least) refuse_size(given.size, least, sizeof(Struct), function, name);
  std::memcpy(&known, &given, std::min(given.size, sizeof(Struct)));
  return known;
}

/// Copies what the caller's structure has room for. \pre out.size was checked by check_room.
template <typename Struct>
void give_members(Struct& out, Struct filled) noexcept {
  filled.size = out.size;
  std::memcpy(&out, &filled, std::min(out.size, sizeof(Struct)));
}

/// \throws Error usage when the structure is smaller than its first version.
template <typename Struct>
void check_room(const Struct& out, size_t least, const char* function, const char* name) {
  if (out.size < least) refuse_size(out.size, least, sizeof(Struct), function, name);
}

}  // namespace jsq::capi

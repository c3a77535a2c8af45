// The one error type of jsq: a stable numbered code and a message that says what, where, expected, found,
// what to do.
#pragma once

#include <stdexcept>
#include <string>

#include "jsq/export.hpp"

namespace jsq {

/// Stable error codes. Values are part of the API and never reused; gaps are kept by theme.
/// `exit_code()` maps each to the documented exit code of the program.
enum class Errc : int {
  usage = 10,                ///< an option, method or target is malformed or contradictory
  unknown_name = 11,         ///< no such method, tensor or option
  not_found = 20,            ///< an input does not exist or cannot be opened
  read_failed = 21,          ///< reading an input failed
  unsupported_format = 30,   ///< not a format jsq reads
  unsupported_dtype = 31,    ///< the format is known, the element type is not a supported float
  non_finite = 32,           ///< NaN or infinity met and not asked to be kept
  damaged = 40,              ///< a file is truncated, inconsistent or fails its checksum
  refused = 50,              ///< output exists, is the input, or binary would go to a terminal
  write_failed = 60,         ///< writing an output failed (disk full, permission)
  unreachable_target = 70,   ///< the target cannot be met; the message names the nearest that can
  limit = 80,                ///< a memory or declared-size limit was hit
  backend_unavailable = 90,  ///< the backend asked for cannot run here; the message says why
  assertion_failed = 100,    ///< --verify, --against or --fail-if did not hold
  newer_format = 110,        ///< the frame needs a newer jsq
  internal = 120,            ///< a bug in jsq
};

/// Thrown when an operation cannot go on. The library prints nothing and never aborts.
class JSQ_API Error : public std::runtime_error {
 public:
  Error(Errc code, const std::string& message) : std::runtime_error(message), code_(code) {}
  Errc code() const noexcept { return code_; }

 private:
  Errc code_;
};

/// The program's exit code for an error (jsq(1), EXIT STATUS).
JSQ_API int exit_code(Errc code) noexcept;
/// Stable lower-case name of a code, as used in JSON errors ("unreachable_target").
JSQ_API const char* error_name(Errc code) noexcept;

}  // namespace jsq

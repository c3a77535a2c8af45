// What the user asks for: a size (file ratio, bits per element, bytes) or an error, as one value with one
// text form.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "jsq/error.hpp"
#include "jsq/export.hpp"

namespace jsq {

enum class TargetKind : uint8_t {
  ratio,   ///< input bytes / output bytes
  bpw,     ///< output bits per element
  bytes,   ///< output bytes
  nmse,    ///< |g^ - g|^2 / |g|^2 at most
  maxabs,  ///< max |g^ - g| at most
  hprime,  ///< model noise h' per element at most
  cosine,  ///< cosine of the angle between g and g^ at least
  native,  ///< no target: the size that the method's options give, or its paper's
};

/// What a size target counts.
enum class RatioKind : uint8_t {
  file,     ///< everything in the file
  payload,  ///< the papers' accounting: sum of the widths, nothing else
};

struct Target {
  TargetKind kind = TargetKind::ratio;
  double value = 32;
  bool is_size() const noexcept { return kind <= TargetKind::bytes; }
};

/// An error of code unreachable_target that also tells a program what can be reached: the smallest frame, or
/// the smallest error. Asked for as a target (of the file, not of the payload), it is met.
class JSQ_API UnreachableTarget : public Error {
 public:
  UnreachableTarget(const std::string& message, Target nearest)
      : Error(Errc::unreachable_target, message), nearest_(nearest) {}
  /// An error target that `method` cannot meet: `nearest` is the smallest error (largest cosine) that it can.
  static UnreachableTarget below(double nearest, const Target& target, std::string_view method);
  const Target& nearest() const noexcept { return nearest_; }

 private:
  Target nearest_;
};

/// "ratio=32", "bpw=1", "bytes=64KiB" (suffixes B, KB, MB, GB, KiB, MiB, GiB), "nmse=1e-3", "maxabs=1e-4",
/// "cosine=0.99", "hprime=0.1", "native"; a bare number is a ratio.  \throws Error usage.
JSQ_API Target parse_target(std::string_view text);
/// The squared error, as a target, that has at least this cosine: |g^ - g| <= sin(a) |g| keeps the angle
/// within a. \pre cosine.kind is cosine
JSQ_API Target nmse_within(const Target& cosine);
/// The reverse: "ratio=32".
JSQ_API std::string to_string(const Target& target);
/// "64KiB" -> 65536.  \throws Error usage naming `what`.
JSQ_API uint64_t parse_size(std::string_view text, std::string_view what);

}  // namespace jsq

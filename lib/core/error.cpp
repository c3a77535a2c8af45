#include "jsq/error.hpp"

namespace jsq {

int exit_code(Errc code) noexcept {
  switch (code) {
    case Errc::usage:
    case Errc::unknown_name:
      return 2;
    case Errc::not_found:
    case Errc::read_failed:
      return 3;
    case Errc::unsupported_format:
    case Errc::unsupported_dtype:
    case Errc::non_finite:
      return 4;
    case Errc::damaged:
      return 5;
    case Errc::refused:
      return 6;
    case Errc::write_failed:
      return 7;
    case Errc::unreachable_target:
      return 8;
    case Errc::limit:
      return 9;
    case Errc::backend_unavailable:
      return 10;
    case Errc::assertion_failed:
      return 11;
    case Errc::newer_format:
      return 12;
    case Errc::internal:
      return 70;
  }
  return 70;
}

const char* error_name(Errc code) noexcept {
  switch (code) {
    case Errc::usage:
      return "usage";
    case Errc::unknown_name:
      return "unknown_name";
    case Errc::not_found:
      return "not_found";
    case Errc::read_failed:
      return "read_failed";
    case Errc::unsupported_format:
      return "unsupported_format";
    case Errc::unsupported_dtype:
      return "unsupported_dtype";
    case Errc::non_finite:
      return "non_finite";
    case Errc::damaged:
      return "damaged";
    case Errc::refused:
      return "refused";
    case Errc::write_failed:
      return "write_failed";
    case Errc::unreachable_target:
      return "unreachable_target";
    case Errc::limit:
      return "limit";
    case Errc::backend_unavailable:
      return "backend_unavailable";
    case Errc::assertion_failed:
      return "assertion_failed";
    case Errc::newer_format:
      return "newer_format";
    case Errc::internal:
      return "internal";
  }
  return "internal";
}

}  // namespace jsq

#include "lib/capi/guard.hpp"

#include "jsq/doctor.hpp"
#include "jsq/target.hpp"
#include "jsq/tensor.hpp"

namespace jsq::capi {
namespace {

static_assert(JSQ_USAGE == int(Errc::usage) && JSQ_UNKNOWN_NAME == int(Errc::unknown_name));
static_assert(JSQ_NOT_FOUND == int(Errc::not_found) && JSQ_READ_FAILED == int(Errc::read_failed));
static_assert(JSQ_UNSUPPORTED_FORMAT == int(Errc::unsupported_format));
static_assert(JSQ_UNSUPPORTED_DTYPE == int(Errc::unsupported_dtype) &&
              JSQ_NON_FINITE == int(Errc::non_finite));
static_assert(JSQ_DAMAGED == int(Errc::damaged) && JSQ_REFUSED == int(Errc::refused));
static_assert(JSQ_WRITE_FAILED == int(Errc::write_failed));
static_assert(JSQ_UNREACHABLE_TARGET == int(Errc::unreachable_target) && JSQ_LIMIT == int(Errc::limit));
static_assert(JSQ_BACKEND_UNAVAILABLE == int(Errc::backend_unavailable));
static_assert(JSQ_ASSERTION_FAILED == int(Errc::assertion_failed));
static_assert(JSQ_NEWER_FORMAT == int(Errc::newer_format) && JSQ_INTERNAL == int(Errc::internal));
static_assert(JSQ_F16 == int(DType::f16) && JSQ_BF16 == int(DType::bf16));
static_assert(JSQ_F32 == int(DType::f32) && JSQ_F64 == int(DType::f64));

thread_local LastError error_of_thread;

}  // namespace

void LastError::set_literal(const char* literal) noexcept {
  literal_ = literal;
  nearest_.clear();
}

void LastError::set(const char* message, std::string_view nearest) noexcept {
  try {
    nearest_ = nearest;
    message_ = message;
    literal_ = nullptr;
  } catch (const std::bad_alloc&) {
    set_literal("out of memory; free some and try again");
  }
}

LastError& last_error() noexcept {
  return error_of_thread;
}

int code_of_exception() noexcept {
  try {
    throw;
  } catch (const UnreachableTarget& error) {
    try {
      last_error().set(error.what(), to_string(error.nearest()));
    } catch (const std::bad_alloc&) {
      last_error().set(error.what());
    }
    return JSQ_UNREACHABLE_TARGET;
  } catch (const Error& error) {
    last_error().set(error.what());
    return int(error.code());
  } catch (const std::bad_alloc&) {
    last_error().set_literal("out of memory; free some, or use fewer threads");
    return JSQ_LIMIT;
  } catch (const std::exception& error) {
    last_error().set(error.what());
    return JSQ_INTERNAL;
  } catch (...) {
    last_error().set_literal("an exception of unknown type; please report it");
    return JSQ_INTERNAL;
  }
}

void require(const void* pointer, const char* function, const char* argument) {
  if (pointer != nullptr) return;
  throw Error(Errc::usage, std::string(function) + ": " + argument + " is NULL; pass a valid pointer");
}

void refuse_size(size_t given, size_t least, size_t most, const char* function, const char* name) {
  throw Error(Errc::usage, std::string(function) + ": " + name + "->size is " + std::to_string(given) +
                               "; expected sizeof of the structure, " + std::to_string(least) + " to " +
                               std::to_string(most) + " bytes in this jsq " + version() +
                               (given > most ? ", and a member beyond them is set: use a newer jsq" : ""));
}

}  // namespace jsq::capi

extern "C" {

const char* jsq_version(void) {
  return jsq::version();
}

const char* jsq_error_name(int code) {
  return code == JSQ_OK ? "ok" : jsq::error_name(static_cast<jsq::Errc>(code));
}

int jsq_exit_code(int code) {
  return code == JSQ_OK ? 0 : jsq::exit_code(static_cast<jsq::Errc>(code));
}

const char* jsq_last_error(void) {
  return jsq::capi::last_error().text();
}

const char* jsq_last_nearest_target(void) {
  return jsq::capi::last_error().nearest();
}

}  // extern "C"

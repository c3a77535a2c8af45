// Errors and warnings as the user meets them: one form in text, one in JSON, one exit code each.
#include "command.hpp"

#include <poll.h>
#include <unistd.h>

#include <exception>
#include <new>
#include <system_error>

#include "progress.hpp"
#include "report.hpp"

namespace jsq::tools {
namespace {

/// True when standard output is a pipe or socket that nobody reads any more.
bool reader_is_gone() {
  pollfd output = {.fd = STDOUT_FILENO, .events = POLLOUT, .revents = 0};
  return ::poll(&output, 1, 0) == 1 && (output.revents & POLLERR) != 0;
}

}  // namespace

int report_error(const GlobalOptions& global, Errc code, const std::string& message) {
  clear_progress_line();
  if (global.json()) {
    const Json document = {{"schema", "jsq.error/1"},
                           {"code", int(code)},
                           {"error", error_name(code)},
                           {"exit_code", exit_code(code)},
                           {"message", message}};
    print(Stream::err, to_line(document) + "\n");
  } else {
    print(Stream::err, paint(global, Stream::err, "1;31", "jsq:") + " " + printable(message) + "\n");
  }
  return exit_code(code);
}

int report_current_error(const GlobalOptions& global) {
  try {
    throw;
  } catch (const BrokenPipe&) {
    throw;
  } catch (const Error& error) {
    // The library's sinks meet the closed pipe as a failed write.
    if (error.code() == Errc::write_failed && reader_is_gone()) throw BrokenPipe();
    return report_error(global, error.code(), error.what());
  } catch (const std::bad_alloc&) {
    const char* advice = global.memory_limit_bytes != 0
                             ? "out of memory; raise --memory-limit or use fewer --threads"
                             : "out of memory; use fewer --threads";
    return report_error(global, Errc::limit, advice);
  } catch (const std::system_error& error) {
    const bool resources = error.code() == std::errc::resource_unavailable_try_again ||
                           error.code() == std::errc::not_enough_memory;
    return report_error(global, resources ? Errc::limit : Errc::internal, error.what());
  } catch (const std::exception& error) {
    return report_error(global, Errc::internal, std::string("internal error: ") + error.what());
  }
}

void warn(const GlobalOptions& global, const std::string& message) {
  if (global.quiet()) return;
  clear_progress_line();
  if (global.json()) {
    print(Stream::err, to_line({{"schema", "jsq.error/1"}, {"warning", message}}) + "\n");
    return;
  }
  print(Stream::err, paint(global, Stream::err, "1;33", "jsq: warning:") + " " + printable(message) + "\n");
}

bool Failures::attempt(const std::function<void()>& work) {
  try {
    work();
    return true;
  } catch (...) {
    code_ = report_current_error(global_);
    return false;
  }
}

void Failures::add(Errc code) {
  code_ = jsq::exit_code(code);
}

int Failures::exit_code() const noexcept {
  if (code_ == 0) return 0;
  return inputs_ > 1 ? 1 : code_;
}

}  // namespace jsq::tools

// The waiting thread and the list of temporaries.
#include "interrupt.hpp"

#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <set>
#include <thread>

#include "progress.hpp"

namespace jsq::tools {
namespace {

struct Temporaries {
  std::mutex mutex;
  std::set<std::string> paths;
};

/// Never destroyed: the waiting thread outlives main's statics.
Temporaries& temporaries() {
  static auto* const list = new Temporaries;
  return *list;
}

void remove_path(const std::string& path) noexcept {
  // Another thread may be adding files to a folder while it is removed.
  constexpr int attempts = 16;
  std::error_code error;
  for (int i = 0; i < attempts; ++i) {
    std::filesystem::remove_all(path, error);
    if (!error) return;
  }
}

[[noreturn]] void wait_and_end(sigset_t signals) {
  int signal = 0;
  while (::sigwait(&signals, &signal) != 0) {
  }
  const InterruptLock lock = no_interrupts();
  for (const std::string& path : temporaries().paths) remove_path(path);
  clear_progress_line();
  ::_exit(128 + signal);
}

}  // namespace

void handle_interrupts() {
  std::signal(SIGPIPE, SIG_IGN);
  sigset_t signals;
  sigemptyset(&signals);
  for (int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction action = {};
    if (::sigaction(signal, nullptr, &action) == 0 && action.sa_handler != SIG_IGN)
      sigaddset(&signals, signal);
  }
  // Threads made from here on inherit the mask, so only the waiting thread sees these signals.
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::thread(wait_and_end, signals).detach();
}

InterruptLock no_interrupts() {
  return InterruptLock(temporaries().mutex);
}

Temporary::Temporary(std::string path, const InterruptLock& /*lock*/) : path_(std::move(path)) {
  temporaries().paths.insert(path_);
}

Temporary::~Temporary() {
  const InterruptLock lock = no_interrupts();
  if (temporaries().paths.erase(path_) != 0) remove_path(path_);
}

void Temporary::release(const InterruptLock& /*lock*/) {
  temporaries().paths.erase(path_);
}

}  // namespace jsq::tools

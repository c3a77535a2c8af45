// What a signal must not leave behind. A thread waits for SIGINT, SIGTERM and SIGHUP, removes the temporaries
// that are registered here, and ends the program; nothing runs in a signal handler.
#pragma once

#include <mutex>
#include <string>

namespace jsq::tools {

/// Starts the waiting thread; call it before any other thread exists. A signal that the parent chose to
/// ignore (nohup) stays ignored. The program then ends with 128 + the signal's number. SIGPIPE is ignored
/// from here on.
void handle_interrupts();

/// Holds interruption off: while it lives no signal ends the program.
using InterruptLock = std::unique_lock<std::mutex>;
InterruptLock no_interrupts();

/// A file or folder that is removed when the program is interrupted or this object ends before release(). It
/// is made, and becomes a result, under the lock: no signal falls between creating a file and listing it, or
/// between a rename and its release.
class Temporary {
 public:
  Temporary(std::string path, const InterruptLock& lock);
  ~Temporary();
  Temporary(const Temporary&) = delete;
  Temporary& operator=(const Temporary&) = delete;

  const std::string& path() const noexcept { return path_; }
  /// It has become a result; nobody removes it.
  void release(const InterruptLock& lock);

 private:
  std::string path_;
};

}  // namespace jsq::tools

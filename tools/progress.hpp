// The progress line on standard error: percent, speed and time left, rewritten in place. It never reaches a
// file unless asked for, and never standard output.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "command.hpp"

namespace jsq::tools {

/// One running job. Not shared between threads.
class Progress {
 public:
  /// \param total_bytes what all of the work comes to; the speed shown is a share of it.
  Progress(const GlobalOptions& global, std::string label, uint64_t total_bytes);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// What is being done now.
  void set_label(std::string label) { label_ = std::move(label); }
  /// In any unit of work, the same for both.
  void update(uint64_t done, uint64_t total);

 private:
  std::string label_;
  uint64_t total_bytes_;
  bool shown_;
  std::chrono::steady_clock::time_point started_, next_;
};

/// Removes a progress line that is on the screen, so that a message starts on a clean one.
void clear_progress_line();

}  // namespace jsq::tools

// Drawing of the progress line.
#include "progress.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>

#include "report.hpp"

namespace jsq::tools {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds first_after{300};  // short jobs show nothing
constexpr milliseconds redraw_after{100};

std::atomic<bool> line_on_screen{false};

/// "0:07", "1:02:33"; "?" before there is anything to judge by.
std::string time_left(double seconds, double share) {
  constexpr double telling_share = 0.01;
  if (share < telling_share) return "?";
  const auto whole = uint64_t(std::clamp(seconds, 0.0, 359999.0) + 0.5);
  return whole < 3600 ? fmt::format("{}:{:02}", whole / 60, whole % 60)
                      : fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

}  // namespace

Progress::Progress(const GlobalOptions& global, std::string label, uint64_t total_bytes)
    : label_(std::move(label)), total_bytes_(total_bytes), started_(steady_clock::now()) {
  const bool wanted = global.progress == "always";
  const bool fits = global.progress == "auto" && !global.quiet() && ::isatty(STDERR_FILENO) == 1;
  shown_ = wanted || fits;
  next_ = wanted ? started_ : started_ + first_after;
}

Progress::~Progress() {
  clear_progress_line();
}

void Progress::update(uint64_t done, uint64_t total) {
  if (!shown_) return;
  const auto now = steady_clock::now();
  if (now < next_) return;
  next_ = now + redraw_after;
  const double seconds = std::chrono::duration<double>(now - started_).count();
  const double share = total == 0 ? 1.0 : double(done) / double(total);
  const double left = share > 0 ? seconds / share * (1 - share) : 0;
  const double speed = seconds > 0 ? share * double(total_bytes_) / seconds : 0;
  print(Stream::err, fmt::format("\r{}  {:3.0f} %  {}  {} left\x1b[K", printable(label_), share * 100,
                                 rate_text(speed), time_left(left, share)));
  line_on_screen = true;
}

void clear_progress_line() {
  if (line_on_screen.exchange(false)) print(Stream::err, "\r\x1b[K");
}

}  // namespace jsq::tools

// What main and the subcommands share: the global options, one add_ function for each subcommand, and the
// only place where an error becomes a message and an exit code. Each subcommand lives in the file of its
// name.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <string>

#include "jsq/error.hpp"

namespace jsq::tools {

/// Options every subcommand understands, before or after its name.
struct GlobalOptions {
  int verbosity = 0;                ///< -q lowers it, each -v raises it; below 0 only errors are printed
  std::string progress = "auto";    ///< auto, always, never
  std::string color = "auto";       ///< auto, always, never
  std::string format = "text";      ///< text, json, jsonl, csv, md
  unsigned threads = 0;             ///< 0: all cores
  std::string backend = "auto";     ///< auto, cpu, cuda
  std::string simd = "auto";        ///< auto, or a level of simd_level_names()
  uint64_t memory_limit_bytes = 0;  ///< 0: no limit
  uint64_t seed = 0;
  std::vector<std::string> arguments = {};  ///< of the command line, for reports that say how they were made

  bool quiet() const noexcept { return verbosity < 0; }
  /// True for json and jsonl: results and errors are JSON.
  bool json() const noexcept { return format == "json" || format == "jsonl"; }
  bool text() const noexcept { return format == "text"; }
};

/// Each adds its subcommand to `app`. When the command line names it, parsing sets `run` to what main calls;
/// `global` is filled by then. `run` returns the exit code, and throws jsq::Error for what stops the whole
/// command.
void add_compress(CLI::App& app, const GlobalOptions& global, std::function<int()>& run);
void add_decompress(CLI::App& app, const GlobalOptions& global, std::function<int()>& run);
void add_test(CLI::App& app, const GlobalOptions& global, std::function<int()>& run);
void add_list(CLI::App& app, const GlobalOptions& global, std::function<int()>& run);
void add_analyze(CLI::App& app, const GlobalOptions& global, std::function<int()>& run);
void add_compare(CLI::App& app, const GlobalOptions& global, std::function<int()>& run);
void add_bench(CLI::App& app, const GlobalOptions& global, std::function<int()>& run);
void add_methods(CLI::App& app, const GlobalOptions& global, std::function<int()>& run);
void add_doctor(CLI::App& app, const GlobalOptions& global, std::function<int()>& run);
void add_completion(CLI::App& app, const GlobalOptions& global, std::function<int()>& run);

/// Thrown when the reader of standard output went away. main ends with success: the reader has what it
/// wanted.
struct BrokenPipe {};

/// Prints `jsq: MESSAGE` on standard error (in JSON mode one line {"schema":"jsq.error/1",...}) and returns
/// the exit code. The message is made printable; nothing is added to it.
int report_error(const GlobalOptions& global, Errc code, const std::string& message);
/// The same for whatever is being handled: call it in a catch block. BrokenPipe is rethrown.
int report_current_error(const GlobalOptions& global);
/// Prints `jsq: warning: MESSAGE` on standard error unless quiet (JSON mode: an object with "warning").
void warn(const GlobalOptions& global, const std::string& message);

/// Work on several inputs of which a bad one does not stop the others. Each failure is reported as it
/// happens.
class Failures {
 public:
  /// \param inputs number of inputs given on the command line.
  Failures(const GlobalOptions& global, size_t inputs) : global_(global), inputs_(inputs) {}

  /// Runs `work`; returns false when it failed. BrokenPipe passes through.
  bool attempt(const std::function<void()>& work);
  /// Counts a failure that is not an exception (a damaged frame, say) and was reported already.
  void add(Errc code);
  /// Counts inputs that turned up beside those on the command line: files of a folder, matches of a glob.
  void expect_more(size_t inputs) { inputs_ += inputs; }

  /// 0 when nothing failed, the error's own code when one input was given, 1 when there were several.
  int exit_code() const noexcept;

 private:
  const GlobalOptions& global_;
  size_t inputs_;
  int code_ = 0;
};

}  // namespace jsq::tools

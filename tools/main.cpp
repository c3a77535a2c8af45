// The jsq program: global options, environment, configuration file, and the one place where the outcome of a
// subcommand becomes the exit code. Each subcommand is in the file of its name.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <malloc.h>
#include <sys/resource.h>

#include <cstdlib>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include "command.hpp"
#include "interrupt.hpp"
#include "jsq/simd.hpp"
#include "jsq/target.hpp"
#include "ranks.hpp"
#include "report.hpp"
#include "studies.hpp"

namespace jsq::tools {
namespace {

/// Global options in the form the command line gives them.
struct Typed {
  int verbose = 0, quiet = 0;
  bool json = false;
  std::string memory_limit;
};

constexpr const char* description =
    "jsq compresses gradient dumps (npy, npz, HDF5) and measures what that loses.\n"
    "Run 'jsq COMMAND --help' for a command's options.";

constexpr const char* footer =
    "Environment: JSQ_THREADS, JSQ_BACKEND, JSQ_SIMD, JSQ_CONFIG (as the options of those names, which win), "
    "NO_COLOR.\n"
    "Exit codes: 0 done, 1 some inputs failed, 2 usage, 3 missing or unreadable input, 4 unsupported input, "
    "5 damaged,\n"
    "6 refused, 7 write failed, 8 target not reachable, 9 a limit was hit, 10 backend unavailable, 11 an "
    "assertion\n"
    "failed, 12 needs a newer jsq, 70 internal, 130/143 interrupted.";

void add_global_options(CLI::App& app, GlobalOptions& global, Typed& typed) {
  app.add_flag("-q,--quiet", typed.quiet, "Print errors only (default: off)");
  app.add_flag("-v,--verbose", typed.verbose, "Print more; repeat for more still (default: off)");
  app.add_option("--progress", global.progress,
                 "Progress line on standard error: auto (a terminal), always, never (default: auto)")
      ->type_name("WHEN")
      ->check(CLI::IsMember({"auto", "always", "never"}));
  app.add_option("--color", global.color,
                 "Colour: auto (a terminal, and no NO_COLOR), always, never (default: auto)")
      ->type_name("WHEN")
      ->check(CLI::IsMember({"auto", "always", "never"}));
  app.add_option("--format", global.format, "Form of the results: text, json, jsonl, csv, md (default: text)")
      ->type_name("FORMAT")
      ->check(CLI::IsMember({"text", "json", "jsonl", "csv", "md"}));
  app.add_flag("--json", typed.json, "Short for --format json (default: off)");
  constexpr unsigned most_threads = 1024;
  app.add_option("--threads", global.threads,
                 "Threads, 0 for all cores; results do not depend on it (default: 0)")
      ->type_name("N")
      ->check(CLI::Range(0U, most_threads))
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app.add_option("--backend", global.backend, "Where the work runs: auto, cpu, cuda (default: auto)")
      ->type_name("NAME")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  std::vector<std::string> simd_levels = simd_level_names();
  simd_levels.insert(simd_levels.begin(), "auto");
  app.add_option("--simd", global.simd,
                 fmt::format("SIMD level of the processor's kernels: {} (default: auto)",
                             fmt::join(simd_levels, ", ")))
      ->type_name("LEVEL")
      ->check(CLI::IsMember(simd_levels))
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app.add_option("--memory-limit", typed.memory_limit,
                 "Most memory to take, bytes or 512MiB, 4GiB (default: no limit)")
      ->type_name("SIZE");
  app.add_option("--seed", global.seed, "Seed of every random choice (default: 0)")->type_name("N");
  app.set_config("--config", "",
                 "Read options from a TOML file; a command's own in a [COMMAND] section (default: none)")
      ->type_name("FILE")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app.allow_config_extras(CLI::config_extras_mode::error);
}

/// The environment goes before the arguments, so that it wins over the configuration file and the arguments
/// over it.
std::vector<std::string> arguments_with_environment(int argc, char** argv) {
  static constexpr std::pair<const char*, const char*> variables[] = {{"JSQ_THREADS", "--threads="},
                                                                      {"JSQ_BACKEND", "--backend="},
                                                                      {"JSQ_SIMD", "--simd="},
                                                                      {"JSQ_CONFIG", "--config="}};
  std::vector<std::string> arguments;
  for (const auto& [variable, option] : variables) {
    const char* value = std::getenv(variable);
    if (value != nullptr && *value != '\0') arguments.push_back(std::string(option) + value);
  }
  arguments.insert(arguments.end(), argv + 1, argv + argc);
  return arguments;
}

/// What the arguments say about the form of errors, before they are parsed.
std::string format_of_errors(const std::vector<std::string>& arguments) {
  for (size_t i = 0; i < arguments.size() && arguments[i] != "--"; ++i) {
    if (arguments[i] == "--json" || arguments[i] == "--format=json" || arguments[i] == "--format=jsonl")
      return "json";
    const bool named = arguments[i] == "--format" && i + 1 < arguments.size();
    if (named && (arguments[i + 1] == "json" || arguments[i + 1] == "jsonl")) return "json";
  }
  return "text";
}

/// Keeps up to 8 MiB of freed memory for what is coded next, and returns pieces of 1 MiB or more at once. By
/// default the C library gives a pool's few hundred KiB back and asks for them again at every tensor, in page
/// faults that take up to a tenth of the time of coding a million elements.
void keep_freed_memory() {
#ifdef __GLIBC__
  mallopt(M_TRIM_THRESHOLD, 8 << 20);
  mallopt(M_MMAP_THRESHOLD, 1 << 20);
#endif
}

/// Dumps of a large folder are all open at once.
void raise_file_limit() {
  rlimit limit = {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

/// Mapped inputs do not count: the system takes their pages back when it needs them.
void limit_memory(uint64_t bytes) {
  rlimit limit = {};
  if (::getrlimit(RLIMIT_DATA, &limit) != 0) return;
  limit.rlim_cur = std::min<rlim_t>(bytes, limit.rlim_max);
  if (::setrlimit(RLIMIT_DATA, &limit) != 0)
    throw Error(Errc::limit, "--memory-limit cannot be set on this system");
}

void settle(GlobalOptions& global, const Typed& typed) {
  global.verbosity = typed.verbose - typed.quiet;
  if (typed.json) global.format = "json";
  if (global.simd != "auto") use_simd(global.simd);
  if (typed.memory_limit.empty()) return;
  global.memory_limit_bytes = parse_size(typed.memory_limit, "--memory-limit");
  limit_memory(global.memory_limit_bytes);
}

/// A parser's message with what to do next.
std::string usage_message(const CLI::App& app, const CLI::ParseError& error) {
  const std::vector<CLI::App*> commands = app.get_subcommands();
  const std::string command = commands.empty() ? "" : " " + commands.front()->get_name();
  std::string what = error.what();
  if (commands.empty() && error.get_name() == "ExtrasError") what = "no such command or option: " + what;
  while (what.ends_with('\n')) what.pop_back();
  return what + "; see 'jsq" + command + " --help'";
}

/// The exit code of a command line that runs no command: what the current exception asks to be shown, or why
/// it cannot run. All processes of mpirun get here; the first one says it, and has the exit code for all,
/// since mpirun may end it as soon as another one fails.
int end_early(const CLI::App& app, GlobalOptions& global, const std::string& error_format) {
  if (is_later_rank()) return 0;
  try {
    throw;
  } catch (const CLI::CallForVersion& version) {
    print(Stream::out, std::string(version.what()) + "\n");
    return 0;
  } catch (const CLI::CallForHelp&) {
    const std::vector<CLI::App*> commands = app.get_subcommands();
    print(Stream::out, commands.empty() ? app.help() : commands.front()->help("jsq"));
    return 0;
  } catch (const CLI::ParseError& error) {
    global.format = error_format;
    return report_error(global, Errc::usage, usage_message(app, error));
  } catch (const BrokenPipe&) {
    throw;
  } catch (...) {
    return report_current_error(global);
  }
}

int run_program(int argc, char** argv) {
  CLI::App app(description, "jsq");
  GlobalOptions global;
  Typed typed;
  global.arguments.assign(argv + 1, argv + argc);
  std::function<int()> run;
  app.footer("Global options, environment and exit codes: 'jsq --help'.");  // what every command inherits
  app.set_version_flag("-V,--version", std::string("jsq ") + JSQ_VERSION, "Print the version and exit");
  app.set_help_flag("-h,--help", "Print this help and exit");
  app.require_subcommand(0, 1);
  add_global_options(app, global, typed);
  add_compress(app, global, run);
  add_decompress(app, global, run);
  add_test(app, global, run);
  add_list(app, global, run);
  add_analyze(app, global, run);
  add_compare(app, global, run);
  add_replay(app, global, run);
  add_aggregate(app, global, run);
  add_simulate(app, global, run);
  add_bench(app, global, run);
  add_methods(app, global, run);
  add_doctor(app, global, run);
  add_completion(app, global, run);
  app.footer(footer);

  std::vector<std::string> arguments = arguments_with_environment(argc, argv);
  const std::string error_format = format_of_errors(arguments);
  try {
    std::reverse(arguments.begin(), arguments.end());  // the parser takes them from the back
    app.parse(arguments);
    settle(global, typed);
  } catch (...) {
    return end_early(app, global, error_format);
  }
  if (!run) {
    if (!is_later_rank()) print(Stream::err, app.help());
    return is_later_rank() ? 0 : exit_code(Errc::usage);
  }
  try {
    return run();
  } catch (const BrokenPipe&) {
    throw;
  } catch (...) {
    return report_current_error(global);
  }
}

}  // namespace
}  // namespace jsq::tools

int main(int argc, char** argv) {
  jsq::tools::handle_interrupts();
  jsq::tools::raise_file_limit();
  jsq::tools::keep_freed_memory();
  try {
    return jsq::tools::run_program(argc, argv);
  } catch (const jsq::tools::BrokenPipe&) {
    return 0;
  } catch (...) {
    try {
      return jsq::tools::report_current_error(jsq::tools::GlobalOptions());
    } catch (...) {
      return 0;  // the reader of standard output is gone
    }
  }
}

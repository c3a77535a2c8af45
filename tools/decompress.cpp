// jsq decompress: a frame becomes the dumps it was made from, or a part of them in another form.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "atomic_output.hpp"
#include "command.hpp"
#include "extraction.hpp"
#include "jsq/backend.hpp"
#include "jsq/frame.hpp"
#include "jsq/target.hpp"
#include "progress.hpp"
#include "report.hpp"

namespace jsq::tools {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view frame_ending = ".jsq";

struct Options {
  std::vector<std::string> frames;
  std::vector<std::string> tensors;
  std::string slice, format, dtype;
  std::string max_output = "64GiB";
  std::string output;
  bool to_stdout = false, force = false, keep = false, remove = false;
};

/// A restored frame, for the report.
struct Result {
  std::string frame;
  std::string target;  ///< file, folder, or "-"
  bool is_folder = false;
  uint64_t frame_bytes = 0, output_bytes = 0;
  double seconds = 0;
  std::vector<ExtractedDump> dumps;
};

ExtractionOptions extraction_options(const Options& options) {
  ExtractionOptions result{.tensors = options.tensors, .slice = options.slice};
  if (options.format == "npy") result.format = DumpFormat::npy;
  if (options.format == "npz") result.format = DumpFormat::npz;
  if (options.format == "h5") result.format = DumpFormat::hdf5;
  if (!options.dtype.empty()) result.dtype = dtype_from_name(options.dtype);
  return result;
}

void check_options(const Options& options) {
  const bool names_output = options.to_stdout || !options.output.empty();
  if (options.to_stdout && !options.output.empty() && options.output != "-")
    throw Error(Errc::usage, "-c and -o name two outputs; give one of them");
  if (names_output && options.frames.size() > 1)
    throw Error(Errc::usage, "-o and -c take one frame; decompress several without them, or one by one");
  if (!options.remove || options.keep) return;
  if (extraction_options(options).partial())
    throw Error(Errc::usage,
                "--rm would delete tensors that --tensor and --slice leave out; drop one of them");
  if (options.to_stdout || options.output == "-")
    throw Error(Errc::usage, "--rm needs an output file; name one with -o");
  if (std::find(options.frames.begin(), options.frames.end(), "-") != options.frames.end())
    throw Error(Errc::usage, "--rm needs a frame that is a file, not standard input");
}

/// The frame's name without its ending; "" where it has none.
std::string stem_of(const std::string& frame) {
  if (!frame.ends_with(frame_ending)) return "";
  const std::string stem = frame.substr(0, frame.size() - frame_ending.size());
  return base_name(stem).empty() ? "" : stem;
}

bool is_dump_name(const std::string& name) {
  return has_ending_of(name, DumpFormat::npy) || has_ending_of(name, DumpFormat::npz) ||
         has_ending_of(name, DumpFormat::hdf5);
}

/// One dump goes where the frame's name says, if that is a dump's name, else to the current folder under its
/// own.
std::string file_target(const Options& options, const std::string& frame, const ExtractedDump& dump) {
  if (!options.output.empty()) return options.output;
  if (options.to_stdout || frame == "-") return "-";
  std::string stem = stem_of(frame);
  return is_dump_name(stem) ? with_ending_of(stem, dump.info.format) : base_name(dump.path);
}

std::string folder_target(const Options& options, const std::string& frame, size_t dumps) {
  if (options.to_stdout || options.output == "-" || (frame == "-" && options.output.empty()))
    throw Error(
        Errc::usage,
        fmt::format("{}: holds {} dumps, which do not fit one stream; name a new folder with -o, or one "
                    "tensor with --tensor",
                    frame, dumps));
  if (!options.output.empty()) return options.output;
  std::string stem = stem_of(frame);
  if (stem.empty())
    throw Error(Errc::usage, frame + ": does not end in .jsq; name the output folder with -o");
  return stem;
}

uint64_t output_bytes(const std::vector<ExtractedDump>& dumps) {
  uint64_t total = 0;
  for (const ExtractedDump& dump : dumps) {
    if (__builtin_add_overflow(total, dump.stored_bytes(), &total)) return UINT64_MAX;
    if (__builtin_add_overflow(total, uint64_t(dump.info.attachment.size()), &total)) return UINT64_MAX;
  }
  return total;
}

void check_limit(const std::string& frame, uint64_t bytes, const Options& options) {
  if (bytes <= parse_size(options.max_output, "--max-output")) return;
  constexpr uint64_t plausible_bytes = uint64_t(1) << 50;
  const std::string advice = bytes < plausible_bytes
                                 ? fmt::format("if you trust it, raise the limit with --max-output {}", bytes)
                                 : "no honest frame does";
  throw Error(Errc::limit, fmt::format("{}: declares {} of output, more than --max-output {}; {}", frame,
                                       size_text(bytes), options.max_output, advice));
}

class Decompressor {
 public:
  Decompressor(const GlobalOptions& global, const Options& options)
      : global_(global), options_(options), extraction_(extraction_options(options)) {}

  Result run(const std::string& path) const {
    const auto started = std::chrono::steady_clock::now();
    FrameReader frame = FrameReader::open(path);
    frame.use(backend_named(global_.backend));
    Result result{.frame = path, .frame_bytes = frame.sizes().file, .dumps = plan(frame, path)};
    result.output_bytes = output_bytes(result.dumps);
    check_limit(path, result.output_bytes, options_);
    result.is_folder = result.dumps.size() > 1;
    result.target = result.is_folder ? folder_target(options_, path, result.dumps.size())
                                     : file_target(options_, path, result.dumps.front());
    restore(frame, result);
    if (options_.remove && !options_.keep) remove_frame(path);
    result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
    return result;
  }

 private:
  /// The ending of -o decides the format where --to does not and one dump is written.
  std::vector<ExtractedDump> plan_by_output(const FrameReader& frame) const {
    std::vector<ExtractedDump> dumps = plan_extraction(frame, extraction_);
    if (dumps.size() != 1 || extraction_.format) return dumps;
    for (DumpFormat format : {DumpFormat::npy, DumpFormat::npz, DumpFormat::hdf5}) {
      if (format == dumps.front().info.format || !has_ending_of(options_.output, format)) continue;
      ExtractionOptions other = extraction_;
      other.format = format;
      return plan_extraction(frame, other);
    }
    return dumps;
  }

  std::vector<ExtractedDump> plan(const FrameReader& frame, const std::string& path) const {
    try {
      std::vector<ExtractedDump> dumps = plan_by_output(frame);
      if (!dumps.empty()) return dumps;
    } catch (const Error& error) {
      const std::string message = error.what();
      throw Error(error.code(), message.starts_with(path) ? message : path + ": " + message);
    }
    throw Error(Errc::damaged, path + ": holds no dump");
  }

  void restore(const FrameReader& frame, const Result& result) const {
    Progress line(global_, result.frame, result.output_bytes);
    uint64_t before = 0;
    const auto write = [&](const ExtractedDump& dump, const std::string& path) {
      write_extraction(frame, dump, path, global_.threads,
                       [&](uint64_t done) { line.update(before + done, result.output_bytes); });
      before += dump.stored_bytes();
    };
    if (result.is_folder) return to_folder(result, write);
    const ExtractedDump& dump = result.dumps.front();
    result.target == "-" ? to_stdout(dump, write) : to_file(result, dump, write);
  }

  template <class Write>
  static void to_folder(const Result& result, const Write& write) {
    AtomicFolder folder(result.target);
    for (const ExtractedDump& dump : result.dumps) {
      const fs::path path = fs::path(folder.path()) / dump.path;
      std::error_code error;
      fs::create_directories(path.parent_path(), error);
      if (error)
        throw Error(Errc::write_failed,
                    result.target + "/" + dump.path + ": cannot make its folder: " + error.message());
      write_as(folder.path(), result.target, [&] { write(dump, path.string()); });
    }
    folder.commit();
  }

  template <class Write>
  static void to_stdout(const ExtractedDump& dump, const Write& write) {
    refuse_terminal("a dump");
    if (dump.info.format != DumpFormat::hdf5) return write(dump, "-");
    // HDF5 is written here and there in the file, so a stream gets it when it is complete.
    const Spool spool;
    write(dump, spool.path());
    spool.copy_to_stdout();
  }

  template <class Write>
  void to_file(const Result& result, const ExtractedDump& dump, const Write& write) const {
    AtomicOutput output(result.target, {.force = options_.force, .inputs = {result.frame}});
    write_as(output.path(), result.target, [&] { write(dump, output.path()); });
    output.commit();
  }

  static void remove_frame(const std::string& path) {
    if (::unlink(path.c_str()) != 0)
      throw Error(Errc::write_failed,
                  path + ": decompressed, but cannot be removed: " + std::strerror(errno));
  }

  const GlobalOptions& global_;
  const Options& options_;
  ExtractionOptions extraction_;
};

// --- The report
// ------------------------------------------------------------------------------------------------------

void print_summary(const GlobalOptions& global, const Result& result) {
  if (!global.text() || global.quiet()) return;
  const std::string target =
      result.target == "-" ? "standard output" : result.target + (result.is_folder ? "/" : "");
  print(Stream::err, fmt::format("{}  {} -> {}  {}  -> {}\n", printable(result.frame),
                                 size_text(result.frame_bytes), size_text(result.output_bytes),
                                 rate_text(double(result.output_bytes) / result.seconds), printable(target)));
}

std::string output_path(const Result& result, const ExtractedDump& dump) {
  return result.is_folder ? (fs::path(result.target) / dump.path).string() : result.target;
}

Table dump_table(const std::vector<Result>& results) {
  Table table({{"path", "frame", Align::left},
               {"dump", "dump", Align::left},
               {"output", "output", Align::left},
               {"format", "format", Align::left},
               {"tensors", "tensors"},
               {"output_bytes", "bytes"}});
  for (const Result& result : results)
    for (const ExtractedDump& dump : result.dumps)
      table.add_row({result.frame, dump.path, output_path(result, dump),
                     std::string(dump_format_name(dump.info.format)), count_cell(dump.tensors.size()),
                     size_cell(dump.stored_bytes())});
  return table;
}

Json frame_json(const Result& result) {
  Json dumps = Json::array();
  for (const ExtractedDump& dump : result.dumps)
    dumps.push_back({{"dump", dump.path},
                     {"output", output_path(result, dump)},
                     {"format", dump_format_name(dump.info.format)},
                     {"tensors", dump.tensors.size()},
                     {"output_bytes", dump.stored_bytes()}});
  return {{"path", result.frame},
          {"output", result.target},
          {"file_bytes", result.frame_bytes},
          {"output_bytes", result.output_bytes},
          {"seconds", json_number(result.seconds)},
          {"dumps", std::move(dumps)}};
}

void print_report(const GlobalOptions& global, const std::vector<Result>& results) {
  const bool stdout_is_data = !results.empty() && results.front().target == "-";
  const Stream stream = stdout_is_data ? Stream::err : Stream::out;
  if (global.json()) {
    Json frames = Json::array();
    for (const Result& result : results) frames.push_back(frame_json(result));
    print_document(stream, global, {{"schema", "jsq.decompress/1"}, {"frames", std::move(frames)}}, "dumps");
  } else if (!global.text()) {
    print(stream, dump_table(results).render(global.format));
  }
}

int run_decompress(const GlobalOptions& global, const Options& options) {
  require_backend(global.backend);
  check_options(options);
  parse_size(options.max_output, "--max-output");
  const Decompressor decompressor(global, options);
  Failures failures(global, options.frames.size());
  std::vector<Result> results;
  for (const std::string& path : options.frames) {
    failures.attempt([&] {
      results.push_back(decompressor.run(path));
      print_summary(global, results.back());
    });
  }
  if (!results.empty()) print_report(global, results);
  return failures.exit_code();
}

}  // namespace

void add_decompress(CLI::App& app, const GlobalOptions& global, std::function<int()>& run) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("decompress", "Restore the dumps of a frame, or parts of them");
  command->fallthrough();
  command->add_option("FRAME", options->frames, "Frames; '-' for standard input")->required()->type_name("");
  command
      ->add_option(
          "--tensor", options->tensors,
          "Take only the tensor NAME, or DUMP::NAME where several dumps hold it; repeatable (default: all)")
      ->type_name("NAME")
      ->allow_extra_args(false);
  command
      ->add_option(
          "--slice", options->slice,
          "Take elements A to B - 1 of one tensor, counted in C order; A or B may be missing (default: all)")
      ->type_name("A:B");
  command
      ->add_option("--to", options->format,
                   "Write npy, npz or h5 (default: as the ending of -o says, else the format it was)")
      ->type_name("FORMAT")
      ->check(CLI::IsMember({"npy", "npz", "h5"}));
  command
      ->add_option("--as", options->dtype,
                   "Write elements as f32, f64, f16 or bf16 (default: the type they were)")
      ->type_name("DTYPE")
      ->check(CLI::IsMember({"f32", "f64", "f16", "bf16"}));
  command
      ->add_option("--max-output", options->max_output,
                   "Refuse a frame that declares more output, bytes or 512MiB, 2TiB (default: 64GiB)")
      ->type_name("SIZE");
  command
      ->add_option(
          "-o,--output", options->output,
          "Write to FILE, '-' for standard output; several dumps: a new folder (default: FRAME without .jsq)")
      ->type_name("FILE");
  command->add_flag("-c,--stdout", options->to_stdout, "Write to standard output (default: off)");
  command->add_flag("-f,--force", options->force, "Replace an existing output file (default: refuse)");
  command->add_flag("-k,--keep", options->keep, "Keep the frame, whatever --rm says (default: kept)");
  command->add_flag("--rm", options->remove, "Remove the frame once the output has its name (default: kept)");
  command->callback(
      [&global, &run, options] { run = [&global, options] { return run_decompress(global, *options); }; });
}

}  // namespace jsq::tools

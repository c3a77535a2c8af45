// jsq compress: dumps become one frame, and what that cost is reported.
#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "atomic_output.hpp"
#include "command.hpp"
#include "inputs.hpp"
#include "jsq/backend.hpp"
#include "jsq/compress.hpp"
#include "jsq/frame.hpp"
#include "jsq/state.hpp"
#include "layers.hpp"
#include "measure.hpp"
#include "progress.hpp"
#include "report.hpp"

namespace jsq::tools {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::vector<std::string> inputs;
  std::string method = "jointsq";
  std::string target;
  std::string ratio;
  std::string ratio_kind = "file";
  std::string scope = "archive";
  TensorFilter filter;
  std::string layers;
  std::string rounding;
  std::string nonfinite = "error";
  bool verify = false, dry_run = false;
  std::vector<std::string> metadata;
  std::string state, state_out, feedback = "auto";
  std::string output, output_folder;
  bool to_stdout = false, force = false, keep = false, remove = false;
};

/// Discards a dry run's bytes.
class NullSink final : public ByteSink {
 public:
  void write(std::span<const std::byte> /*bytes*/) override {}
};

/// One frame to write.
struct Job {
  std::vector<InputFile> files;
  std::string target;  ///< "" with a dry run, "-" for standard output
};

/// A finished frame, for the report.
struct Result {
  Job job;
  std::vector<InputDump> dumps;
  CompressReport report;
  std::vector<std::string> warnings;
  std::vector<std::string> notices;
};

std::vector<std::pair<std::string, std::string>> parse_metadata(const std::vector<std::string>& pairs) {
  std::vector<std::pair<std::string, std::string>> metadata;
  for (const std::string& pair : pairs) {
    const size_t equals = pair.find('=');
    if (equals == std::string::npos || equals == 0)
      throw Error(Errc::usage, "--meta '" + pair + "': expected KEY=VALUE");
    metadata.emplace_back(pair.substr(0, equals), pair.substr(equals + 1));
  }
  return metadata;
}

CompressOptions library_options(const GlobalOptions& global, const Options& options) {
  CompressOptions result;
  result.method = parse_method(options.method);
  result.target = default_target(result.method);
  if (!options.target.empty()) result.target = parse_target(options.target);
  if (!options.ratio.empty()) result.target = parse_target("ratio=" + options.ratio);
  result.ratio_kind = options.ratio_kind == "payload" ? RatioKind::payload : RatioKind::file;
  result.scope = options.scope == "tensor" ? Scope::tensor : Scope::archive;
  if (options.rounding == "nearest") result.rounding = Rounding::nearest;
  if (options.rounding == "stochastic") result.rounding = Rounding::stochastic;
  if (options.nonfinite == "keep") result.nonfinite = NonFinitePolicy::keep;
  if (options.nonfinite == "zero") result.nonfinite = NonFinitePolicy::zero;
  result.seed = global.seed;
  result.threads = global.threads;
  result.backend = backend_named(global.backend);
  result.metadata = parse_metadata(options.metadata);
  set_feedback(result, options.feedback);
  return result;
}

// --- Where frames go
// -------------------------------------------------------------------------------------------------

/// The name an argument's frame has: a folder's own name, a file's name with its ending.
std::string frame_name(const std::string& argument, const std::vector<InputFile>& files) {
  std::error_code error;
  std::string name = argument;
  if (!fs::is_directory(argument, error)) name = files.front().file;
  while (name.size() > 1 && name.ends_with('/')) name.pop_back();
  const std::string base = base_name(name);
  if (base.empty() || base == "." || base == ".." || name == "/")
    throw Error(Errc::usage, argument + ": gives no name for the output; name one with -o");
  return name + ".jsq";
}

bool is_one_dump_or_folder(const std::string& argument, const std::vector<InputFile>& files) {
  std::error_code error;
  return files.size() == 1 || fs::is_directory(argument, error);
}

void make_folder(const std::string& folder) {
  if (::mkdir(folder.c_str(), 0777) == 0 || errno == EEXIST) return;
  throw Error(Errc::write_failed, folder + ": cannot make the folder: " + std::strerror(errno));
}

/// With --output-dir every argument becomes a frame of its own.
std::vector<Job> jobs_in_folder(const Options& options, Failures& failures) {
  std::vector<Job> jobs;
  std::map<std::string, std::string> owner;
  for (const std::string& argument : options.inputs) {
    std::vector<InputFile> files = expand_inputs({argument}, failures);
    if (files.empty()) continue;
    if (argument == "-")
      throw Error(Errc::usage, "--output-dir cannot name the frame of standard input; use -o");
    std::error_code error;
    std::vector<Job> here;
    if (fs::is_directory(argument, error)) {
      const std::string name = frame_name(argument, files);
      here.push_back({std::move(files), name});
    } else {
      for (InputFile& file : files) here.push_back({{file}, frame_name(file.file, {file})});
    }
    for (Job& job : here) {
      job.target = (fs::path(options.output_folder) / base_name(job.target)).string();
      const auto [other, fresh] = owner.emplace(job.target, argument);
      if (!fresh)
        throw Error(Errc::usage, fmt::format("{} and {} would both become {}; compress them in two runs",
                                             other->second, argument, job.target));
      jobs.push_back(std::move(job));
    }
  }
  return jobs;
}

/// Without it all arguments make one archive.
std::vector<Job> one_job(const Options& options, Failures& failures) {
  const bool names_itself = options.inputs.size() == 1 && options.inputs.front() != "-";
  std::vector<InputFile> files = expand_inputs(options.inputs, failures);
  if (files.empty()) return {};
  Job job{.files = std::move(files), .target = options.output};
  if (options.to_stdout || (options.output.empty() && options.inputs == std::vector<std::string>{"-"}))
    job.target = "-";
  if (options.dry_run || !job.target.empty()) return {job};
  if (!names_itself || !is_one_dump_or_folder(options.inputs.front(), job.files))
    throw Error(Errc::usage,
                "several inputs make one archive; name it with -o, write it with -c, or give each its own "
                "frame with --output-dir");
  job.target = frame_name(options.inputs.front(), job.files);
  return {job};
}

void check_options(const Options& options) {
  if (options.to_stdout && !options.output.empty() && options.output != "-")
    throw Error(Errc::usage, "-c and -o name two outputs; give one of them");
  if (!options.output_folder.empty() && (options.to_stdout || !options.output.empty()))
    throw Error(Errc::usage, "--output-dir goes with neither -o nor -c; give one of them");
  if (options.state_out.empty() && (!options.state.empty() || options.feedback != "auto"))
    throw Error(Errc::usage,
                "--state and --ef need --state-out, where the next step finds what this one leaves");
  if (!options.state_out.empty() && (!options.output_folder.empty() || options.dry_run))
    throw Error(Errc::usage,
                "--state-out goes with one frame that is written, not with --output-dir or --dry-run");
}

/// --rm deletes only what is in the frame, whole, and in a file.
void check_removal(const Options& options, const std::vector<Job>& jobs) {
  if (!options.remove || options.keep || options.dry_run) return;
  if (options.filter.active())
    throw Error(Errc::usage,
                "--rm would delete tensors that --include and --exclude leave out; drop one of them");
  for (const Job& job : jobs) {
    if (job.target == "-") throw Error(Errc::usage, "--rm needs an output file; name one with -o");
    for (const InputFile& file : job.files)
      if (!file.whole || file.file == "-")
        throw Error(Errc::usage, file.argument + ": --rm would delete more than was compressed; drop it");
  }
}

// --- The work
// --------------------------------------------------------------------------------------------------------

std::string label_of(const Job& job) {
  return job.files.size() == 1 ? job.files.front().argument : fmt::format("{} dumps", job.files.size());
}

/// Compresses into `sink` with a progress line.
CompressReport compress_with_progress(const GlobalOptions& global, const Job& job,
                                      const std::vector<InputDump>& dumps, CompressOptions options,
                                      ByteSink& sink) {
  uint64_t bytes = 0;
  for (const InputDump& dump : dumps) bytes += taken_bytes(dump);
  Progress line(global, label_of(job), bytes);
  options.progress = [&](uint64_t done, uint64_t total) { line.update(done, total); };
  return compress(dumps, options, sink);
}

void remove_sources(const std::vector<InputFile>& files) {
  for (const InputFile& file : files)
    if (::unlink(file.file.c_str()) != 0)
      throw Error(Errc::write_failed,
                  file.file + ": compressed, but cannot be removed: " + std::strerror(errno));
}

class Compressor {
 public:
  Compressor(const GlobalOptions& global, const Options& options)
      : global_(global), options_(options), library_(library_options(global, options)) {}

  const CompressOptions& library() const noexcept { return library_; }

  Result run(Job job, Failures& failures) const {
    Result result{.job = std::move(job)};
    std::vector<InputFile> opened;
    result.dumps = open_inputs(result.job.files, options_.filter, failures, &opened);
    if (result.dumps.empty()) return result;
    result.job.files = opened;
    if (library_.method.name == "rdoq") take_layers(result);
    if (!options_.state_out.empty()) {
      with_state(result);
      result.warnings = warnings_of(result.report);
      return result;
    }
    if (options_.dry_run || result.job.target == "-") {
      to_stream(result);
    } else {
      to_file(result);
    }
    result.warnings = warnings_of(result.report);
    return result;
  }

 private:
  void take_layers(Result& result) const {
    if (!options_.layers.empty() && options_.layers != "none" && result.dumps.size() > 1)
      throw Error(Errc::usage, "--layers names the layers of one dump, and several were given");
    for (size_t i = 0; i < result.dumps.size(); ++i) {
      const std::string notice = attach_layers(result.dumps[i], result.job.files[i], options_.layers);
      if (!notice.empty()) result.notices.push_back(notice);
    }
  }

  /// One step of a sequence: the state is replaced only when frame and state are both whole.
  void with_state(Result& result) const {
    State state;
    if (!options_.state.empty()) state = State::load(options_.state);
    AtomicOutput output(options_.state_out,
                        {.force = options_.force || options_.state == options_.state_out});
    Compressor step(global_, options_);
    step.library_.state = &state;
    if (result.job.target == "-")
      step.to_stream(result);
    else
      step.to_file(result);
    FileSink sink(output.descriptor(), options_.state_out);
    state.save(sink);
    output.commit();
  }

  /// A frame that is checked before anybody sees it goes through an unnamed file.
  void to_stream(Result& result) const {
    if (!options_.dry_run) refuse_terminal("a frame");
    if (options_.verify) {
      const Spool spool;
      FileSink sink(spool.descriptor(), "temporary file");
      result.report = compress_with_progress(global_, result.job, result.dumps, library_, sink);
      verify_frame(FrameReader::open(spool.path()), result.dumps, result.report, global_.threads);
      if (!options_.dry_run) spool.copy_to_stdout();
      return;
    }
    NullSink nothing;
    FileSink output(STDOUT_FILENO, "standard output");
    ByteSink& sink = options_.dry_run ? static_cast<ByteSink&>(nothing) : output;
    result.report = compress_with_progress(global_, result.job, result.dumps, library_, sink);
  }

  void to_file(Result& result) const {
    OutputRules rules{.force = options_.force};
    for (const InputFile& file : result.job.files) rules.inputs.push_back(file.file);
    AtomicOutput output(result.job.target, rules);
    if (options_.verify && output.is_direct())
      throw Error(Errc::usage,
                  result.job.target + ": --verify reads the output back, which a device cannot give");
    FileSink sink(output.descriptor(), result.job.target);
    result.report = compress_with_progress(global_, result.job, result.dumps, library_, sink);
    if (options_.verify)
      verify_frame(FrameReader::open(output.path()), result.dumps, result.report, global_.threads);
    output.commit();
    if (options_.remove && !options_.keep) remove_sources(result.job.files);
  }

  static std::vector<std::string> warnings_of(const CompressReport& report) {
    const double nmse = report.distortion.nmse(), model = report.hprime();
    if (report.distortion.energy > 0 && nmse >= 1)
      return {fmt::format(
          "measured nmse {} is 1 or more: zeros would be as close to the input; use a smaller ratio or "
          "another method",
          number_text(nmse))};
    if (model > 0 && nmse > 2 * model)
      return {fmt::format("measured nmse {} is more than twice the model's h' {}; trust the measured one",
                          number_text(nmse), number_text(model))};
    return {};
  }

  const GlobalOptions& global_;
  const Options& options_;
  CompressOptions library_;
};

// --- The report
// ------------------------------------------------------------------------------------------------------

/// Elements of each width over all pools.
std::map<uint32_t, uint64_t> members_by_width(const CompressReport& report) {
  std::map<uint32_t, uint64_t> members;
  for (const PoolReport& pool : report.pools)
    for (size_t c = 0; c < pool.widths.size() && c < pool.members.size(); ++c)
      members[pool.widths[c]] += pool.members[c];
  return members;
}

/// "0/2/4/8 bits 90.9/5.0/2.9/1.2 %  kept 9.1 %  ", or nothing for a method without classes.
std::string classes_text(const CompressReport& report) {
  const std::map<uint32_t, uint64_t> members = members_by_width(report);
  if (members.empty() || report.elements == 0) return "";
  std::vector<std::string> widths, shares;
  uint64_t dropped = 0;
  for (const auto& [width, count] : members) {
    widths.push_back(std::to_string(width));
    shares.push_back(fmt::format("{:.1f}", 100.0 * double(count) / double(report.elements)));
    if (width == 0) dropped += count;
  }
  return fmt::format(" {} bits {} %  kept {}", fmt::join(widths, "/"), fmt::join(shares, "/"),
                     percent_text(1 - double(dropped) / double(report.elements)));
}

std::string subject_text(const Result& result) {
  const CompressReport& report = result.report;
  if (report.tensors.size() != 1)
    return fmt::format("{}  {} tensors in {} dump{}", label_of(result.job), report.tensors.size(),
                       result.dumps.size(), result.dumps.size() == 1 ? "" : "s");
  const TensorReport& tensor = report.tensors.front();
  const InputFile& file = result.job.files.front();
  const std::string member = tensor.name.empty() || !file.whole ? "" : "::" + tensor.name;
  return fmt::format("{}{}  {} {}", file.argument, member, dtype_name(tensor.dtype),
                     shape_text(tensor.shape));
}

std::string destination_text(const Options& options, const Result& result) {
  if (options.dry_run) return "dry run, nothing written";
  const std::string checked = options.verify ? " (verified)" : "";
  return "-> " + (result.job.target == "-" ? "standard output" : result.job.target) + checked;
}

/// The ratio that the ideal code lengths of the blocks alone would give; infinite when nothing is coded.
double entropy_ratio(const CompressReport& report) {
  double bits = 0;
  for (const PoolReport& pool : report.pools) bits += pool.entropy_bits;
  return bits > 0 ? 8.0 * double(report.input_bytes) / bits : HUGE_VAL;
}

/// The exact expectation over the rounding, where the method has one and what was measured reads differently.
std::string expected_text(const CompressReport& report) {
  double expected = 0;
  for (const PoolReport& pool : report.pools) expected += pool.expected_squared_error;
  if (std::isnan(expected) || report.distortion.energy <= 0 || expected == 0) return "";
  const std::string text = number_text(expected / report.distortion.energy);
  return text == number_text(report.distortion.nmse()) ? "" : fmt::format(" (expected {})", text);
}

/// "  7 tensors dense": what is no matrix for a low-rank method.
std::string dense_text(const CompressReport& report) {
  uint64_t dense = 0;
  for (const PoolReport& pool : report.pools) dense += pool.dense_tensors;
  if (dense == 0) return "";
  return fmt::format("  {} tensor{} dense", dense, dense == 1 ? "" : "s");
}

std::string summary_text(const Options& options, const CompressOptions& library, const Result& result) {
  const CompressReport& report = result.report;
  const Distortion& error = report.distortion;
  std::string text = fmt::format(
      "{}  {} -> {}  {} (payload {}, entropy {})  {:.3f} bit/element\n", subject_text(result),
      size_text(report.input_bytes), size_text(report.file_bytes), ratio_text(report.file_ratio()),
      ratio_text(report.payload_ratio()), ratio_text(entropy_ratio(report)), report.bits_per_element());
  text += fmt::format(
      "  {}{}{}{}  nmse {}{}  cos {}  {}  {}\n", to_string(library.method), classes_text(report),
      dense_text(report), std::isnan(report.hprime()) ? "" : "  h' " + number_text(report.hprime()),
      number_text(error.nmse()), expected_text(report), number_text(error.cosine()),
      rate_text(double(report.input_bytes) / report.seconds), destination_text(options, result));
  return text;
}

/// Lines are made printable one by one: their own newline stays.
std::string printable_lines(const std::string& text) {
  std::string out;
  for (size_t at = 0, end; at < text.size(); at = end + 1) {
    end = text.find('\n', at);
    out += printable(text.substr(at, end - at)) + "\n";
  }
  return out;
}

/// The dump's stored path for every tensor of the report.
std::vector<std::string> dump_of_tensors(const Result& result) {
  std::vector<std::string> paths;
  for (const InputDump& dump : result.dumps) paths.insert(paths.end(), taken_tensors(dump).size(), dump.path);
  return paths;
}

void add_tensor_rows(Table& table, const Result& result) {
  const std::vector<std::string> dumps = dump_of_tensors(result);
  for (size_t i = 0; i < result.report.tensors.size(); ++i) {
    const TensorReport& tensor = result.report.tensors[i];
    table.add_row({dumps.at(i), tensor.name, std::string(dtype_name(tensor.dtype)), shape_cell(tensor.shape),
                   size_cell(tensor.input_bytes), size_cell(tensor.block_bytes),
                   ratio_cell(double(tensor.input_bytes) / double(tensor.block_bytes)),
                   number_cell(tensor.distortion.nmse()), number_cell(tensor.distortion.cosine()),
                   number_cell(tensor.distortion.max_error), count_cell(tensor.nonfinite)});
  }
}

Table tensor_table() {
  return Table({{"dump", "dump", Align::left},
                {"name", "tensor", Align::left},
                {"dtype", "dtype", Align::left},
                {"shape", "shape", Align::left},
                {"input_bytes", "input"},
                {"block_bytes", "blocks"},
                {"ratio", "ratio"},
                {"nmse", "nmse"},
                {"cosine", "cos"},
                {"max_error", "max error"},
                {"nonfinite", "non-finite"}});
}

Json pool_json(const PoolReport& pool) {
  Json rounds = Json::array();
  for (const ReallocationStep& step : pool.reallocation)
    rounds.push_back({{"r", json_number(step.r)}, {"noise", json_number(step.noise)}, {"kept", step.kept}});
  return {{"widths", pool.widths},
          {"members", pool.members},
          {"hprime", json_number(pool.noise.per_element)},
          {"hprime_eq6", json_number(pool.noise.eq6)},
          {"hprime_eq6_nonzero", json_number(pool.noise.eq6_nonzero)},
          {"h_uniform", json_number(pool.noise.uniform)},
          {"uniform_bits", pool.noise.uniform_bits},
          {"payload_bits", pool.payload_bits},
          {"expected_squared_error", json_number(pool.expected_squared_error)},
          {"dense_tensors", pool.dense_tensors},
          {"entropy_bits", json_number(pool.entropy_bits)},
          {"map_bytes", pool.map_bytes},
          {"value_bytes", pool.value_bytes},
          {"map_packer", pool.map_packer},
          {"reallocation", std::move(rounds)}};
}

Json tensor_json(const TensorReport& tensor, const std::string& dump) {
  return {{"dump", dump},
          {"name", tensor.name},
          {"dtype", dtype_name(tensor.dtype)},
          {"shape", json_shape(tensor.shape)},
          {"input_bytes", tensor.input_bytes},
          {"block_bytes", tensor.block_bytes},
          {"pool", tensor.pool},
          {"nmse", json_number(tensor.distortion.nmse())},
          {"cosine", json_number(tensor.distortion.cosine())},
          {"max_error", json_number(tensor.distortion.max_error)},
          {"nonfinite", tensor.nonfinite}};
}

Json frame_json(const Options& options, const CompressOptions& library, const Result& result) {
  const CompressReport& report = result.report;
  const Distortion& error = report.distortion;
  Json inputs = Json::array(), pools = Json::array(), tensors = Json::array();
  for (const InputFile& file : result.job.files) inputs.push_back(file.argument);
  for (const PoolReport& pool : report.pools) pools.push_back(pool_json(pool));
  const std::vector<std::string> dumps = dump_of_tensors(result);
  for (size_t i = 0; i < report.tensors.size(); ++i)
    tensors.push_back(tensor_json(report.tensors[i], dumps.at(i)));
  const bool has_output = !options.dry_run;
  uint64_t nominal_bits = 0, wire_bits = 8 * report.parameter_bytes;
  for (const PoolReport& pool : report.pools) nominal_bits += pool.payload_bits;
  for (const TensorReport& tensor : report.tensors) wire_bits += 8 * tensor.code_bytes;
  return {
      {"output", has_output ? Json(result.job.target) : Json(nullptr)},
      {"inputs", std::move(inputs)},
      {"method", to_string(library.method)},
      {"target", to_string(library.target)},
      {"ratio_kind", options.ratio_kind},
      {"scope", options.scope},
      {"seed", library.seed},
      {"verified", options.verify},
      {"elements", report.elements},
      {"input_bytes", report.input_bytes},
      {"file_bytes", report.file_bytes},
      {"budget_bytes", report.budget_bytes == 0 ? Json(nullptr) : Json(report.budget_bytes)},
      {"frame_bytes", report.frame_bytes},
      {"parameter_bytes", report.parameter_bytes},
      {"nominal_bits", nominal_bits},
      {"wire_bits", wire_bits},
      {"file_ratio", json_number(report.file_ratio())},
      {"payload_ratio", json_number(report.payload_ratio())},
      {"bits_per_element", json_number(report.bits_per_element())},
      {"hprime", json_number(report.hprime())},
      {"nmse", json_number(error.nmse())},
      {"cosine", json_number(error.cosine())},
      {"max_error", json_number(error.max_error)},
      {"mean_error", error.elements == 0 ? Json(0.0) : json_number(error.error_sum / double(error.elements))},
      {"seconds", json_number(report.seconds)},
      {"warnings", result.warnings},
      {"pools", std::move(pools)},
      {"tensors", std::move(tensors)}};
}

void print_report(const GlobalOptions& global, const Options& options, const CompressOptions& library,
                  const std::vector<Result>& results) {
  const bool stdout_is_data = !options.dry_run && !results.empty() && results.front().job.target == "-";
  const Stream stream = stdout_is_data ? Stream::err : Stream::out;
  if (global.json()) {
    Json frames = Json::array();
    for (const Result& result : results) frames.push_back(frame_json(options, library, result));
    print_document(stream, global, {{"schema", "jsq.compress/1"}, {"frames", std::move(frames)}}, "tensors");
    return;
  }
  if (!global.text()) {
    Table table = tensor_table();
    for (const Result& result : results) add_tensor_rows(table, result);
    print(stream, table.render(global.format));
  }
}

/// "  rdoq:preset=fast in these bytes  nmse 0.0983  cos 0.950": what another method, rounding to nearest and
/// with the layers that it finds, would have given.
std::string same_bytes_text(const std::string& what, const std::string& method,
                            const CompressOptions& library, const Result& result) {
  CompressOptions other = library;
  other.method = parse_method(method);
  other.rounding = Rounding::nearest;
  other.ratio_kind = RatioKind::file;
  other.target = {TargetKind::bytes, double(result.report.file_bytes)};
  other.progress = nullptr;
  std::vector<InputDump> dumps = result.dumps;
  try {
    for (size_t i = 0; i < dumps.size(); ++i) attach_layers(dumps[i], result.job.files[i], "");
    NullSink nothing;
    const Distortion error = compress(dumps, other, nothing).distortion;
    return fmt::format("  {} in these bytes  nmse {}  cos {}\n", what, number_text(error.nmse()),
                       number_text(error.cosine()));
  } catch (const Error& error) {
    return fmt::format("  {} in these bytes makes no frame: {}\n", what, error.what());
  }
}

/// What the choice of method or of rounding costs, where there is one that loses less in as many bytes: of a
/// step that stands alone.
std::string alternative_text(const GlobalOptions& global, const CompressOptions& library,
                             const Result& result) {
  if (library.state != nullptr) return "";
  if (library.method.name == "rdoq" && library.rounding == Rounding::stochastic)
    return same_bytes_text("rounding to nearest", to_string(library.method), library, result);
  if (library.method.name == "jointsq" && global.verbosity > 0)
    return same_bytes_text("rdoq:preset=fast", "rdoq:preset=fast", library, result);
  return "";
}

/// What a person reads, as soon as a frame is done.
void print_summary(const GlobalOptions& global, const Options& options, const CompressOptions& library,
                   const Result& result) {
  for (const std::string& warning : result.warnings)
    if (!global.json()) warn(global, label_of(result.job) + ": " + warning);
  if (!global.text() || global.quiet()) return;
  for (const std::string& notice : result.notices) print(Stream::err, printable_lines(notice + "\n"));
  print(Stream::err, printable_lines(summary_text(options, library, result)));
  if (global.verbosity > 0 && result.report.tensors.size() > 1) {
    Table table = tensor_table();
    add_tensor_rows(table, result);
    print(Stream::err, table.text());
  }
  print(Stream::err, printable_lines(alternative_text(global, library, result)));
}

int run_compress(const GlobalOptions& global, const Options& options) {
  require_backend(global.backend);
  check_options(options);
  const Compressor compressor(global, options);
  const CompressOptions& library = compressor.library();
  Failures failures(global, options.inputs.size());
  const bool in_folder = !options.output_folder.empty();
  const std::vector<Job> jobs = in_folder ? jobs_in_folder(options, failures) : one_job(options, failures);
  check_removal(options, jobs);
  if (in_folder && !options.dry_run) make_folder(options.output_folder);

  std::vector<Result> results;
  for (const Job& job : jobs) {
    failures.attempt([&] {
      Result result = compressor.run(job, failures);
      if (result.dumps.empty()) return;
      print_summary(global, options, library, result);
      results.push_back(std::move(result));
    });
  }
  if (!results.empty()) print_report(global, options, library, results);
  return failures.exit_code();
}

void add_output_options(CLI::App& command, Options& options) {
  command
      .add_option("-o,--output", options.output,
                  "Write the frame to FILE, '-' for standard output (default: INPUT.jsq)")
      ->type_name("FILE");
  command.add_flag("-c,--stdout", options.to_stdout, "Write the frame to standard output (default: off)");
  command
      .add_option(
          "--output-dir", options.output_folder,
          "Write one frame for each INPUT into FOLDER, which is made if missing (default: one archive)")
      ->type_name("FOLDER");
  command.add_flag("-f,--force", options.force, "Replace an existing output (default: refuse)");
  command.add_flag("-k,--keep", options.keep, "Keep the inputs, whatever --rm says (default: kept)");
  command.add_flag("--rm", options.remove, "Remove the inputs once the frame has its name (default: kept)");
}

}  // namespace

void add_compress(CLI::App& app, const GlobalOptions& global, std::function<int()>& run) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("compress", "Compress gradient dumps into a .jsq frame");
  command->fallthrough();
  command
      ->add_option(
          "INPUT", options->inputs,
          "Dumps: npy, npz or HDF5 files, FILE::MEMBER, folders, quoted globs, '-' for standard input")
      ->required()
      ->type_name("");
  command
      ->add_option("-m,--method", options->method,
                   "Method, NAME[:KEY=VALUE,...]; 'jsq methods' lists them (default: jointsq)")
      ->type_name("METHOD");
  auto* target =
      command
          ->add_option(
              "-t,--target", options->target,
              "What to reach: ratio=32 (input bytes / file bytes), bpw=1 (bits per element), "
              "bytes=64KiB, nmse=1e-3, maxabs=1e-4, cosine=0.99, hprime=0.1, or native: the size of the "
              "method itself "
              "(default: ratio=32; native for methods with a few sizes or a size given in their options)")
          ->type_name("TARGET");
  command->add_option("-r,--ratio", options->ratio, "Short for --target ratio=N (default: 32)")
      ->type_name("N")
      ->excludes(target);
  command
      ->add_option(
          "--ratio-kind", options->ratio_kind,
          "What a size target counts: file (all bytes) or payload (bits of the values only, as papers count) "
          "(default: file)")
      ->type_name("KIND")
      ->check(CLI::IsMember({"file", "payload"}));
  command
      ->add_option(
          "--scope", options->scope,
          "archive: one budget shared by all tensors; tensor: the target for each alone (default: archive)")
      ->type_name("SCOPE")
      ->check(CLI::IsMember({"archive", "tensor"}));
  add_filter_options(*command, options->filter);
  command
      ->add_option(
          "--layers", options->layers,
          "Shapes of the layers of a flat npy dump, which rdoq uses: a .layers.json file, or none (default: "
          "NAME.layers.json beside NAME.npy)")
      ->type_name("FILE");
  command
      ->add_option("--rounding", options->rounding,
                   "nearest or stochastic (seeded by --seed) (default: as the method is defined)")
      ->type_name("ROUNDING")
      ->check(CLI::IsMember({"nearest", "stochastic"}));
  command
      ->add_option("--nonfinite", options->nonfinite,
                   "NaN and infinities: error, keep (stored exactly) or zero (default: error)")
      ->type_name("POLICY")
      ->check(CLI::IsMember({"error", "keep", "zero"}));
  command
      ->add_option("--state", options->state,
                   "State that the step before left in FILE (default: none, this is the first step)")
      ->type_name("FILE");
  command
      ->add_option(
          "--state-out", options->state_out,
          "Code with feedback and write the state for the next step to FILE (default: a single shot)")
      ->type_name("FILE");
  command
      ->add_option("--ef", options->feedback,
                   "Feedback of a sequence: auto (what the method's paper prescribes), none, plain (error "
                   "feedback) or "
                   "momentum:M (momentum correction with masking) (default: auto)")
      ->type_name("FEEDBACK");
  command->add_flag("--verify", options->verify,
                    "Decode the written frame and compare it with the inputs and the report (default: off)");
  command->add_flag("--dry-run", options->dry_run, "Report only, write nothing (default: off)");
  command->add_option("--meta", options->metadata, "Store KEY=VALUE in the frame; repeatable (default: none)")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  add_output_options(*command, *options);
  command->callback(
      [&global, &run, options] { run = [&global, options] { return run_compress(global, *options); }; });
}

}  // namespace jsq::tools

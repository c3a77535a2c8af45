// jsq test: does a frame decode, and with --against, to what? Nothing is written.
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "command.hpp"
#include "inputs.hpp"
#include "jsq/frame.hpp"
#include "measure.hpp"
#include "report.hpp"

namespace jsq::tools {
namespace {

struct Options {
  std::vector<std::string> frames;
  bool quick = false;
  std::string against;
  double max_nmse = std::numeric_limits<double>::infinity();
};

/// What one frame came to.
struct Result {
  std::string path;
  std::string status = "ok";  ///< ok, damaged, differs
  size_t tensors = 0;
  std::vector<std::string> names;
  std::vector<size_t> blocks;
  std::vector<BlockDamage> damage;
  std::optional<Distortion> error;  ///< with --against
  std::string difference;
};

/// "0-6, 8-61": the tensors that no damage touches.
std::string intact_tensors(const Result& result) {
  std::set<size_t> damaged;
  for (const BlockDamage& damage : result.damage) damaged.insert(damage.tensor);
  std::string text;
  for (size_t first = 0; first < result.tensors; ++first) {
    if (damaged.contains(first)) continue;
    size_t last = first;
    while (last + 1 < result.tensors && !damaged.contains(last + 1)) ++last;
    text += text.empty() ? "" : ", ";
    text += first == last ? std::to_string(first) : fmt::format("{}-{}", first, last);
    first = last;
  }
  return text.empty()                                    ? "no tensor"
         : text.find_first_of("-,") == std::string::npos ? "tensor " + text
                                                         : "tensors " + text;
}

/// The library's message without the frame's name in front, which is printed anyway.
std::string without_name(const std::string& message, const std::string& path) {
  const std::string prefix = (path == "-" ? "standard input" : path) + ": ";
  return message.starts_with(prefix) ? message.substr(prefix.size()) : message;
}

std::string error_text(const Distortion& error, const std::string& against) {
  return fmt::format("  nmse {}  cos {}  max error {}  against {}", number_text(error.nmse()),
                     number_text(error.cosine()), number_text(error.max_error), against);
}

void print_text(const GlobalOptions& global, const Options& options, const Result& result) {
  if (result.status != "damaged") {
    const std::string measured = result.error ? error_text(*result.error, options.against) : "";
    const std::string verdict = result.status == "ok" ? "ok" : "differs: " + result.difference;
    print(Stream::out, fmt::format("{}: {} ({} tensor{}){}\n", printable(result.path), printable(verdict),
                                   result.tensors, result.tensors == 1 ? "" : "s", printable(measured)));
    return;
  }
  const size_t shown =
      global.verbosity > 0 ? result.damage.size() : std::min<size_t>(result.damage.size(), 8);
  std::string text;
  for (size_t i = 0; i < shown; ++i)
    text += fmt::format("{}: damaged: {}{}\n", printable(result.path),
                        printable(without_name(result.damage[i].message, result.path)),
                        i == 0 ? " (" + intact_tensors(result) + " readable)" : "");
  if (shown < result.damage.size())
    text += fmt::format("{}: and {} more damaged blocks; -v lists them all\n", printable(result.path),
                        result.damage.size() - shown);
  print(Stream::out, text);
}

Json result_json(const Options& options, const Result& result) {
  Json damage = Json::array(), tensors = Json::array();
  for (const BlockDamage& block : result.damage)
    damage.push_back({{"tensor", block.tensor},
                      {"name", result.names[block.tensor]},
                      {"block", block.block},
                      {"blocks", result.blocks[block.tensor]},
                      {"offset_bytes", block.offset_bytes},
                      {"message", without_name(block.message, result.path)}});
  Json json = {{"path", result.path},
               {"status", result.status},
               {"tensors", result.tensors},
               {"damage", std::move(damage)}};
  if (options.against.empty()) return json;
  json["against"] = options.against;
  json["difference"] = result.difference.empty() ? Json(nullptr) : Json(result.difference);
  json["nmse"] = result.error ? json_number(result.error->nmse()) : Json(nullptr);
  json["cosine"] = result.error ? json_number(result.error->cosine()) : Json(nullptr);
  json["max_error"] = result.error ? json_number(result.error->max_error) : Json(nullptr);
  return json;
}

/// Each dump of the frame with its original: the only one, or the one stored under its path.
std::vector<InputDump> pair_originals(const FrameReader& frame, const std::vector<InputFile>& files) {
  std::vector<InputDump> originals;
  if (frame.dumps().size() == 1 && files.size() == 1) {
    originals.push_back(open_input(files.front(), {}));
    return originals;
  }
  std::map<std::string, const InputFile*> by_path;
  for (const InputFile& file : files) by_path[file.stored] = &file;
  for (const FrameDump& dump : frame.dumps()) {
    const auto found = by_path.find(dump.path);
    if (found == by_path.end())
      throw Error(Errc::assertion_failed, "the original has no dump '" + dump.path + "'");
    originals.push_back(open_input(*found->second, {}));
    by_path.erase(found);
  }
  if (!by_path.empty())
    throw Error(Errc::assertion_failed, "the frame has no dump '" + by_path.begin()->first + "'");
  return originals;
}

/// Fills in the measured error, or why there is none.
void hold_against(Result& result, const FrameReader& frame, const Options& options, unsigned threads) {
  try {
    const std::vector<InputDump> originals = pair_originals(frame, expand_input(options.against));
    Distortion total;
    for (size_t d = 0; d < originals.size(); ++d)
      for (const Distortion& error : measure_dump(frame, d, originals[d], threads)) total.add(error);
    result.error = total;
    if (total.nmse() > options.max_nmse)
      result.difference =
          fmt::format("nmse {} is above {}", number_text(total.nmse(), 4), number_text(options.max_nmse));
  } catch (const Error& error) {
    if (error.code() != Errc::assertion_failed) throw;
    result.difference = error.what();
  }
  if (!result.difference.empty()) result.status = "differs";
}

Result test_frame(const GlobalOptions& global, const Options& options, const std::string& path) {
  FrameReader frame = FrameReader::open(path);
  if (!options.quick) frame.use(backend_named(global.backend));
  Result result{.path = path, .tensors = frame.tensors().size()};
  for (const FrameTensor& tensor : frame.tensors()) {
    result.names.push_back(tensor.info.name);
    result.blocks.push_back(tensor.block_bytes.size());
  }
  // Holding it against the original decodes everything anyway, but only a sound frame can be held against
  // anything.
  result.damage = frame.test(options.quick, global.threads);
  if (!result.damage.empty()) {
    result.status = "damaged";
    return result;
  }
  if (!options.against.empty()) hold_against(result, frame, options, global.threads);
  return result;
}

Table result_table(const std::vector<Result>& results) {
  Table table({{"path", "frame", Align::left},
               {"status", "status", Align::left},
               {"tensors", "tensors"},
               {"damaged_blocks", "damaged blocks"},
               {"nmse", "nmse"},
               {"cosine", "cos"},
               {"max_error", "max error"}});
  for (const Result& result : results) {
    std::vector<Cell> row = {result.path, result.status, count_cell(result.tensors),
                             count_cell(result.damage.size())};
    if (result.error)
      row.insert(row.end(), {number_cell(result.error->nmse()), number_cell(result.error->cosine()),
                             number_cell(result.error->max_error)});
    table.add_row(std::move(row));
  }
  return table;
}

int run_test(const GlobalOptions& global, const Options& options) {
  Failures failures(global, options.frames.size());
  std::vector<Result> results;
  for (const std::string& path : options.frames) {
    failures.attempt([&] {
      Result result = test_frame(global, options, path);
      if (result.status == "damaged") failures.add(Errc::damaged);
      if (result.status == "differs") failures.add(Errc::assertion_failed);
      if (global.text() && !(global.quiet() && result.status == "ok")) print_text(global, options, result);
      results.push_back(std::move(result));
    });
  }
  if (global.json()) {
    Json frames = Json::array();
    for (const Result& result : results) frames.push_back(result_json(options, result));
    print_document(Stream::out, global, {{"schema", "jsq.test/1"}, {"frames", std::move(frames)}}, "frames");
  } else if (!global.text()) {
    print(Stream::out, result_table(results).render(global.format));
  }
  return failures.exit_code();
}

}  // namespace

void add_test(CLI::App& app, const GlobalOptions& global, std::function<int()>& run) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("test", "Check that frames decode; with --against, measure the error");
  command->fallthrough();
  command->add_option("FRAME", options->frames, "Frames; '-' for standard input")->required()->type_name("");
  command->add_flag("--quick", options->quick, "Verify checksums only, decode nothing (default: off)");
  auto* against =
      command
          ->add_option("--against", options->against,
                       "Compare with the dump or folder it was made from: names, shapes and dtypes must be "
                       "equal, the error is printed (default: none)")
          ->type_name("ORIGINAL");
  command
      ->add_option("--max-nmse", options->max_nmse,
                   "Fail when |decoded - original|^2 / |original|^2 is above X (default: no limit)")
      ->type_name("X")
      ->needs(against);
  command->callback(
      [&global, &run, options] { run = [&global, options] { return run_test(global, *options); }; });
}

}  // namespace jsq::tools

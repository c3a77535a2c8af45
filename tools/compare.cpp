// jsq compare: methods x targets x inputs in one table, each cell from true file bytes and a real decode. A
// cell that a method cannot reach says so and stops nothing.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>

#include "command.hpp"
#include "inputs.hpp"
#include "jsq/backend.hpp"
#include "jsq/method.hpp"
#include "jsq/target.hpp"
#include "report.hpp"
#include "round_trip.hpp"

namespace jsq::tools {

namespace {

struct CompareOptions {
  std::vector<std::string> inputs;
  std::vector<std::string> methods = {"jointsq", "jointsq:quant=mid", "jointsq:quant=sym",
                                      "jointsq:alloc=literal"};
  std::vector<std::string> targets;  ///< empty: each method's own
  std::string sort;
  unsigned repeat = 1;
};

/// One cell of the comparison.
struct Outcome {
  std::string input;
  std::string method;
  Target target;
  std::optional<RoundTrip> trip;
  std::string problem;  ///< why there is no round trip

  double hprime() const {
    if (!trip || trip->report.pools.empty()) return std::nan("");
    return trip->report.hprime();
  }
  double payload_ratio() const {
    if (!trip || trip->report.pools.empty()) return std::nan("");
    return trip->report.payload_ratio();
  }
  double bias() const {
    const Distortion& d = trip->distortion;
    return d.elements == 0 ? 0 : std::abs(d.error_sum) / double(d.elements);
  }
  double megabytes_per_second(double seconds) const { return double(trip->input_bytes) / 1e6 / seconds; }
};

/// A column that shows a number of a round trip, and which end of it is the better one.
struct Measure {
  const char* key;
  const char* title;
  bool larger_is_better;
  double (*value)(const Outcome&);
  std::string (*show)(double);
};

std::string three_digits(double value) {
  return std::isnan(value) ? "-" : number_text(value, 3);
}
std::string four_digits(double value) {
  return std::isnan(value) ? "-" : number_text(value, 4);
}

constexpr Measure measures[] = {
    {"file_ratio", "file", true, [](const Outcome& o) { return o.trip->file_ratio(); }, ratio_text},
    {"bits_per_element", "bit/el", false, [](const Outcome& o) { return o.trip->bits_per_element(); },
     four_digits},
    {"payload_ratio", "payload", true, [](const Outcome& o) { return o.payload_ratio(); }, ratio_text},
    {"hprime", "h'", false, [](const Outcome& o) { return o.hprime(); }, three_digits},
    {"nmse", "nmse", false, [](const Outcome& o) { return o.trip->distortion.nmse(); }, three_digits},
    {"cosine", "cos", true, [](const Outcome& o) { return o.trip->distortion.cosine(); }, three_digits},
    {"max_error", "max err", false, [](const Outcome& o) { return o.trip->distortion.max_error; },
     three_digits},
    {"bias", "bias", false, [](const Outcome& o) { return o.bias(); }, three_digits},
    {"encode_mb_per_s", "enc MB/s", true,
     [](const Outcome& o) { return o.megabytes_per_second(o.trip->encode_seconds); }, three_digits},
    {"decode_mb_per_s", "dec MB/s", true,
     [](const Outcome& o) { return o.megabytes_per_second(o.trip->decode_seconds); }, three_digits},
};

std::vector<std::string> sortable_columns() {
  std::vector<std::string> keys;
  for (const Measure& measure : measures) keys.emplace_back(measure.key);
  return keys;
}

/// Best first; cells without the number come last, in the order they had.
void sort_outcomes(std::vector<Outcome>& outcomes, const std::string& key) {
  const Measure& measure =
      *std::find_if(std::begin(measures), std::end(measures), [&](const Measure& m) { return key == m.key; });
  const auto badness = [&](const Outcome& outcome) {
    const double value = outcome.trip ? measure.value(outcome) : std::nan("");
    if (std::isnan(value)) return HUGE_VAL;
    return measure.larger_is_better ? -value : value;
  };
  std::stable_sort(outcomes.begin(), outcomes.end(),
                   [&](const Outcome& a, const Outcome& b) { return badness(a) < badness(b); });
}

Table outcome_table(const std::vector<Outcome>& outcomes, std::string_view format) {
  // In text a cell that failed says why behind its row; elsewhere the reason has a column.
  const bool text = format == "text";
  const bool several_inputs = std::any_of(
      outcomes.begin(), outcomes.end(), [&](const Outcome& o) { return o.input != outcomes.front().input; });
  const bool show_input = !text || several_inputs;
  std::vector<Column> columns;
  if (show_input) columns.push_back({"input", "input", Align::left});
  columns.push_back({"method", "method", Align::left});
  columns.push_back({"target", "target", Align::left});
  if (!text) columns.push_back({"file_bytes", "file bytes"});
  for (const Measure& measure : measures) columns.push_back({measure.key, measure.title});
  if (!text) columns.push_back({"problem", "problem", Align::left});

  Table table(std::move(columns));
  for (const Outcome& outcome : outcomes) {
    std::vector<Cell> row;
    if (show_input) row.emplace_back(outcome.input);
    row.emplace_back(outcome.method);
    row.emplace_back(to_string(outcome.target));
    if (!text) row.push_back(outcome.trip ? count_cell(outcome.trip->file_bytes) : Cell());
    for (const Measure& measure : measures) {
      if (!outcome.trip) {
        row.emplace_back();
        continue;
      }
      const double value = measure.value(outcome);
      row.emplace_back(measure.show(value), json_number(value));
    }
    if (!text) row.push_back(outcome.problem.empty() ? Cell() : Cell(outcome.problem));
    table.add_row(std::move(row));
    if (text && !outcome.trip) table.annotate_last_row(outcome.problem);
  }
  return table;
}

Outcome measure_cell(const InputFile& file, const InputDump& input, const MethodSpec& method,
                     const Target& target, unsigned repeat, const GlobalOptions& global) {
  Outcome outcome{file.argument, to_string(method), target, {}, {}};
  CompressOptions options;
  options.method = method;
  options.target = target;
  options.seed = global.seed;
  options.threads = global.threads;
  try {
    outcome.trip = measure_round_trip({input}, options, repeat);
  } catch (const Error& error) {
    if (error.code() != Errc::unreachable_target) throw;
    outcome.problem = error.what();
  }
  return outcome;
}

std::vector<MethodSpec> parse_methods(const std::vector<std::string>& texts) {
  std::vector<MethodSpec> specs;
  for (const std::string& text : texts) {
    if (text != "all") {
      specs.push_back(parse_method(text));
      continue;
    }
    for (const MethodInfo* info : methods()) specs.push_back(parse_method(info->name));
  }
  return specs;
}

int run_compare(const CompareOptions& options, const GlobalOptions& global) {
  require_backend(global.backend);
  const std::vector<MethodSpec> methods = parse_methods(options.methods);
  std::vector<Target> targets;
  for (const std::string& text : options.targets) targets.push_back(parse_target(text));
  const auto targets_of = [&](const MethodSpec& method) {
    return targets.empty() ? std::vector{default_target(method)} : targets;
  };

  Failures failures(global, options.inputs.size());
  const std::vector<InputFile> files = expand_inputs(options.inputs, failures);
  std::vector<Outcome> outcomes;
  Json inputs = Json::array();
  for (const InputFile& file : files)
    failures.attempt([&] {
      const InputDump input = open_input(file, TensorFilter());
      std::vector<Outcome> cells;
      for (const MethodSpec& method : methods)
        for (const Target& target : targets_of(method))
          cells.push_back(measure_cell(file, input, method, target, options.repeat, global));
      std::move(cells.begin(), cells.end(), std::back_inserter(outcomes));
      inputs.push_back({{"input", file.argument},
                        {"format", dump_format_name(input.source->dump().format)},
                        {"tensors", input.source->tensors().size()},
                        {"bytes", taken_bytes(input)}});
    });
  if (!options.sort.empty()) sort_outcomes(outcomes, options.sort);

  const Table table = outcome_table(outcomes, global.format);
  if (global.json()) {
    print_document(
        Stream::out, global,
        {{"schema", "jsq.compare/1"}, {"repeat", options.repeat}, {"inputs", inputs}, {"rows", table.json()}},
        "rows");
  } else if (table.rows() > 0) {
    print(Stream::out, table.render(global.format));
  }
  return failures.exit_code();
}

}  // namespace

void add_compare(CLI::App& app, const GlobalOptions& global, std::function<int()>& run) {
  auto options = std::make_shared<CompareOptions>();
  CLI::App* command =
      app.add_subcommand("compare", "Methods x targets x inputs in one table, from real files and decodes");
  command->fallthrough();
  command
      ->add_option(
          "INPUT", options->inputs,
          "Dumps: npy, npz or HDF5 files, FILE::MEMBER, folders, quoted globs, '-' for standard input")
      ->required()
      ->type_name("");
  command
      ->add_option("-m,--method", options->methods,
                   fmt::format("Method to compare, or 'all'; repeatable (default: {})",
                               fmt::join(options->methods, ", ")))
      ->type_name("METHOD|all")
      ->allow_extra_args(false);
  command
      ->add_option("-t,--target", options->targets,
                   "Size or error to compare at, or native; repeatable (default: ratio=32, native for methods with sizes of their own)")
      ->type_name("TARGET")
      ->allow_extra_args(false);
  command
      ->add_option("--sort", options->sort, "Sort by this column, best first (default: order of the methods)")
      ->type_name("COLUMN")
      ->check(CLI::IsMember(sortable_columns()));
  command
      ->add_option("--repeat", options->repeat, "Repetitions that the speeds are the median of (default: 1)")
      ->type_name("N")
      ->check(CLI::Range(1u, 1000u));
  command->callback(
      [options, &global, &run] { run = [options, &global] { return run_compare(*options, global); }; });
}

}  // namespace jsq::tools

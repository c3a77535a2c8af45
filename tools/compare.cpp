// jsq compare: methods x targets x inputs in one table, each cell from true file bytes and a real decode.
// Measuring is in comparison.*, the columns in comparison_rows.*; this file holds the options, the order of
// the work and what is printed when. A cell that a method cannot reach says so and stops nothing.
#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <optional>

#include "command.hpp"
#include "comparison.hpp"
#include "comparison_rows.hpp"
#include "condition.hpp"
#include "file_hash.hpp"
#include "inputs.hpp"
#include "journal.hpp"
#include "layers.hpp"
#include "jsq/backend.hpp"
#include "jsq/method.hpp"
#include "jsq/target.hpp"
#include "page.hpp"
#include "parallel.hpp"
#include "plot.hpp"
#include "progress.hpp"
#include "ranks.hpp"
#include "report.hpp"

namespace jsq::tools {

namespace {

constexpr const char* schema = "jsq.compare/1";

struct CompareOptions {
  std::vector<std::string> inputs;
  std::vector<std::string> methods = {"jointsq", "jointsq:quant=mid", "jointsq:quant=sym",
                                      "jointsq:alloc=literal", "rdoq", "rdoq:transform=none"};
  std::vector<std::string> targets;  ///< empty: each method's own
  std::vector<std::string> presets;
  std::string ratio_kind = "file";
  bool per_tensor = false, bound = false, pareto = false, force = false;
  std::string sort;
  unsigned repeat = 1;
  std::vector<std::string> conditions;
  std::string plot, html, resume;
};

// ---- What is to be done ------------------------------------------------------------------------------

constexpr double paper_ratios[] = {20, 32, 100, 1000};

std::vector<std::string> preset_names() {
  std::vector<std::string> names = {"papers"};
  for (double ratio : paper_ratios) names.push_back(fmt::format("paper-{}", ratio));
  return names;
}

/// Everything that is known before the first input is read.
struct Plan {
  std::vector<MethodSpec> methods;
  std::vector<ComparedTarget> targets;  ///< empty: each method's own
  std::vector<Condition> conditions;

  size_t columns() const { return std::max<size_t>(1, targets.size()); }
  ComparedTarget target(size_t method, size_t column) const {
    return targets.empty() ? ComparedTarget{default_target(methods[method])} : targets[column];
  }
};

std::vector<MethodSpec> parse_methods(const std::vector<std::string>& texts) {
  std::vector<MethodSpec> specs;
  const auto add = [&](MethodSpec spec) {
    const auto same = [&](const MethodSpec& other) { return to_string(other) == to_string(spec); };
    if (std::none_of(specs.begin(), specs.end(), same)) specs.push_back(std::move(spec));
  };
  for (const std::string& text : texts) {
    if (text != "all") {
      add(parse_method(text));
      continue;
    }
    for (const MethodInfo* info : methods()) add(parse_method(info->name));
  }
  return specs;
}

std::vector<ComparedTarget> parse_targets(const CompareOptions& options) {
  std::vector<ComparedTarget> targets;
  const auto add = [&](const ComparedTarget& target) {
    const auto same = [&](const ComparedTarget& other) { return to_string(other) == to_string(target); };
    if (std::none_of(targets.begin(), targets.end(), same)) targets.push_back(target);
  };
  const RatioKind kind = options.ratio_kind == "payload" ? RatioKind::payload : RatioKind::file;
  for (const std::string& text : options.targets) {
    const Target target = parse_target(text);
    add({target, target.is_size() ? kind : RatioKind::file});
  }
  for (const std::string& preset : options.presets)
    for (double ratio : paper_ratios)
      if (preset == "papers" || preset == fmt::format("paper-{}", ratio))
        add({{TargetKind::ratio, ratio}, RatioKind::payload});
  return targets;
}

Plan make_plan(const CompareOptions& options) {
  Plan plan;
  plan.methods = parse_methods(options.methods);
  plan.targets = parse_targets(options);
  Vocabulary vocabulary;
  for (const MethodSpec& method : plan.methods)
    vocabulary.methods.push_back({to_string(method), method.name});
  for (const QuantityInfo& info : quantity_infos) vocabulary.measures.emplace_back(info.key);
  for (const std::string& text : options.conditions)
    plan.conditions.push_back(Condition::parse(text, vocabulary));
  return plan;
}

bool names_bound(const Plan& plan) {
  for (const Condition& condition : plan.conditions)
    for (const Condition::Name& name : condition.names())
      if (Quantity(name.measure) == Quantity::bound_db || Quantity(name.measure) == Quantity::bound_factor)
        return true;
  return false;
}

struct OpenInput {
  InputFile file;
  InputDump dump;
};

std::vector<OpenInput> open_all(const std::vector<InputFile>& files, Failures& failures) {
  std::vector<OpenInput> inputs;
  for (const InputFile& file : files)
    failures.attempt([&] {
      inputs.push_back({file, open_input(file, TensorFilter())});
      attach_layers(inputs.back().dump, file, "");
    });
  return inputs;
}

RunIdentity identity_of(const std::vector<OpenInput>& inputs, const CompareOptions& options,
                        const GlobalOptions& global, bool hashes) {
  RunIdentity identity = {.seed = global.seed, .repeat = options.repeat, .inputs = {}};
  for (const OpenInput& input : inputs)
    identity.inputs.push_back({.name = input.file.argument,
                               .format = std::string(dump_format_name(input.dump.source->dump().format)),
                               .hash = hashes && input.file.file != "-" ? xxh64_of_file(input.file.file) : "",
                               .tensors = taken_tensors(input.dump).size(),
                               .bytes = taken_bytes(input.dump)});
  return identity;
}

// ---- What is printed when ----------------------------------------------------------------------------

/// Column widths for rows that are printed before the others are known.
RowForm form_of(const Plan& plan, const std::vector<OpenInput>& inputs, const CompareOptions& options,
                const GlobalOptions& global) {
  RowForm form = {.full = !global.text(),
                  .inputs = inputs.size() > 1,
                  .tensors = options.per_tensor,
                  .bound = options.bound};
  const auto widen = [](size_t& width, const std::string& text) {
    width = std::max(width, printable(text).size());
  };
  for (const OpenInput& input : inputs) {
    widen(form.input_width, input.file.argument);
    if (options.per_tensor)
      for (const TensorInfo& tensor : input.dump.source->tensors()) widen(form.tensor_width, tensor.name);
  }
  for (size_t m = 0; m < plan.methods.size(); ++m) {
    widen(form.method_width, to_string(plan.methods[m]));
    for (size_t t = 0; t < plan.columns(); ++t) widen(form.target_width, to_string(plan.target(m, t)));
  }
  return form;
}

constexpr std::string_view text_legend =
    "  file: input bytes over all bytes of the frame; payload: over the bits of the values alone; h': "
    "the model's noise\n"
    "  nmse, cos, signs (share kept), max err and bias (of the mean) are measured; enc, dec: 10^6 bytes of "
    "input a second\n";
constexpr std::string_view bound_legend =
    "  to bound: nmse above the rate-distortion bound at the same bytes; x bytes: size over the bound's at "
    "the "
    "same nmse\n";

/// Prints rows as they come, unless they must be ordered or make one JSON document. In text rows of several
/// inputs that come in their order stand under a line with the input's name.
class RowPrinter {
 public:
  RowPrinter(const GlobalOptions& global, RowForm form, bool at_once)
      : global_(global),
        form_(form),
        at_once_(at_once && global.format != "json"),
        name_inputs_(global.text() && at_once && form_.inputs) {
    if (name_inputs_) form_.inputs = false;
  }

  void start(const RunIdentity& identity) {
    if (global_.format == "jsonl") print(Stream::out, to_line(run_line(identity)) + "\n");
  }
  void add(const Outcome& outcome) {
    if (at_once_) show(outcome);
  }
  /// All rows in their last order.
  void finish(const std::vector<Outcome>& outcomes) {
    if (global_.format == "json") return;
    if (at_once_) return print_legend(outcomes);
    if (global_.format == "jsonl") {
      for (const Outcome& outcome : outcomes) show(outcome);
      return;
    }
    if (outcomes.empty()) return;
    Table table = comparison_table(form_);
    for (const Outcome& outcome : outcomes) add_outcome(table, outcome, form_);
    print(Stream::out, table.render(global_.format));
    print_legend(outcomes);
  }

 private:
  void print_legend(const std::vector<Outcome>& outcomes) const {
    if (!global_.text() || global_.quiet() || outcomes.empty()) return;
    print(Stream::out, text_legend);
    if (form_.bound) print(Stream::out, bound_legend);
  }

  void show(const Outcome& outcome) {
    clear_progress_line();
    std::string text;
    if (global_.format == "jsonl") {
      for (const Json& row : outcome_rows(outcome, form_.tensors)) {
        Json line = {{"schema", schema}, {"record", "row"}};
        line.update(row);
        text += to_line(line) + "\n";
      }
    } else {
      Table table = comparison_table(form_);
      add_outcome(table, outcome, form_);
      const bool next_input = name_inputs_ && outcome.input != input_;
      if (next_input) text = (headed_ ? "\n" : "") + printable(outcome.input) + "\n";
      if (next_input || !headed_) text += table.render_head(global_.format);
      headed_ = true;
      input_ = outcome.input;
      for (size_t row = 0; row < table.rows(); ++row) text += table.render_row(global_.format, row);
    }
    print(Stream::out, text);
  }

  const GlobalOptions& global_;
  RowForm form_;
  bool at_once_;
  bool name_inputs_;
  bool headed_ = false;
  std::string input_;  ///< of the row before
};

Json document_rows(const std::vector<Outcome>& outcomes, bool tensors) {
  Json rows = Json::array();
  for (const Outcome& outcome : outcomes)
    for (Json& row : outcome_rows(outcome, tensors)) rows.push_back(std::move(row));
  return rows;
}

// ---- Conditions --------------------------------------------------------------------------------------

/// A condition at one target of one input.
struct Verdict {
  std::string condition, input, target;
  std::optional<bool> holds;  ///< nothing where figures are missing
  std::vector<std::pair<std::string, double>> values;
  std::vector<std::string> missing;  ///< why
};

/// Outcomes of an input by method, then target, as the plan numbers them.
using Grid = std::vector<std::vector<std::optional<Outcome>>>;

std::string target_text(const Plan& plan, size_t column) {
  return plan.targets.empty() ? "the default targets" : to_string(plan.targets[column]);
}

Verdict judge(const Plan& plan, const Condition& condition, const Grid& grid, const std::string& input,
              size_t column) {
  Verdict verdict = {condition.text(), input, target_text(plan, column), {}, {}, {}};
  const auto value_of = [&](const Condition::Name& name) {
    const std::optional<Outcome>& outcome = grid[name.method][column];
    return outcome && outcome->reached ? outcome->whole.values[name.measure] : std::nan("");
  };
  for (const Condition::Name& name : condition.names()) {
    const std::string label = to_string(plan.methods[name.method]);
    const double value = value_of(name);
    verdict.values.emplace_back(fmt::format("{}.{}", label, quantity_infos[name.measure].key), value);
    if (!std::isnan(value)) continue;
    const std::optional<Outcome>& outcome = grid[name.method][column];
    const bool out_of_reach = outcome && !outcome->reached;
    verdict.missing.push_back(
        out_of_reach ? fmt::format("{} does not reach it", label)
                     : fmt::format("{} has no {} here", label, quantity_infos[name.measure].key));
  }
  verdict.holds = condition.holds(value_of);
  return verdict;
}

Json verdicts_json(const std::vector<Verdict>& verdicts) {
  Json array = Json::array();
  for (const Verdict& verdict : verdicts) {
    Json values = Json::object();
    for (const auto& [name, value] : verdict.values) values[name] = json_number(value);
    array.push_back({{"condition", verdict.condition},
                     {"input", verdict.input},
                     {"target", verdict.target},
                     {"holds", verdict.holds ? Json(*verdict.holds) : Json(nullptr)},
                     {"values", values}});
  }
  return array;
}

std::string values_text(const Verdict& verdict) {
  std::string text;
  for (const auto& [name, value] : verdict.values)
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", name,
                        std::isnan(value) ? "unknown" : number_text(value, 4));
  return text;
}

/// Says which conditions hold, or cannot be judged: what cannot be shown to be in order is not. Returns
/// whether any did.
bool report_verdicts(const GlobalOptions& global, const std::vector<Verdict>& verdicts) {
  bool any = false;
  for (const Verdict& verdict : verdicts) {
    if (verdict.holds && !*verdict.holds) continue;
    any = true;
    const std::string where =
        fmt::format("--fail-if '{}': {} at {}", verdict.condition, verdict.input, verdict.target);
    report_error(global, Errc::assertion_failed,
                 verdict.holds
                     ? fmt::format("{}: holds: {}", where, values_text(verdict))
                     : fmt::format("{}: cannot be judged: {}; choose targets that every method in it reaches",
                                   where, fmt::join(verdict.missing, ", ")));
  }
  return any;
}

// ---- Pictures and the page ---------------------------------------------------------------------------

/// Error against bytes: a line for each method through its targets, and the bound.
Chart error_chart(const std::string& input, const std::vector<Outcome>& outcomes,
                  const ComparisonBound* bound) {
  Chart chart;
  chart.title = base_name(input) + ": error against size";
  chart.x = {.label = "size of the file, bytes", .scale = Scale::logarithmic};
  chart.y = {.label = "normalised mean squared error", .scale = Scale::logarithmic};
  double least = HUGE_VAL, most = 0;
  std::vector<std::string> order;
  std::map<std::string, std::map<uint64_t, double>> points;
  for (const Outcome& outcome : outcomes) {
    if (outcome.input != input || !outcome.measured) continue;
    if (!points.contains(outcome.method)) order.push_back(outcome.method);
    points[outcome.method][outcome.whole.file_bytes] = outcome.whole[Quantity::nmse];
    if (outcome.whole[Quantity::nmse] <= 0) continue;  // exact: not on a logarithmic axis
    least = std::min(least, double(outcome.whole.file_bytes));
    most = std::max(most, double(outcome.whole.file_bytes));
  }
  for (const std::string& method : order) {
    Series series = {.name = method, .mark = Mark::points, .points = {}};
    for (const auto& [bytes, nmse] : points[method]) series.points.push_back({double(bytes), nmse});
    std::erase_if(series.points, [](const PlotPoint& point) { return point.y <= 0; });
    // A chord between two or three points says nothing about what lies between.
    constexpr size_t enough_for_a_line = 4;
    if (series.points.size() >= enough_for_a_line) series.mark = Mark::line_points;
    if (series.points.empty()) series.name += " (exact: below the axis)";
    chart.series.push_back(std::move(series));
  }
  if (bound == nullptr || most == 0) return chart;
  constexpr int steps = 14;
  Series line = {.name = "rate-distortion bound", .mark = Mark::line, .points = {}, .reference = true};
  const double low = least / 1.2, high = most * 1.2;
  for (int i = 0; i <= steps; ++i) {
    const double bytes = low * std::pow(high / low, double(i) / steps);
    line.points.push_back({bytes, bound->nmse_at(bytes)});
  }
  // At a few bits an element the bound lies decades below every method; those stay readable.
  double smallest = HUGE_VAL;
  for (const Series& series : chart.series)
    for (const PlotPoint& point : series.points)
      if (point.y > 0) smallest = std::min(smallest, point.y);
  std::erase_if(line.points, [&](const PlotPoint& point) { return point.y < smallest / 10; });
  chart.series.push_back(std::move(line));
  return chart;
}

/// The argument as a shell takes it.
std::string shell_word(const std::string& word) {
  constexpr std::string_view plain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=,+@%";
  if (!word.empty() && word.find_first_not_of(plain) == std::string::npos) return word;
  std::string out = "'";
  for (char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::string command_text(const GlobalOptions& global) {
  std::string text = "jsq";
  for (const std::string& argument : global.arguments) text += " " + shell_word(argument);
  return text;
}

Table input_table(const RunIdentity& identity) {
  Table table({{"input", "input", Align::left},
               {"format", "format", Align::left},
               {"tensors", "tensors"},
               {"bytes", "bytes"},
               {"xxh64", "XXH64 of the file", Align::left}});
  for (const RunIdentity::Input& input : identity.inputs)
    table.add_row({Cell(input.name), Cell(input.format), count_cell(input.tensors), count_cell(input.bytes),
                   input.hash.empty() ? Cell() : Cell(input.hash)});
  return table;
}

Table verdict_table(const std::vector<Verdict>& verdicts) {
  Table table({{"condition", "condition", Align::left},
               {"input", "input", Align::left},
               {"target", "target", Align::left},
               {"holds", "holds", Align::left},
               {"values", "values", Align::left}});
  for (const Verdict& verdict : verdicts)
    table.add_row({Cell(verdict.condition), Cell(verdict.input), Cell(verdict.target),
                   Cell(!verdict.holds   ? "unknown"
                        : *verdict.holds ? "yes"
                                         : "no"),
                   Cell(values_text(verdict))});
  return table;
}

constexpr const char* column_legend =
    "file: bytes of the input over all bytes of the frame. payload: the same as papers count it, the bits of "
    "the values alone. "
    "h': model noise of the allocation. nmse, cos, signs, max err, bias: measured on the decoded values; "
    "signs is the share of "
    "elements whose sign (-1, 0, 1) is kept, bias the magnitude of the mean error. to bound: decibels of "
    "NMSE above the "
    "rate-distortion bound at the same bytes; x bytes: size over the bound's at the same NMSE. Speeds are in "
    "10^6 bytes of "
    "input a second. A click on a heading sorts.";

// ---- The run -----------------------------------------------------------------------------------------

class Comparison {
 public:
  Comparison(const CompareOptions& options, const GlobalOptions& global)
      : options_(options),
        global_(global),
        ranks_(join()),
        plan_(make_plan(options)),
        failures_(global, options.inputs.size()) {}

  int run() {
    require_backend(global_.backend);
    const bool first = !ranks_ || ranks_->rank() == 0;
    if (first) prepare_outputs();
    const std::vector<InputFile> files = expand_inputs(options_.inputs, failures_);
    inputs_ = open_all(files, failures_);
    const bool hashes = global_.json() || !options_.html.empty() || !options_.resume.empty();
    identity_ = identity_of(inputs_, options_, global_, hashes);
    if (!options_.resume.empty()) open_journal();
    if (!first) return serve();
    const bool at_once = options_.sort.empty() && !options_.pareto;
    RowPrinter printer(global_, form_of(plan_, inputs_, options_, global_), at_once);
    printer.start(identity_);
    measure(printer);
    std::vector<Outcome> all = outcomes_;
    arrange();
    printer.finish(outcomes_);
    print_rest();
    draw(all);
    const bool failed = report_verdicts(global_, verdicts_);
    return failed ? exit_code(Errc::assertion_failed) : failures_.exit_code();
  }

 private:
  /// Rank 0 meets the same inputs and options and says what is wrong with them.
  static std::unique_ptr<Ranks> join() {
    std::unique_ptr<Ranks> ranks = Ranks::join();
    if (!ranks || ranks->rank() == 0) return ranks;
    const Descriptor nowhere(::open("/dev/null", O_WRONLY | O_CLOEXEC));
    ::dup2(nowhere.get(), STDOUT_FILENO);
    ::dup2(nowhere.get(), STDERR_FILENO);
    return ranks;
  }

  bool wants_bound() const {
    return options_.bound || !options_.plot.empty() || !options_.html.empty() || names_bound(plan_);
  }

  /// What can be refused is refused before the work.
  void prepare_outputs() {
    if (!options_.plot.empty()) {
      plot_format_ = picture_format(options_.plot);
      require_gnuplot("--plot");
      plot_.emplace(options_.plot, OutputRules{options_.force, options_.inputs, "--plot"});
    }
    if (!options_.html.empty()) {
      require_gnuplot("--html");
      html_.emplace(options_.html, OutputRules{options_.force, options_.inputs, "--html"});
    }
  }

  void open_journal() {
    journal_.emplace(options_.resume, identity_, options_.per_tensor);
    if (journal_->cells() > 0 && !global_.quiet() && !global_.json())
      print(Stream::err,
            fmt::format("{}: {} finished cells are taken from it\n", options_.resume, journal_->cells()));
    if (journal_->foreign_cells() > 0)
      warn(global_,
           fmt::format(
               "{}: {} cells are of other inputs, another seed, --repeat or version; they are not used",
               options_.resume, journal_->foreign_cells()));
  }

  const Outcome* finished(const OpenInput& input, size_t method, size_t column) const {
    if (!journal_) return nullptr;
    return journal_->find(input.file.argument, to_string(plan_.methods[method]),
                          plan_.target(method, column));
  }

  /// A cell of the table, in the order of the rows.
  struct Job {
    size_t input, method, column;
    bool known;  ///< in the journal
  };
  /// What came of it: an outcome, or the error that ends its input.
  struct Result {
    std::optional<Outcome> outcome;
    Errc code = Errc::internal;
    std::string message;
  };

  const OpenInput& input_of(const Job& job) const { return inputs_[job.input]; }

  void plan_jobs() {
    for (size_t i = 0; i < inputs_.size(); ++i)
      for (size_t m = 0; m < plan_.methods.size(); ++m)
        for (size_t t = 0; t < plan_.columns(); ++t) {
          jobs_.push_back({i, m, t, finished(inputs_[i], m, t) != nullptr});
          if (!jobs_.back().known) total_bytes_ += taken_bytes(inputs_[i].dump);
        }
    results_.resize(jobs_.size());
  }

  void measure(RowPrinter& printer) {
    plan_jobs();
    Progress progress(global_, "comparing", total_bytes_);
    for (size_t first = 0; first < jobs_.size();) {
      const OpenInput& input = input_of(jobs_[first]);
      const size_t end = first + plan_.methods.size() * plan_.columns();
      Grid grid(plan_.methods.size(), std::vector<std::optional<Outcome>>(plan_.columns()));
      const bool whole = failures_.attempt([&] {
        if (wants_bound())
          bounds_.try_emplace(input.file.argument, input.dump, options_.per_tensor, global_.threads);
        for (size_t job = first; job < end; ++job) {
          Outcome outcome = outcome_of(job, progress);
          if (const auto bound = bounds_.find(input.file.argument); bound != bounds_.end())
            bound->second.judge(outcome);
          grid[jobs_[job].method][jobs_[job].column] = outcome;
          outcomes_.push_back(std::move(outcome));
          printer.add(outcomes_.back());
        }
      });
      if (whole) judge_all(grid, input.file.argument);
      first = end;
    }
  }

  bool is_own(size_t job) const {
    return !jobs_[job].known && (!ranks_ || job % size_t(ranks_->size()) == size_t(ranks_->rank()));
  }

  /// The outcome of a job: from the journal, or measured here, or by another rank while this one measures its
  /// own.
  Outcome outcome_of(size_t job, Progress& progress) {
    const Job& wanted = jobs_[job];
    if (wanted.known) return *finished(input_of(wanted), wanted.method, wanted.column);
    while (!results_[job]) {
      if (is_own(job)) {
        settle(job, measure_job(job, progress), progress);
      } else if (const std::optional<size_t> own = next_own(job)) {
        settle(*own, measure_job(*own, progress), progress);
        while (const std::optional<std::string> text = ranks_->try_receive()) take_message(*text, progress);
      } else {
        take_message(ranks_->receive(), progress);
      }
    }
    const Result& result = *results_[job];
    if (!result.outcome) throw Error(result.code, result.message);
    return *result.outcome;
  }

  std::optional<size_t> next_own(size_t from) const {
    for (size_t job = from; job < jobs_.size(); ++job)
      if (is_own(job) && !results_[job]) return job;
    return std::nullopt;
  }

  Result measure_job(size_t number, Progress& progress) {
    const Job& job = jobs_[number];
    const OpenInput& input = input_of(job);
    const uint64_t bytes = taken_bytes(input.dump);
    CellRequest request;
    request.input = &input.dump;
    request.input_name = input.file.argument;
    request.method = plan_.methods[job.method];
    request.target = plan_.target(job.method, job.column);
    request.repeat = options_.repeat;
    request.seed = global_.seed;
    request.threads = global_.threads;
    request.backend = backend_named(global_.backend);
    progress.set_label(fmt::format("{} {}", to_string(request.method), to_string(request.target)));
    progress.update(done_bytes_, total_bytes_);
    request.progress = [&](uint64_t elements, uint64_t of) {
      const double share = of == 0 ? 0 : double(elements) / double(of) / options_.repeat;
      progress.update(done_bytes_ + uint64_t(double(bytes) * share), total_bytes_);
    };
    try {
      return {.outcome = measure_cell(request), .message = ""};
    } catch (const Error& error) {
      return {.outcome = {}, .code = error.code(), .message = error.what()};
    }
  }

  void settle(size_t job, Result result, Progress& progress) {
    done_bytes_ += taken_bytes(input_of(jobs_[job]).dump);
    progress.update(done_bytes_, total_bytes_);
    if (journal_ && result.outcome) journal_->append(*result.outcome);
    results_[job] = std::move(result);
  }

  // ---- Under mpirun: rank r measures the jobs whose number is r modulo the ranks, rank 0 prints all ------

  static std::string message_of(size_t job, const Result& result) {
    Json message = {{"job", job}};
    if (result.outcome) {
      message["rows"] = outcome_rows(*result.outcome, true);
    } else {
      message["code"] = int(result.code);
      message["message"] = result.message;
    }
    return to_line(message);
  }

  void take_message(const std::string& text, Progress& progress) {
    const Json message = Json::parse(text);
    Result result;
    if (message.contains("rows")) {
      result.outcome = outcome_of_rows(message["rows"].get<std::vector<Json>>());
    } else {
      result.code = Errc(message["code"].get<int>());
      result.message = message["message"].get<std::string>();
    }
    settle(message["job"].get<size_t>(), std::move(result), progress);
  }

  /// What a rank other than 0 does.
  int serve() {
    plan_jobs();
    Progress silent(GlobalOptions{.verbosity = -1, .progress = "never"}, "", 0);
    for (size_t job = 0; job < jobs_.size(); ++job)
      if (is_own(job)) ranks_->send(message_of(job, measure_job(job, silent)));
    return 0;
  }

  void judge_all(const Grid& grid, const std::string& input) {
    for (const Condition& condition : plan_.conditions)
      for (size_t column = 0; column < plan_.columns(); ++column)
        verdicts_.push_back(judge(plan_, condition, grid, input, column));
  }

  void arrange() {
    if (options_.pareto) {
      const std::vector<bool> front = pareto_front(outcomes_);
      std::vector<Outcome> kept;
      for (size_t i = 0; i < outcomes_.size(); ++i)
        if (front[i]) kept.push_back(std::move(outcomes_[i]));
      outcomes_ = std::move(kept);
    }
    if (!options_.sort.empty()) sort_outcomes(outcomes_, *quantity_of_key(options_.sort));
  }

  /// What follows the rows.
  void print_rest() const {
    if (!global_.json()) return;
    Json document = {{"schema", schema},
                     {"version", JSQ_VERSION},
                     {"seed", identity_.seed},
                     {"repeat", identity_.repeat},
                     {"threads", thread_count(global_.threads)},
                     {"inputs", inputs_json(identity_)},
                     {"conditions", verdicts_json(verdicts_)}};
    if (global_.format == "json") {
      document["rows"] = document_rows(outcomes_, options_.per_tensor);
      print_document(Stream::out, global_, document, "rows");
      return;
    }
    Json line = {{"schema", schema}, {"record", "summary"}};
    line.update(document);
    print(Stream::out, to_line(line) + "\n");
  }

  const ComparisonBound* bound_of(const std::string& input) const {
    const auto found = bounds_.find(input);
    return found == bounds_.end() ? nullptr : &found->second;
  }

  void draw(const std::vector<Outcome>& all) {
    if (!plot_ && !html_) return;
    std::vector<Chart> charts;
    for (const OpenInput& input : inputs_)
      charts.push_back(error_chart(input.file.argument, all, bound_of(input.file.argument)));
    if (plot_) write_picture(charts, plot_format_, *plot_);
    if (html_) write_page(charts);
  }

  void write_page(const std::vector<Chart>& charts) {
    Page page = {.title = "jsq compare", .command = command_text(global_), .sections = {}};
    page.sections.push_back(
        {.heading = "Inputs", .text = "", .pictures = {}, .tables = {input_table(identity_)}});
    const RowForm form = {.full = false, .inputs = false, .tensors = options_.per_tensor, .bound = true};
    for (size_t i = 0; i < inputs_.size(); ++i) {
      Table table = comparison_table(form);
      for (const Outcome& outcome : outcomes_)
        if (outcome.input == inputs_[i].file.argument) add_outcome(table, outcome, form);
      page.sections.push_back({.heading = inputs_[i].file.argument,
                               .text = i == 0 ? column_legend : "",
                               .pictures = {charts[i]},
                               .tables = {table}});
    }
    if (!verdicts_.empty())
      page.sections.push_back(
          {.heading = "Conditions", .text = "", .pictures = {}, .tables = {verdict_table(verdicts_)}});
    const std::string bytes = page_html(page);
    FileSink(html_->descriptor(), options_.html).write(std::as_bytes(std::span(bytes)));
    html_->commit();
  }

  const CompareOptions& options_;
  const GlobalOptions& global_;
  std::unique_ptr<Ranks> ranks_;  ///< only under mpirun
  Plan plan_;
  Failures failures_;
  std::vector<OpenInput> inputs_;
  RunIdentity identity_;
  std::optional<Journal> journal_;
  std::map<std::string, ComparisonBound> bounds_;
  std::vector<Job> jobs_;
  std::vector<std::optional<Result>> results_;
  uint64_t done_bytes_ = 0, total_bytes_ = 0;
  std::vector<Outcome> outcomes_;
  std::vector<Verdict> verdicts_;
  PictureFormat plot_format_ = PictureFormat::svg;
  std::optional<AtomicOutput> plot_, html_;
};

std::vector<std::string> sortable_columns() {
  std::vector<std::string> keys;
  for (const QuantityInfo& info : quantity_infos) keys.emplace_back(info.key);
  return keys;
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
                   "Size or error to compare at, or native; repeatable (default: ratio=32, native for "
                   "methods with sizes of their own)")
      ->type_name("TARGET")
      ->allow_extra_args(false);
  command
      ->add_option("--preset", options->presets,
                   "Targets of the papers, by their payload accounting: papers (ratios 20, 32, 100 and 1000) "
                   "or one of them; repeatable (default: none)")
      ->type_name("NAME")
      ->check(CLI::IsMember(preset_names()))
      ->allow_extra_args(false);
  command
      ->add_option("--ratio-kind", options->ratio_kind,
                   "What a size target counts: file (all bytes) or payload (bits of the values only, as "
                   "papers count) (default: file)")
      ->type_name("KIND")
      ->check(CLI::IsMember({"file", "payload"}));
  command->add_flag("--per-tensor", options->per_tensor,
                    "Show every tensor, not only the whole of each dump (default: off)");
  command->add_flag("--bound", options->bound,
                    "Show the distance to the rate-distortion bound of the values (default: off)");
  command->add_flag("--pareto", options->pareto,
                    "Show only what no other row of the input beats in both size and NMSE (default: off)");
  command
      ->add_option("--sort", options->sort, "Sort by this column, best first (default: order of the methods)")
      ->type_name("COLUMN")
      ->check(CLI::IsMember(sortable_columns()));
  command
      ->add_option("--repeat", options->repeat, "Repetitions that the speeds are the median of (default: 1)")
      ->type_name("N")
      ->check(CLI::Range(1u, 1000u));
  command
      ->add_option("--fail-if", options->conditions,
                   "Exit with 11 when this holds at a target, such as 'jointsq.nmse > topk.nmse'; repeatable "
                   "(default: none)")
      ->type_name("CONDITION")
      ->allow_extra_args(false);
  command
      ->add_option("--plot", options->plot,
                   "Draw error against size into FILE, .svg, .png or .pdf (default: none)")
      ->type_name("FILE");
  command
      ->add_option("--html", options->html,
                   "Write the tables and pictures as one page to FILE (default: none)")
      ->type_name("FILE");
  command
      ->add_option("--resume", options->resume,
                   "Take finished cells from FILE, JSON lines of an earlier run, and append those that "
                   "finish now (default: none)")
      ->type_name("FILE");
  command->add_flag("-f,--force", options->force, "Replace the files of --plot and --html (default: off)");
  command->callback(
      [options, &global, &run] { run = [options, &global] { return Comparison(*options, global).run(); }; });
}

}  // namespace jsq::tools

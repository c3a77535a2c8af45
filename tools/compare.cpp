// jsq compare: methods x targets x inputs in one table, each cell from true file bytes and a real decode.
// Measuring is in comparison.*, what was asked for in comparison_plan.*, the forms of the result in
// comparison_rows.*, _printer, _verdicts and _page; this file holds the options and the order of the work. A
// cell that a method cannot reach says so and stops nothing.
#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>

#include "command.hpp"
#include "comparison.hpp"
#include "comparison_page.hpp"
#include "comparison_plan.hpp"
#include "comparison_printer.hpp"
#include "comparison_rows.hpp"
#include "comparison_verdicts.hpp"
#include "file_hash.hpp"
#include "inputs.hpp"
#include "journal.hpp"
#include "jsq/backend.hpp"
#include "layers.hpp"
#include "page.hpp"
#include "parallel.hpp"
#include "plot.hpp"
#include "progress.hpp"
#include "ranks.hpp"
#include "report.hpp"

namespace jsq::tools {
namespace {

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
    Json document = {{"schema", comparison_schema},
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
    Json line = {{"schema", comparison_schema}, {"record", "summary"}};
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
    const std::string bytes =
        page_html(comparison_page(global_, identity_, outcomes_, charts, verdicts_, options_.per_tensor));
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

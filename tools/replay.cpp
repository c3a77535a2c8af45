// jsq replay: a sequence of dumps through methods with error feedback, step by step, as training would send
// them. Here are the options and the order of the work; a run is in replay_run.*, the report in
// replay_report.*.
#include <fmt/format.h>
#include <unistd.h>

#include <charconv>
#include <memory>
#include <optional>

#include "atomic_output.hpp"
#include "jsq/backend.hpp"
#include "progress.hpp"
#include "replay_report.hpp"
#include "replay_run.hpp"
#include "studies.hpp"

namespace jsq::tools {

namespace {

struct ReplayOptions {
  std::vector<std::string> inputs;
  std::vector<std::string> methods = {"jointsq"};
  std::vector<std::string> targets, feedbacks = {"auto"}, schedules = {"constant"};
  uint64_t length = 0;  ///< 0: the steps before and those taken
  std::string steps, layers, nonfinite = "error", state, plot;
  bool per_step = false, force = false;
};

/// Steps [first, end) of the input.
struct StepRange {
  size_t first = 0, end = 0;
};

StepRange parse_steps(const std::string& text, size_t steps) {
  StepRange range{0, steps};
  if (text.empty()) return range;
  const size_t colon = text.find(':');
  const auto number = [&](std::string_view digits, size_t& value) {
    if (digits.empty()) return true;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return error == std::errc() && end == digits.data() + digits.size();
  };
  const bool sound = colon != std::string::npos &&
                     number(std::string_view(text).substr(0, colon), range.first) &&
                     number(std::string_view(text).substr(colon + 1), range.end);
  if (!sound || range.first >= range.end || range.end > steps)
    throw Error(Errc::usage,
                fmt::format("--steps '{}': expected FIRST:END of 0:{}, which the input has; END is not taken",
                            text, steps));
  return range;
}

class Replay {
 public:
  Replay(const ReplayOptions& options, const GlobalOptions& global)
      : options_(options), global_(global), failures_(global, 0) {}

  int run() {
    require_backend(global_.backend);
    prepare_outputs();
    sequence_.emplace(Sequence::open(options_.inputs, FileAxis::steps, options_.layers));
    range_ = parse_steps(options_.steps, sequence_->steps());
    load_state();
    make_runs();
    advance();
    report();
    return failures_.exit_code();
  }

 private:
  void prepare_outputs() {
    if (options_.plot.empty()) return;
    plot_format_ = picture_format(options_.plot);
    require_gnuplot("--plot");
    plot_.emplace(options_.plot, OutputRules{options_.force, options_.inputs, "--plot"});
  }

  void load_state() {
    if (options_.state.empty()) return;
    const bool goes_on = ::access(options_.state.c_str(), F_OK) == 0;
    if (goes_on) saved_ = State::load(options_.state);
    state_output_.emplace(options_.state, OutputRules{goes_on, options_.inputs, "--state"});
  }

  void make_runs() {
    const uint64_t before = saved_ ? saved_->step : 0;
    const uint64_t length = options_.length ? options_.length : before + (range_.end - range_.first);
    for (const std::string& method : options_.methods)
      for (const std::string& target :
           options_.targets.empty() ? std::vector<std::string>{""} : options_.targets)
        for (const std::string& feedback : options_.feedbacks)
          for (const std::string& schedule : options_.schedules) {
            ReplayPlan plan;
            plan.coding.method = parse_method(method);
            plan.coding.target = target.empty() ? default_target(plan.coding.method) : parse_target(target);
            plan.coding.seed = global_.seed;
            plan.coding.threads = global_.threads;
            if (options_.nonfinite == "zero") plan.coding.nonfinite = NonFinitePolicy::zero;
            set_feedback(plan.coding, feedback);
            plan.schedule = parse_schedule(schedule);
            plan.length = length;
            runs_.push_back(std::make_unique<ReplayRun>(std::move(plan), *sequence_));
          }
    failures_.expect_more(runs_.size());
    if (!saved_) return;
    bind(*saved_);
    for (size_t r = 0; r < runs_.size(); ++r) runs_[r]->load(*saved_, prefix(r));
  }

  static std::string prefix(size_t run) { return fmt::format("run{}/", run); }

  /// Makes the state that of these runs on these tensors, or says why it is not.
  void bind(State& state) const {
    std::string names;
    std::vector<TensorInfo> tensors;
    for (size_t r = 0; r < runs_.size(); ++r) {
      names += fmt::format("{}{}", r == 0 ? "" : "; ", runs_[r]->plan().name());
      for (TensorInfo& info : runs_[r]->kept_tensors(prefix(r))) tensors.push_back(std::move(info));
    }
    std::vector<const TensorInfo*> infos;
    for (const TensorInfo& info : tensors) infos.push_back(&info);
    state.bind(
        fmt::format("jsq replay [{}] of {} workers with seed {}", names, sequence_->workers(), global_.seed),
        infos);
  }

  void advance() {
    const size_t steps = range_.end - range_.first;
    Progress progress(global_, "replaying",
                      runs_.size() * steps * sequence_->workers() * sequence_->stored_bytes());
    for (size_t r = 0; r < runs_.size(); ++r) {
      const bool whole = failures_.attempt([&] {
        for (size_t step = range_.first; step < range_.end; ++step) {
          progress.set_label(to_string(runs_[r]->plan().coding.method));
          progress.update(r * steps + step - range_.first, runs_.size() * steps);
          runs_[r]->advance(step);
        }
      });
      if (whole) done_.push_back(runs_[r].get());
    }
  }

  void report() {
    const ReplayInput input = {.names = options_.inputs,
                               .steps = range_.end - range_.first,
                               .workers = sequence_->workers(),
                               .elements = sequence_->elements(),
                               .input_bytes = sequence_->stored_bytes(),
                               .seed = global_.seed};
    // What is to be gone on with is on the disk before it is told.
    if (state_output_ && done_.size() == runs_.size()) write_state();
    if (global_.json()) {
      print_document(Stream::out, global_, replay_document(done_, input), "runs");
    } else if (!done_.empty()) {
      const bool one = runs_.size() == 1 && global_.text();
      if (one) print(Stream::out, printable(done_[0]->plan().name()) + "\n");
      const bool each_step = one || options_.per_step || global_.format == "csv";
      print(Stream::out, replay_table(done_, input, each_step, !one).render(global_.format));
      if (global_.text() && !global_.quiet()) print(Stream::out, legend);
    }
    if (plot_ && !done_.empty()) write_picture(replay_charts(done_, input), plot_format_, *plot_);
  }

  void write_state() {
    State state;
    bind(state);
    for (size_t r = 0; r < runs_.size(); ++r) runs_[r]->save(state, prefix(r));
    FileSink sink(state_output_->descriptor(), options_.state);
    state.save(sink);
    state_output_->commit();
  }

  static constexpr std::string_view legend =
      "  bytes: of all workers' frames; nmse, cos: of their mean; coded: nmse of what was coded, residual "
      "and all\n"
      "  residual: norm of what was not sent yet; sum err: |sum g - sum of decoded| / |sum g| up to the "
      "step\n";

  const ReplayOptions& options_;
  const GlobalOptions& global_;
  Failures failures_;
  std::optional<Sequence> sequence_;
  StepRange range_;
  std::optional<State> saved_;
  std::vector<std::unique_ptr<ReplayRun>> runs_;
  std::vector<const ReplayRun*> done_;
  PictureFormat plot_format_ = PictureFormat::svg;
  std::optional<AtomicOutput> plot_, state_output_;
};

}  // namespace

void add_replay(CLI::App& app, const GlobalOptions& global, std::function<int()>& run) {
  auto options = std::make_shared<ReplayOptions>();
  CLI::App* command = app.add_subcommand("replay", "A sequence of steps through methods with error feedback");
  command->fallthrough();
  command
      ->add_option(
          "INPUT", options->inputs,
          "A dump with a [steps, workers, d] data set or with groups step<N>/worker<K>, or a dump for "
          "each step: files, folders, quoted globs")
      ->required()
      ->type_name("");
  command->add_option("-m,--method", options->methods, "Method; repeatable (default: jointsq)")
      ->type_name("METHOD")
      ->allow_extra_args(false);
  command
      ->add_option(
          "-t,--target", options->targets,
          "Size or error of each worker's frame, or native; repeatable (default: ratio=32, native for "
          "methods with sizes of their own)")
      ->type_name("TARGET")
      ->allow_extra_args(false);
  command
      ->add_option("--ef", options->feedbacks,
                   "Feedback: auto (what the method's paper prescribes), none, plain (error feedback) or "
                   "momentum:M (DGC's momentum correction); repeatable (default: auto)")
      ->type_name("RULE")
      ->allow_extra_args(false);
  command
      ->add_option(
          "--schedule", options->schedules,
          "Sizes of the steps: constant, ramp-ratio:START or ramp-bits:START (from that ratio, linear, "
          "with the same bytes in all), warmup:STEPS; repeatable (default: constant)")
      ->type_name("SCHEDULE")
      ->allow_extra_args(false);
  command
      ->add_option("--length", options->length,
                   "Steps of the whole schedule (default: those of the state and those taken)")
      ->type_name("N")
      ->check(CLI::Range(uint64_t(1), uint64_t(1000000)));
  command->add_option("--steps", options->steps, "Take these steps of the input, FIRST:END (default: all)")
      ->type_name("RANGE");
  command
      ->add_option(
          "--layers", options->layers,
          "JSON or HDF5 file with the layers that flat gradients join: they become tensors (default: none)")
      ->type_name("FILE");
  command
      ->add_option("--nonfinite", options->nonfinite,
                   "Values that are not finite: error, or zero, as if they were 0 (default: error)")
      ->type_name("POLICY")
      ->check(CLI::IsMember({"error", "zero"}));
  command
      ->add_option(
          "--state", options->state,
          "Go on from FILE where it exists, and leave there what the next steps need (default: none)")
      ->type_name("FILE");
  command->add_flag("--per-step", options->per_step,
                    "Show every step of several runs, not only the whole of each (default: off)");
  command
      ->add_option("--plot", options->plot,
                   "Draw error, error of the running sum and size against the step into FILE, .svg, .png or "
                   ".pdf (default: none)")
      ->type_name("FILE");
  command->add_flag("-f,--force", options->force, "Replace the file of --plot (default: off)");
  command->callback(
      [options, &global, &run] { run = [options, &global] { return Replay(*options, global).run(); }; });
}

}  // namespace jsq::tools

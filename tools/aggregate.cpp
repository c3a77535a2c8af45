// jsq aggregate: the mean of workers' gradients as a method's collective gives it, against the true mean.
// Here are the options, the output and the report; the aggregation itself is in aggregate_run.*.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <memory>
#include <optional>

#include "aggregate_run.hpp"
#include "atomic_output.hpp"
#include "jsq/backend.hpp"
#include "ranks.hpp"
#include "report.hpp"
#include "studies.hpp"

namespace jsq::tools {

namespace {

struct AggregateCommand {
  std::vector<std::string> inputs;
  std::vector<std::string> methods = {"jointsq"};
  std::string target, collective = "auto", layers, output;
  std::optional<uint64_t> step;
  unsigned repeat = 1;
  bool force = false;
};

size_t chosen_step(const AggregateCommand& options, const Sequence& sequence) {
  if (!options.step && sequence.steps() > 1)
    throw Error(Errc::usage, fmt::format("the input has {} steps; choose one with --step 0 to --step {}",
                                         sequence.steps(), sequence.steps() - 1));
  if (options.step.value_or(0) >= sequence.steps())
    throw Error(Errc::usage, fmt::format("--step {}: the input has {} step{}, counted from 0", *options.step,
                                         sequence.steps(), sequence.steps() == 1 ? "" : "s"));
  return size_t(options.step.value_or(0));
}

DumpFormat format_of(const std::string& path) {
  if (path.ends_with(".npy")) return DumpFormat::npy;
  if (path.ends_with(".npz")) return DumpFormat::npz;
  if (path.ends_with(".h5") || path.ends_with(".hdf5")) return DumpFormat::hdf5;
  throw Error(Errc::usage, path + ": the ending says the format: .npy, .npz, .h5 or .hdf5");
}

const char* collective_name(const Aggregation& done) {
  return done.report.code_domain ? "allreduce" : "allgather";
}

/// What worker w gets back.
uint64_t received_bytes(const AggregateReport& report, size_t w) {
  if (report.code_domain) return report.reduced_bytes;
  return report.reduced_bytes + report.worker_bytes[0] - report.worker_bytes[w];
}

class Aggregate {
 public:
  Aggregate(const AggregateCommand& options, const GlobalOptions& global)
      : options_(options), global_(global), ranks_(join()), failures_(global, options.methods.size()) {}

  int run() {
    if (!is_first()) return serve();
    if (!options_.output.empty()) {
      format_of(options_.output);
      output_.emplace(options_.output, OutputRules{options_.force, options_.inputs, "-o"});
    }
    prepare();
    for (const AggregateOptions& plan : plans_)
      failures_.attempt([&] {
        done_.push_back(ranks_ ? *aggregate_between(*ranks_, *sequence_, step_, plan, options_.repeat)
                               : aggregate_alone(*sequence_, step_, plan));
      });
    if (output_ && !done_.empty()) write_mean();
    report();
    return failures_.exit_code();
  }

 private:
  /// Later ranks are silent: the first one says what went wrong anywhere.
  static std::unique_ptr<Ranks> join() {
    std::unique_ptr<Ranks> ranks = Ranks::join();
    if (!ranks || ranks->rank() == 0) return ranks;
    const Descriptor nowhere(::open("/dev/null", O_WRONLY | O_CLOEXEC));
    ::dup2(nowhere.get(), STDOUT_FILENO);
    ::dup2(nowhere.get(), STDERR_FILENO);
    return ranks;
  }
  bool is_first() const { return !ranks_ || ranks_->rank() == 0; }

  /// What all ranks find in the same way.
  void prepare() {
    require_backend(global_.backend);
    if (!options_.output.empty() && options_.methods.size() > 1)
      throw Error(Errc::usage, "-o takes the mean of one method; give one -m");
    make_plans();
    sequence_.emplace(Sequence::open(options_.inputs, FileAxis::workers, options_.layers));
    step_ = chosen_step(options_, *sequence_);
    if (ranks_ && size_t(ranks_->size()) != sequence_->workers())
      throw Error(Errc::usage, fmt::format("{} processes for {} workers; start it with mpirun -n {}",
                                           ranks_->size(), sequence_->workers(), sequence_->workers()));
  }

  /// What a rank other than 0 does. Where there is nothing to exchange, rank 0 says why and ends all.
  int serve() {
    try {
      prepare();
    } catch (const Error&) {
      return 0;
    }
    for (const AggregateOptions& plan : plans_)
      aggregate_between(*ranks_, *sequence_, step_, plan, options_.repeat);
    return 0;
  }

  void make_plans() {
    for (const std::string& method : options_.methods) {
      AggregateOptions plan;
      plan.method = parse_method(method);
      plan.target = options_.target.empty() ? default_target(plan.method) : parse_target(options_.target);
      if (options_.collective == "allreduce") plan.collective = Collective::allreduce;
      if (options_.collective == "allgather") plan.collective = Collective::allgather;
      plan.seed = global_.seed;
      plan.threads = global_.threads;
      plans_.push_back(std::move(plan));
    }
  }

  void write_mean() {
    std::vector<TensorInfo> infos = sequence_->tensors();
    for (TensorInfo& info : infos) {
      info.dtype = DType::f32;
      info.big_endian = false;
    }
    const DumpFormat format = format_of(options_.output);
    // HDF5 and npz know no tensor without a name.
    for (TensorInfo& info : infos)
      if (info.name.empty() && format != DumpFormat::npy) info.name = "mean";
    write_as(output_->path(), options_.output, [&] {
      const std::unique_ptr<GradientSink> sink =
          create_gradients(output_->path(), {.format = format, .attachment = {}}, infos);
      const std::span<const float> mean = done_[0].mean;
      size_t at = 0;
      for (size_t t = 0; t < infos.size(); ++t) {
        const auto values = mean.subspan(at, size_t(infos[t].elements()));
        if (!values.empty()) sink->write(t, std::as_bytes(values));
        at += values.size();
      }
      sink->finish();
    });
    output_->commit();
  }

  // ---- The report ------------------------------------------------------------------------------------

  void report() const {
    const Sequence& sequence = *sequence_;
    if (global_.json()) return print_document(Stream::out, global_, document(sequence), "methods");
    if (done_.empty()) return;
    if (global_.text())
      print(Stream::out,
            fmt::format("{}: {} workers, {} elements each{}\n", printable(sequence.step_name(step_)),
                        sequence.workers(), count_text(sequence.elements()),
                        ranks_ ? fmt::format(", in {} processes", ranks_->size()) : ""));
    print(Stream::out, table(sequence).render(global_.format));
  }

  Table table(const Sequence& sequence) const {
    Table table({{"method", "method", Align::left},
                 {"target", "target", Align::left},
                 {"collective", "collective", Align::left},
                 {"message_bytes", "sent"},
                 {"received_bytes", "received"},
                 {"ratio", "ratio"},
                 {"nmse", "nmse"},
                 {"cosine", "cos"},
                 {"saturated", "saturated"},
                 {"overflowed", "overflowed"},
                 {"exchange_seconds", "exchange s"}});
    for (const Aggregation& done : done_) {
      const AggregateReport& report = done.report;
      table.add_row({Cell(to_string(done.options.method)),
                     report.code_domain ? Cell() : Cell(to_string(done.options.target)),
                     Cell(collective_name(done)), count_cell(report.message_bytes),
                     count_cell(received_bytes(report, 0)),
                     ratio_cell(double(sequence.stored_bytes()) / double(report.message_bytes)),
                     number_cell(report.distortion.nmse()), number_cell(report.distortion.cosine()),
                     count_cell(report.saturated), count_cell(report.overflowed),
                     done.exchange_seconds ? number_cell(*done.exchange_seconds) : Cell()});
    }
    return table;
  }

  Json document(const Sequence& sequence) const {
    Json document = {{"schema", "jsq.aggregate/1"},
                     {"version", JSQ_VERSION},
                     {"inputs", options_.inputs},
                     {"step", sequence.step_name(step_)},
                     {"workers", sequence.workers()},
                     {"processes", ranks_ ? ranks_->size() : 1},
                     {"elements", sequence.elements()},
                     {"input_bytes", sequence.stored_bytes()},
                     {"seed", global_.seed},
                     {"methods", Json::array()}};
    for (const Aggregation& done : done_) {
      const AggregateReport& report = done.report;
      Json workers = Json::array();
      for (size_t w = 0; w < report.worker_bytes.size(); ++w)
        workers.push_back({{"worker", sequence.worker_name(step_, w)},
                           {"sent_bytes", report.worker_bytes[w]},
                           {"received_bytes", received_bytes(report, w)}});
      document["methods"].push_back(
          {{"method", to_string(done.options.method)},
           {"target", report.code_domain ? Json(nullptr) : Json(to_string(done.options.target))},
           {"collective", collective_name(done)},
           {"message_bytes", report.message_bytes},
           {"ratio", json_number(double(sequence.stored_bytes()) / double(report.message_bytes))},
           {"nmse", json_number(report.distortion.nmse())},
           {"cosine", json_number(report.distortion.cosine())},
           {"max_error", json_number(report.distortion.max_error)},
           {"saturated", report.saturated},
           {"overflowed", report.overflowed},
           {"exchange_seconds", done.exchange_seconds ? json_number(*done.exchange_seconds) : Json(nullptr)},
           {"workers", std::move(workers)}});
    }
    return document;
  }

  const AggregateCommand& options_;
  const GlobalOptions& global_;
  std::unique_ptr<Ranks> ranks_;  ///< only under mpirun
  Failures failures_;
  std::vector<AggregateOptions> plans_;
  std::optional<Sequence> sequence_;
  size_t step_ = 0;
  std::vector<Aggregation> done_;
  std::optional<AtomicOutput> output_;
};

}  // namespace

void add_aggregate(CLI::App& app, const GlobalOptions& global, std::function<int()>& run) {
  auto options = std::make_shared<AggregateCommand>();
  CLI::App* command =
      app.add_subcommand("aggregate", "The mean of workers' gradients as a method's collective gives it");
  command->fallthrough();
  command
      ->add_option("INPUT", options->inputs,
                   "A dump with a [steps, workers, d] data set or with groups worker<K>, or a dump for each "
                   "worker: files, folders, quoted globs")
      ->required()
      ->type_name("");
  command->add_option("-m,--method", options->methods, "Method; repeatable (default: jointsq)")
      ->type_name("METHOD")
      ->allow_extra_args(false);
  command
      ->add_option("-t,--target", options->target,
                   "Size or error of each worker's frame where frames are gathered, or native (default: "
                   "ratio=32, native for methods with sizes of their own)")
      ->type_name("TARGET");
  command
      ->add_option("--collective", options->collective,
                   "auto (allreduce where the method adds messages), allreduce or allgather (default: auto)")
      ->type_name("KIND")
      ->check(CLI::IsMember({"auto", "allreduce", "allgather"}));
  command->add_option("--step", options->step, "Step of the input, counted from 0 (default: the only one)")
      ->type_name("N");
  command
      ->add_option(
          "--layers", options->layers,
          "JSON or HDF5 file with the layers that flat gradients join: they become tensors (default: none)")
      ->type_name("FILE");
  command
      ->add_option("--repeat", options->repeat,
                   "Exchanges between processes that the time is the median of (default: 1)")
      ->type_name("N")
      ->check(CLI::Range(1u, 100000u));
  command
      ->add_option("-o,--output", options->output,
                   "Write the mean to FILE, .npy, .npz, .h5 or .hdf5 (default: none)")
      ->type_name("FILE");
  command->add_flag("-f,--force", options->force, "Replace the file of -o (default: off)");
  command->callback(
      [options, &global, &run] { run = [options, &global] { return Aggregate(*options, global).run(); }; });
}

}  // namespace jsq::tools

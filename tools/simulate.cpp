// jsq simulate: what a method does to the time of a training step with many workers. Sizes and codec times
// come from real encodes of a dump; the model of the network is in network_model.*, the report in
// simulation.*.
#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <memory>
#include <optional>

#include "atomic_output.hpp"
#include "codec_cost.hpp"
#include "jsq/backend.hpp"
#include "parallel.hpp"
#include "sequence.hpp"
#include "simulation.hpp"
#include "studies.hpp"

namespace jsq::tools {

namespace {

struct SimulateOptions {
  std::vector<std::string> inputs;
  std::vector<std::string> methods = {"jointsq", "topk", "powersgd", "signsgd"};
  std::string target, workers = "2..64", network = "10Gbit,25us", collective = "auto";
  double compute_ms = 100, backward_share = 2.0 / 3;
  std::string gradient_bytes, bucket = "25MiB", encode_speed, decode_speed, overlap = "on";
  unsigned repeat = 3;
  std::string plot;
  bool force = false;
};

constexpr uint64_t most_workers = 65536;

[[noreturn]] void bad(const std::string& option, const std::string& text, const std::string& expected) {
  throw Error(Errc::usage, fmt::format("{} '{}': expected {}", option, text, expected));
}

uint64_t parse_workers_number(std::string_view text, const std::string& whole) {
  uint64_t n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc() || end != text.data() + text.size() || n < 2 || n > most_workers)
    bad("--workers", whole, "numbers of 2..65536, as 2..64 (doubling) or 2,3,100");
  return n;
}

/// "2..64" -> 2, 4, 8, .. 64; "2,3,100".
std::vector<uint64_t> parse_workers(const std::string& text) {
  std::vector<uint64_t> numbers;
  if (const size_t dots = text.find(".."); dots != std::string::npos) {
    const uint64_t first = parse_workers_number(std::string_view(text).substr(0, dots), text);
    const uint64_t last = parse_workers_number(std::string_view(text).substr(dots + 2), text);
    for (uint64_t n = first; n <= last; n *= 2) numbers.push_back(n);
    if (numbers.empty()) bad("--workers", text, "a first number that is not above the last");
    if (numbers.back() != last) numbers.push_back(last);
    return numbers;
  }
  for (size_t at = 0; at <= text.size();) {
    const size_t comma = std::min(text.find(',', at), text.size());
    numbers.push_back(parse_workers_number(std::string_view(text).substr(at, comma - at), text));
    at = comma + 1;
  }
  return numbers;
}

/// A number with one of the units, such as 10Gbit or 25us.
template <size_t N>
double parse_with_unit(std::string_view text, const std::pair<std::string_view, double> (&units)[N],
                       const std::string& option, const std::string& whole, const std::string& expected) {
  for (const auto& [unit, factor] : units) {
    if (!text.ends_with(unit)) continue;
    double number = 0;
    const std::string_view digits = text.substr(0, text.size() - unit.size());
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    if (error != std::errc() || end != digits.data() + digits.size() || !(number >= 0) ||
        !std::isfinite(number))
      break;
    return number * factor;
  }
  bad(option, whole, expected);
}

Network parse_network(const std::string& text) {
  constexpr std::pair<std::string_view, double> rates[] = {
      {"Gbit", 1e9 / 8}, {"Mbit", 1e6 / 8}, {"kbit", 1e3 / 8}, {"GB", 1e9}, {"MB", 1e6}};
  constexpr std::pair<std::string_view, double> times[] = {
      {"us", 1e-6}, {"ms", 1e-3}, {"ns", 1e-9}, {"s", 1}};
  const std::string expected = "a bandwidth and a latency such as 10Gbit,25us";
  const size_t comma = text.find(',');
  Network network;
  const std::string_view all = text;
  network.bytes_per_second = parse_with_unit(all.substr(0, comma), rates, "--net", text, expected);
  if (comma != std::string::npos)
    network.alpha_seconds = parse_with_unit(all.substr(comma + 1), times, "--net", text, expected);
  if (!(network.bytes_per_second > 0)) bad("--net", text, expected);
  return network;
}

class Simulate {
 public:
  Simulate(const SimulateOptions& options, const GlobalOptions& global)
      : options_(options), global_(global), failures_(global, options.methods.size()) {}

  int run() {
    require_backend(global_.backend);
    prepare();
    for (const std::string& method : options_.methods)
      failures_.attempt([&] { simulate(parse_method(method)); });
    report();
    return failures_.exit_code();
  }

 private:
  void prepare() {
    workers_ = parse_workers(options_.workers);
    simulation_.inputs = options_.inputs;
    simulation_.network = parse_network(options_.network);
    simulation_.most_workers = most_workers;
    simulation_.threads = global_.threads == 0 ? 1 : global_.threads;
    simulation_.step.compute_seconds = options_.compute_ms / 1e3;
    simulation_.step.backward_share = options_.backward_share;
    simulation_.step.overlap = options_.overlap == "on";
    simulation_.step.bucket_bytes = double(parse_size(options_.bucket, "--bucket"));
    if (simulation_.step.bucket_bytes < 1) bad("--bucket", options_.bucket, "a size above zero");
    encode_speed_ = parse_speed(options_.encode_speed, "--encode-speed");
    decode_speed_ = parse_speed(options_.decode_speed, "--decode-speed");
    simulation_.measured_codec = !(encode_speed_ && decode_speed_);
    if (!options_.plot.empty()) {
      plot_format_ = picture_format(options_.plot);
      require_gnuplot("--plot");
      plot_.emplace(options_.plot, OutputRules{options_.force, options_.inputs, "--plot"});
    }
    read_gradient();
    const double gradient = simulation_.step.gradient_bytes;
    for (const uint64_t n : workers_) {
      SimulatedPoint point{.workers = n};
      point.codec = {.exchange = Exchange::ring, .message_bytes = gradient, .answer_bytes = gradient};
      point.time = step_time(simulation_.step, point.codec, simulation_.network, n);
      point.speedup = 1;
      simulation_.baseline.push_back(point);
    }
  }

  static std::optional<double> parse_speed(const std::string& text, const std::string& option) {
    if (text.empty()) return std::nullopt;
    const auto bytes = double(parse_size(text, option));
    if (bytes < 1) bad(option, text, "bytes a second such as 2GB");
    return bytes;
  }

  /// The first worker's gradient of the first step.
  void read_gradient() {
    sequence_.emplace(Sequence::open(options_.inputs, FileAxis::workers, ""));
    values_ = sequence_->values(0, 0);
    size_t at = 0;
    for (const TensorInfo& info : sequence_->tensors()) {
      views_.push_back({&info, std::span<const float>(values_).subspan(at, size_t(info.elements()))});
      at += size_t(info.elements());
    }
    if (values_.empty())
      throw Error(Errc::usage, options_.inputs[0] + ": has no elements to measure with; name another dump");
    simulation_.dump_bytes = 4 * double(values_.size());
    simulation_.step.gradient_bytes = options_.gradient_bytes.empty()
                                          ? simulation_.dump_bytes
                                          : double(parse_size(options_.gradient_bytes, "--gradient-bytes"));
    if (simulation_.step.gradient_bytes < 1)
      bad("--gradient-bytes", options_.gradient_bytes, "a size above zero");
  }

  AggregateOptions plan_of(const MethodSpec& method) const {
    AggregateOptions plan;
    plan.method = method;
    plan.target = options_.target.empty() ? default_target(method) : parse_target(options_.target);
    plan.seed = global_.seed;
    plan.threads = simulation_.threads;
    if (options_.collective == "allgather") plan.collective = Collective::allgather;
    if (options_.collective == "ring" || options_.collective == "tree")
      plan.collective = Collective::allreduce;
    return plan;
  }

  Exchange exchange_of(bool code_domain) const {
    if (options_.collective == "ps") return Exchange::server;
    if (!code_domain) return Exchange::allgather;
    return options_.collective == "tree" ? Exchange::tree : Exchange::ring;
  }

  /// The cost on the whole model.
  Codec codec_of(const CodecCost& cost) const {
    const double scale = simulation_.step.gradient_bytes / simulation_.dump_bytes;
    Codec codec{.exchange = exchange_of(cost.code_domain), .message_bytes = cost.message_bytes * scale};
    // A server answers with its sum as it is; frames it has averaged, it answers with the mean as fp32.
    codec.answer_bytes = cost.code_domain ? codec.message_bytes : simulation_.step.gradient_bytes;
    codec.encode_seconds =
        encode_speed_ ? simulation_.step.gradient_bytes / *encode_speed_ : cost.encode_seconds * scale;
    codec.decode_seconds =
        decode_speed_ ? simulation_.step.gradient_bytes / *decode_speed_ : cost.decode_seconds * scale;
    return codec;
  }

  void simulate(const MethodSpec& method) {
    const AggregateOptions plan = plan_of(method);
    SimulatedMethod simulated{.method = to_string(method)};
    std::optional<CodecCost> cost;
    for (size_t i = 0; i < workers_.size(); ++i) {
      SimulatedPoint point{.workers = workers_[i]};
      // A frame does not depend on the number of workers.
      if (!cost || cost->code_domain) {
        try {
          cost = measure_codec(views_, plan, uint32_t(workers_[i]), options_.repeat);
        } catch (const Error& error) {
          if (error.code() != Errc::usage || i == 0) throw;
          point.problem = error.what();  // sums of so many do not fit
          simulated.points.push_back(std::move(point));
          continue;
        }
      }
      point.codec = codec_of(*cost);
      point.time = step_time(simulation_.step, point.codec, simulation_.network, point.workers);
      const SimulatedPoint& base = simulation_.baseline[i];
      point.speedup = base.time.step_seconds / point.time.step_seconds;
      point.break_even =
          break_even_bandwidth(simulation_.step, point.codec, base.codec, simulation_.network, point.workers);
      simulated.points.push_back(std::move(point));
    }
    simulated.gathers = simulated.points[0].codec.exchange == Exchange::allgather;
    if (!cost->code_domain) simulated.target = to_string(plan.target);
    if (simulated.gathers)
      simulated.stops_paying = stops_paying(simulation_.step, simulated.points[0].codec,
                                            simulation_.baseline[0].codec, simulation_.network, most_workers);
    simulation_.methods.push_back(std::move(simulated));
  }

  void report() {
    if (global_.json()) {
      print_document(Stream::out, global_, simulation_document(simulation_), "methods");
    } else if (global_.text()) {
      print_text();
    } else {
      print(Stream::out, point_table(simulation_).render(global_.format));
    }
    if (plot_ && !simulation_.methods.empty())
      write_picture(simulation_charts(simulation_), plot_format_, *plot_);
  }

  void print_text() const {
    const TrainingStep& step = simulation_.step;
    print(Stream::out, fmt::format("{} of gradients in {} bucket{}, {} ms of compute, {} and {} us, {}\n",
                                   size_text(uint64_t(step.gradient_bytes)), step.buckets(),
                                   step.buckets() == 1 ? "" : "s", number_text(step.compute_seconds * 1e3),
                                   bandwidth_text(simulation_.network.bytes_per_second),
                                   number_text(simulation_.network.alpha_seconds * 1e6),
                                   step.overlap ? "backward overlapped" : "no overlap"));
    print(Stream::out, speedup_table(simulation_).render("text"));
    if (global_.quiet()) return;
    print(Stream::out,
          fmt::format(
              "  xN: speed-up over fp32 ring allreduce with N workers; pays below: bandwidth up to which it "
              "is faster with\n"
              "  {}; stops at: workers from which gathering is no faster; codec times are {}, {} thread{}\n",
              workers_.back(), simulation_.measured_codec ? "measured here" : "given", simulation_.threads,
              simulation_.threads == 1 ? "" : "s"));
  }

  const SimulateOptions& options_;
  const GlobalOptions& global_;
  Failures failures_;
  std::vector<uint64_t> workers_;
  std::optional<Sequence> sequence_;
  std::vector<float> values_;
  std::vector<GradientView> views_;
  std::optional<double> encode_speed_, decode_speed_;
  Simulation simulation_;
  PictureFormat plot_format_ = PictureFormat::svg;
  std::optional<AtomicOutput> plot_;
};

}  // namespace

void add_simulate(CLI::App& app, const GlobalOptions& global, std::function<int()>& run) {
  auto options = std::make_shared<SimulateOptions>();
  CLI::App* command =
      app.add_subcommand("simulate", "Time of a training step with many workers, and what compression gains");
  command->fallthrough();
  command->footer("Codecs are measured on one thread unless --threads says otherwise.\n\n" +
                  command->get_footer());
  command
      ->add_option("INPUT", options->inputs,
                   "A dump whose first gradient is encoded: a file, or what jsq aggregate takes")
      ->required()
      ->type_name("");
  command
      ->add_option("-m,--method", options->methods,
                   "Method; repeatable (default: jointsq, topk, powersgd, signsgd)")
      ->type_name("METHOD")
      ->allow_extra_args(false);
  command
      ->add_option(
          "-t,--target", options->target,
          "Size or error of frames that are gathered, or native (default: ratio=32, native for methods "
          "with sizes of their own)")
      ->type_name("TARGET");
  command
      ->add_option("--workers", options->workers,
                   "Numbers of workers up to 65536, FIRST..LAST (doubling) or 2,3,100 (default: 2..64)")
      ->type_name("LIST");
  command
      ->add_option("--net", options->network, "Bandwidth and latency of the network (default: 10Gbit,25us)")
      ->type_name("RATE,TIME");
  command
      ->add_option(
          "--collective", options->collective,
          "auto (ring where the method adds messages, otherwise allgather), ring, tree, allgather or "
          "ps (default: auto)")
      ->type_name("KIND")
      ->check(CLI::IsMember({"auto", "ring", "tree", "allgather", "ps"}));
  command
      ->add_option("--compute-ms", options->compute_ms,
                   "Milliseconds of forward and backward pass (default: 100)")
      ->type_name("MS")
      ->check(CLI::Range(0.0, 1e9));
  command
      ->add_option("--backward-share", options->backward_share,
                   "Share of it in which gradients become ready (default: 0.667)")
      ->type_name("SHARE")
      ->check(CLI::Range(0.0, 1.0));
  command
      ->add_option(
          "--gradient-bytes", options->gradient_bytes,
          "Size of the model's gradient; messages and times grow with it (default: that of the dump)")
      ->type_name("SIZE");
  command->add_option("--bucket", options->bucket, "Size of the buckets that are exchanged (default: 25MiB)")
      ->type_name("SIZE");
  command
      ->add_option("--overlap", options->overlap,
                   "Whether buckets go while the backward pass runs: on, off (default: on)")
      ->type_name("SWITCH")
      ->check(CLI::IsMember({"on", "off"}));
  command
      ->add_option("--encode-speed", options->encode_speed,
                   "Bytes of gradient that are encoded a second, such as 2GB (default: measured)")
      ->type_name("RATE");
  command
      ->add_option("--decode-speed", options->decode_speed,
                   "Bytes of gradient that a message is decoded to in a second (default: measured)")
      ->type_name("RATE");
  command
      ->add_option("--repeat", options->repeat, "Encodes that measured times are the median of (default: 3)")
      ->type_name("N")
      ->check(CLI::Range(1u, 1000u));
  command
      ->add_option("--plot", options->plot,
                   "Draw speed-up and break-even bandwidth against the workers into FILE, .svg, .png or .pdf "
                   "(default: none)")
      ->type_name("FILE");
  command->add_flag("-f,--force", options->force, "Replace the file of --plot (default: off)");
  command->callback(
      [options, &global, &run] { run = [options, &global] { return Simulate(*options, global).run(); }; });
}

}  // namespace jsq::tools

// jsq bench: how fast a method codes values in memory, against memcpy of the same bytes in the same run. The
// three are interleaved, so that whatever else the machine does hits all of them.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <memory>

#include "command.hpp"
#include "inputs.hpp"
#include "jsq/backend.hpp"
#include "jsq/device.hpp"
#include "jsq/frame.hpp"
#include "layers.hpp"
#include "parallel.hpp"
#include "report.hpp"
#include "round_trip.hpp"

namespace jsq::tools {

namespace {

struct BenchOptions {
  std::string input;
  std::string method = "jointsq";
  std::string target;  ///< empty: the method's own
  std::string size = "64Mi";
  std::string values = "host";  ///< where they are: host or device
  double min_time_seconds = 1;
};

/// "64Mi", "1000000", "2G": a count with a binary (Ki, Mi, Gi) or decimal (K, M, G) suffix.
uint64_t parse_elements(const std::string& text) {
  // A count of elements is written like a size, only without the B.
  const bool suffixed = !text.empty() && std::isalpha(static_cast<unsigned char>(text.back())) != 0;
  uint64_t elements = 0;
  try {
    elements = parse_size(suffixed ? text + "B" : text, "--size");
  } catch (const Error&) {
  }
  if (elements == 0)
    throw Error(
        Errc::usage,
        "--size: expected a count of elements such as 1000000, 64Mi or 2G, or 'dump', found '" + text + "'");
  return elements;
}

uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

/// Element i of the synthetic dump: the sum of four uniforms (nearly normal) times 2^j, where j is 0..5 with
/// probability halving. Heavy-tailed (kurtosis near 50) like a network's gradient; the same values on every
/// machine.
float synthetic_value(uint64_t i) {
  const uint64_t uniforms = mix(i * 0x9e3779b97f4a7c15u + 1), octave = mix(uniforms) | 32;
  int32_t sum = -2 * 65536;
  for (int k = 0; k < 4; ++k) sum += int32_t(uniforms >> (16 * k) & 0xffff);
  const int j = __builtin_ctzll(octave);
  return float(sum) * float(1 << j) * 0x1p-26f;
}

float* place_of(const std::shared_ptr<void>& memory, uint64_t element) {
  return static_cast<float*>(memory.get()) + element;
}

/// What is coded: tensors that lie one after the other in memory.
struct Workload {
  std::vector<float> values;
  std::vector<TensorInfo> tensors;
  std::map<size_t, std::vector<std::vector<uint64_t>>> layers;
  std::shared_ptr<void> on_device;  ///< a copy of the values; null: they are coded from the host's memory

  std::vector<InputDump> dumps() const {
    std::vector<InputDump> result;
    size_t first = 0;
    for (size_t t = 0; t < tensors.size(); ++t) {
      const auto count = size_t(tensors[t].elements());
      InputDump dump{fmt::format("bench{}.npy", t),
                     on_device ? device_source({{tensors[t], place_of(on_device, first)}}, nullptr)
                               : source_of(tensors[t], std::span(values).subspan(first, count)),
                     {},
                     true,
                     {}};
      if (const auto found = layers.find(t); found != layers.end()) dump.layers[0] = found->second;
      result.push_back(std::move(dump));
      first += count;
    }
    return result;
  }
};

InputFile only_input(const std::string& path) {
  const std::vector<InputFile> files = expand_input(path);
  if (files.size() != 1)
    throw Error(Errc::usage, fmt::format("{}: stands for {} dumps; name one", path, files.size()));
  return files.front();
}

/// Elements of the input, all tensors in order, at most `limit` of them.
std::vector<float> read_values(const InputDump& input, uint64_t limit) {
  std::vector<float> values, scratch;
  for (const size_t t : taken_tensors(input)) {
    if (values.size() >= limit) break;
    const uint64_t count = std::min<uint64_t>(input.source->tensors()[t].elements(), limit - values.size());
    for (uint64_t first = 0; first < count; first += 65536) {
      const auto block =
          input.source->read(t, first, size_t(std::min<uint64_t>(65536, count - first)), scratch);
      values.insert(values.end(), block.begin(), block.end());
    }
  }
  if (values.empty())
    throw Error(Errc::usage, input.path + ": has no elements to measure with; name another dump");
  return values;
}

/// The dump's tensors with the shapes they have, as f32.
Workload whole_dump(const std::string& path) {
  if (path.empty())
    throw Error(Errc::usage, "--size dump: needs a dump; name one, or give a count of elements");
  const InputFile file = only_input(path);
  InputDump input = open_input(file, TensorFilter());
  attach_layers(input, file, "");
  Workload work;
  work.values = read_values(input, UINT64_MAX);
  for (const size_t t : taken_tensors(input)) {
    const TensorInfo& stored = input.source->tensors()[t];
    if (const auto layers = input.layers.find(t); layers != input.layers.end())
      work.layers.emplace(work.tensors.size(), layers->second);
    TensorInfo info;
    info.name = stored.name;
    info.shape = stored.shape;
    info.fortran_order = stored.fortran_order;
    work.tensors.push_back(std::move(info));
  }
  return work;
}

Workload bench_workload(const BenchOptions& options, uint64_t elements) {
  Workload work;
  std::vector<float>& values = work.values;
  if (options.input.empty()) {
    values.resize(elements);
    for (uint64_t i = 0; i < elements; ++i) values[i] = synthetic_value(i);
  } else {
    values = read_values(open_input(only_input(options.input), TensorFilter()), elements);
    values.reserve(elements);
    for (size_t i = 0; values.size() < elements; ++i) values.push_back(values[i]);
  }
  TensorInfo info;
  info.name = "bench";
  info.shape = {values.size()};
  work.tensors.push_back(std::move(info));
  return work;
}

/// Runs `work(first, count)` over [0, elements) in one piece a thread, each but the last a multiple of
/// `unit`.
void in_pieces(uint64_t elements, uint64_t unit, unsigned threads,
               const std::function<void(uint64_t, uint64_t)>& work) {
  const uint64_t units = (elements + unit - 1) / unit;
  parallel_for(threads, threads, [&](size_t piece) {
    const uint64_t first = std::min(elements, units * piece / threads * unit);
    const uint64_t end = std::min(elements, units * (piece + 1) / threads * unit);
    if (first < end) work(first, end - first);
  });
}

/// Times of one operation over the repetitions.
struct Timing {
  std::vector<double> seconds;

  /// By the device's clock, or the machine's where there is none.
  void measure(const std::function<void()>& work, DeviceClock* clock = nullptr) {
    if (clock != nullptr) {
      clock->start();
      work();
      seconds.push_back(clock->seconds());
      return;
    }
    const auto start = std::chrono::steady_clock::now();
    work();
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  double total() const {
    double sum = 0;
    for (double s : seconds) sum += s;
    return sum;
  }
};

struct BenchResult {
  uint64_t elements = 0;
  unsigned threads = 1;
  Timing copy, compress, decompress;
  CompressReport report;
  double nmse = 0;

  double bytes() const { return 4.0 * double(elements); }
  double gigabytes_per_second(const Timing& timing) const { return bytes() / 1e9 / median(timing.seconds); }
  double share_of_memcpy(const Timing& timing) const { return median(copy.seconds) / median(timing.seconds); }
};

BenchResult measure(const Workload& work, const CompressOptions& options, double min_time_seconds) {
  const std::vector<float>& values = work.values;
  BenchResult result;
  result.elements = values.size();
  result.threads = options.threads;
  const std::vector<InputDump> inputs = work.dumps();
  std::vector<float> destination(values.size(),
                                 1.0f);  // written once, so that no measurement meets untouched pages

  const std::shared_ptr<void> device_destination =
      work.on_device ? device_memory(values.size() * sizeof(float)) : nullptr;

  std::unique_ptr<DeviceClock> clock;
  if (options.backend == Backend::cuda) clock = std::make_unique<DeviceClock>();
  MemorySink frame;  // its memory is reused, as a program would
  constexpr size_t most_repetitions = 1000;
  const auto enough = [&](const Timing& timing) {
    return timing.seconds.size() >= 3 &&
           (timing.total() >= min_time_seconds || timing.seconds.size() >= most_repetitions);
  };
  const auto copy = [&] {
    // One call a thread: large copies bypass the cache, which is the speed that counts here.
    const uint64_t piece = (values.size() + options.threads - 1) / options.threads;
    in_pieces(values.size(), std::max<uint64_t>(1, piece), options.threads,
              [&](uint64_t first, uint64_t count) {
                std::memcpy(destination.data() + first, values.data() + first, count * sizeof(float));
              });
  };
  const auto encode = [&] {
    frame.bytes.clear();
    result.report = compress(inputs, options, frame);
  };
  const auto decode = [&] {
    FrameReader reader = FrameReader::from_bytes(frame.bytes);
    reader.use(options.backend);
    if (!device_destination) return reader.read_tensors(0, work.tensors.size(), destination, options.threads);
    uint64_t first = 0;
    for (size_t t = 0; t < work.tensors.size(); ++t) {
      const uint64_t count = work.tensors[t].elements();
      read_to_device(reader, t, 0, count, place_of(device_destination, first), nullptr);
      first += count;
    }
  };
  // In turns, so that all meet the same machine. Decompression is repeated until it has taken as long as
  // compression, which need not run as often as what is faster.
  while (!(enough(result.compress) && enough(result.decompress))) {
    // memcpy is far faster than the rest: several copies bring its median to rest without more turns.
    for (int i = 0; i < 4; ++i) result.copy.measure(copy);
    result.compress.measure(encode, clock.get());
    if (enough(result.decompress)) continue;
    do result.decompress.measure(decode, clock.get());
    while (!enough(result.decompress) && result.decompress.total() < result.compress.total());
    if (device_destination) {
      TensorInfo whole;
      whole.shape = {values.size()};
      device_source({{whole, device_destination.get()}}, nullptr)
          ->read_stored(0, 0, values.size(), reinterpret_cast<std::byte*>(destination.data()));
    }
    result.nmse = distortion(values, destination).nmse();  // here, where decompression wrote last
  }
  return result;
}

/// What the CUDA backend says of its device.
std::string device_name() {
  for (const BackendInfo& backend : backends())
    if (backend.name == "cuda") return backend.detail;
  return "";
}

int run_bench(const BenchOptions& options, const GlobalOptions& global) {
  require_backend(global.backend);
  CompressOptions coding;
  coding.method = parse_method(options.method);
  coding.target = options.target.empty() ? default_target(coding.method) : parse_target(options.target);
  coding.seed = global.seed;
  coding.backend = backend_named(global.backend);
  coding.threads = global.threads == 0 ? 1 : global.threads;
  if (options.values == "device" && coding.backend != Backend::cuda)
    throw Error(Errc::usage, "--values device: only --backend cuda codes from the device's memory; add it");
  coding.measure = false;  // sizes are what a program that sends frames needs
  const bool whole = options.size == "dump";
  Workload work = whole ? whole_dump(options.input) : Workload();
  const uint64_t elements = whole ? work.values.size() : parse_elements(options.size);
  constexpr uint64_t bytes_per_element =
      2 * sizeof(float) + 1;  // values, destination, and room for the frame
  if (global.memory_limit_bytes > 0 && elements > global.memory_limit_bytes / bytes_per_element)
    throw Error(
        Errc::limit,
        fmt::format("--size {} needs about {} bytes and --memory-limit allows {}; use a smaller --size",
                    options.size, elements * bytes_per_element, global.memory_limit_bytes));
  if (!whole) work = bench_workload(options, elements);
  if (options.values == "device") {
    work.on_device = device_memory(work.values.size() * sizeof(float));
    copy_to_device({reinterpret_cast<const char*>(work.values.data()), work.values.size() * sizeof(float)},
                   work.on_device.get(), nullptr);
  }
  const BenchResult result = measure(work, coding, options.min_time_seconds);

  const std::string device = coding.backend == Backend::cuda ? device_name() : "";
  const std::pair<const char*, const Timing*> operations[] = {
      {"memcpy", &result.copy}, {"compress", &result.compress}, {"decompress", &result.decompress}};
  if (global.json()) {
    Json document = {{"schema", "jsq.bench/1"},
                     {"method", to_string(coding.method)},
                     {"target", to_string(coding.target)},
                     {"input", options.input.empty() ? Json(nullptr) : Json(options.input)},
                     {"elements", result.elements},
                     {"bytes", result.elements * sizeof(float)},
                     {"threads", result.threads},
                     {"device", device.empty() ? Json(nullptr) : Json(device)},
                     {"clock", device.empty() ? "host" : "device"},
                     {"values", options.values},
                     {"file_ratio", json_number(result.report.file_ratio())},
                     {"nmse", json_number(result.nmse)}};
    for (const auto& [name, timing] : operations)
      document[name] = {{"seconds", json_number(median(timing->seconds))},
                        {"repetitions", timing->seconds.size()},
                        {"gb_per_s", json_number(result.gigabytes_per_second(*timing))},
                        {"share_of_memcpy", json_number(result.share_of_memcpy(*timing))}};
    print_document(Stream::out, global, document, "rows");
    return 0;
  }
  Table table({{"operation", "operation", Align::left},
               {"gb_per_s", "GB/s"},
               {"share_of_memcpy", "share of memcpy"},
               {"seconds", "median s"},
               {"repetitions", "runs"}});
  for (const auto& [name, timing] : operations) {
    const double share = result.share_of_memcpy(*timing);
    table.add_row({name, number_cell(result.gigabytes_per_second(*timing)),
                   Cell(percent_text(share), json_number(share)), number_cell(median(timing->seconds)),
                   count_cell(timing->seconds.size())});
  }
  if (global.text())
    print(Stream::out, fmt::format("{} at {}: {} elements ({}) from {}, {} thread{}{}, {}, nmse {}\n",
                                   to_string(coding.method), to_string(coding.target),
                                   count_text(result.elements), size_text(result.elements * sizeof(float)),
                                   options.input.empty() ? "the synthetic dump" : printable(options.input),
                                   result.threads, result.threads == 1 ? "" : "s",
                                   device.empty() ? ""
                                                  : fmt::format(", {}, by its clock{}", printable(device),
                                                                work.on_device ? ", values there" : ""),
                                   ratio_text(result.report.file_ratio()), number_text(result.nmse)));
  print(Stream::out, table.render(global.format));
  return 0;
}

}  // namespace

void add_bench(CLI::App& app, const GlobalOptions& global, std::function<int()>& run) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App* command = app.add_subcommand("bench", "Codec speed in memory against memcpy in the same run");
  command->fallthrough();
  command->footer(
      "Runs on one thread unless --threads says otherwise; memcpy gets as many threads as the codec.\n\n" +
      command->get_footer());
  command
      ->add_option("INPUT", options->input,
                   "Dump whose values are repeated to --size (default: synthetic heavy-tailed values)")
      ->type_name("");
  command->add_option("-m,--method", options->method, "Method to measure (default: jointsq)")
      ->type_name("METHOD");
  command
      ->add_option("-t,--target", options->target,
                   "Size or error to code to, or native (default: ratio=32, native for methods with sizes of "
                   "their own)")
      ->type_name("TARGET");
  command
      ->add_option("--size", options->size,
                   "Elements to code; suffixes K, M, G, Ki, Mi, Gi; or dump: INPUT's tensors as they are "
                   "(default: 64Mi)")
      ->type_name("COUNT");
  command
      ->add_option("--values", options->values,
                   "Where values are coded from and decoded to: host, or device with --backend cuda "
                   "(default: host)")
      ->type_name("PLACE")
      ->check(CLI::IsMember({"host", "device"}));
  command
      ->add_option("--min-time", options->min_time_seconds,
                   "Seconds to compress and to decompress at least, and three repetitions (default: 1)")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.0, 3600.0));
  command->callback(
      [options, &global, &run] { run = [options, &global] { return run_bench(*options, global); }; });
}

}  // namespace jsq::tools

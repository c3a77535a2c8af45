// jsq analyze: what is in dumps; what coding them loses beside what JointSQ's models and rate-distortion
// theory say. Gathering is in jsq::StatisticsReader, noise_study.* and transform_study.*, tables in
// analysis_report.* and transform_report.*; this file holds the options and the order of the work.
#include <fmt/format.h>

#include <cmath>
#include <memory>
#include <optional>

#include "analysis_charts.hpp"
#include "analysis_report.hpp"
#include "atomic_output.hpp"
#include "command.hpp"
#include "inputs.hpp"
#include "jsq/backend.hpp"
#include "layers.hpp"
#include "parallel.hpp"

namespace jsq::tools {

namespace {

struct AnalyzeOptions {
  std::vector<std::string> inputs;
  bool per_tensor = false;
  bool noise = false;
  bool bound = false;
  bool curve = false;
  bool transforms = false;
  unsigned trials = 0;
  std::string method = "jointsq";
  std::vector<std::string> targets = {"ratio=32"};
  std::string plot;
  bool force = false;

  bool results() const noexcept { return noise || bound || trials > 0; }
};

/// From here on limits of every tensor are worth a word of warning.
constexpr size_t many_tensors = 512;

/// Bits per element that a curve goes through: 4x to 1024x of f32.
constexpr double curve_bits[] = {8, 4, 2, 1, 0.5, 0.25, 0.125, 0.0625, 0.03125};

std::string dtype_of(const std::vector<TensorInfo>& tensors) {
  if (tensors.empty()) return "-";
  for (const TensorInfo& tensor : tensors)
    if (tensor.dtype != tensors.front().dtype) return "mixed";
  return std::string(dtype_name(tensors.front().dtype));
}

/// Statistics of a dump, then of every tensor of it when asked for. `of_dump` receives the dump's.
std::vector<Subject> dump_subjects(const InputFile& file, const InputDump& input, Backend backend,
                                   bool per_tensor, Statistics& of_dump) {
  StatisticsReader reader(*input.source, backend);
  const auto& tensors = input.source->tensors();
  std::vector<Subject> subjects(1);
  Subject& whole = subjects.front();
  whole.input = file.argument;
  whole.dtype = dtype_of(tensors);
  whole.tensors = tensors.size();
  if (tensors.size() == 1) {
    whole.tensor = tensors.front().name;
    whole.shape = tensors.front().shape;
  }
  for (size_t t = 0; t < tensors.size(); ++t) {
    const Statistics of_tensor = reader.statistics(t);
    of_dump.append(of_tensor);
    if (!per_tensor) continue;
    LargestElements largest(of_tensor);
    reader.add_to(largest, t);
    Subject subject;
    subject.input = file.argument;
    subject.tensor = tensors[t].name;
    subject.is_tensor = true;
    subject.dtype = std::string(dtype_name(tensors[t].dtype));
    subject.shape = tensors[t].shape;
    subject.figures = of_tensor.figures();
    subject.largest = largest.figures();
    subjects.push_back(std::move(subject));
  }
  LargestElements largest(of_dump);
  for (size_t t = 0; t < tensors.size(); ++t) reader.add_to(largest, t);
  subjects.front().figures = of_dump.figures();
  subjects.front().largest = largest.figures();
  return subjects;
}

/// The picture's data of a dump, but for studies and curve.
DumpPicture picture_of(const InputFile& file, const InputDump& input, const Statistics& statistics) {
  DumpPicture picture;
  picture.input = file.argument;
  picture.summary = statistics.summary();
  for (const TensorInfo& tensor : input.source->tensors()) picture.tensors.push_back(tensor.name);
  return picture;
}

/// A tensor's own part of a coded dump. Figures of the allocation belong to the whole.
CodedNoise of_tensor(const CodedTensor& tensor) {
  CodedNoise coded;
  coded.file_bytes = tensor.block_bytes;
  coded.file_ratio = double(tensor.input_bytes) / double(tensor.block_bytes);
  coded.bits_per_element = tensor.elements > 0 ? 8 * double(tensor.block_bytes) / double(tensor.elements) : 0;
  coded.distortion = tensor.distortion;
  coded.trials = tensor.trials;
  return coded;
}

/// The limits of a dump, then of each of its tensors alone when asked for.
std::vector<RateDistortionBounds> dump_bounds(const GlobalOptions& global, const InputFile& file,
                                              const InputDump& input, bool per_tensor) {
  std::vector<RateDistortionBounds> bounds = {rate_distortion_bounds({input}, global.threads)};
  if (!per_tensor) return bounds;
  const size_t tensors = input.source->tensors().size();
  if (tensors > many_tensors)
    warn(global, fmt::format("{}: --per-tensor with --bound computes limits of each of {} tensors; without "
                             "one of the two, or for FILE::MEMBER, it is faster",
                             file.argument, tensors));
  for (size_t t = 0; t < tensors; ++t) {
    InputDump alone = input;
    alone.all = false;
    alone.tensors = {t};
    bounds.push_back(rate_distortion_bounds({alone}, 1));
  }
  return bounds;
}

/// The lines of one study: per allocator the dump, then every tensor (when asked for).
std::vector<ResultLine> study_lines(const NoiseStudy& study, const std::vector<Subject>& subjects) {
  std::vector<ResultLine> lines;
  for (const AllocatorStudy& allocator : study.allocators)
    for (size_t s = 0; s < subjects.size(); ++s) {
      const Subject& subject = subjects[s];
      ResultLine line;
      line.input = subject.input;
      line.tensor = subject.tensor;
      line.is_tensor = subject.is_tensor;
      line.target = study.target;
      line.allocator = allocator.allocator;
      line.coded = allocator.coded;
      if (subject.is_tensor) {
        if (!allocator.tensors.empty()) line.model = allocator.tensors[s - 1];
        if (line.coded) line.coded = of_tensor(allocator.coded->tensors[s - 1]);
      } else {
        line.problem = allocator.problem;
        line.model = allocator.model;
      }
      lines.push_back(std::move(line));
    }
  return lines;
}

/// Sets the limits of lines that follow each other subject by subject, each subject with its own.
void set_bounds(std::vector<ResultLine>& lines, const std::vector<RateDistortionBounds>& bounds,
                unsigned threads) {
  if (bounds.empty()) return;
  parallel_for(threads, bounds.size(), [&](size_t s) {
    for (size_t i = s; i < lines.size(); i += bounds.size())
      if (lines[i].coded)
        lines[i].bounds =
            bounds_at(bounds[s], lines[i].coded->bits_per_element, lines[i].coded->distortion.nmse());
  });
}

void warn_where_model_is_left_behind(const GlobalOptions& global, const InputFile& file,
                                     const NoiseStudy& study) {
  for (const AllocatorStudy& allocator : study.allocators) {
    if (!allocator.model || !allocator.coded || !allocator.coded->far_from_model()) continue;
    const double nmse = allocator.coded->distortion.nmse(), model = allocator.coded->hprime;
    warn(global, fmt::format("{} at {}, alloc={}: measured nmse {} is {} the model's h' {}; judge by the "
                             "measured error",
                             file.argument, study.target, allocator.allocator, number_text(nmse),
                             nmse > model ? "more than twice" : "less than half of", number_text(model)));
  }
}

void warn_where_nothing_varies(const GlobalOptions& global, const InputFile& file, const NoiseStudy& study) {
  std::string fixed;
  for (const AllocatorStudy& allocator : study.allocators)
    if (allocator.coded && allocator.coded->trials && allocator.coded->trials->deterministic)
      fixed += (fixed.empty() ? "" : ", ") + allocator.allocator;
  if (fixed.empty()) return;
  warn(global,
       fmt::format("{} at {}: the seed changes nothing ({}), so --trials has nothing to vary; stochastic "
                   "quantizers do, such as jointsq:quant=mid",
                   file.argument, study.target, fixed));
}

/// Moves each line to the subject it is about.
void attach_results(std::vector<Subject>& subjects, const std::vector<ResultLine>& lines) {
  const Json rows = results_table(lines).json();
  for (size_t i = 0; i < lines.size(); ++i) {
    Json row = rows[i];
    row.erase("input");
    row.erase("tensor");
    subjects[i % subjects.size()].results.push_back(std::move(row));
  }
}

std::vector<CurvePoint> curve_of(const InputFile& file, const InputDump& input, CompressOptions coding,
                                 const RateDistortionBounds* bounds) {
  std::vector<CurvePoint> points;
  for (double bits : curve_bits) {
    coding.target = {TargetKind::bpw, bits};
    CurvePoint point;
    point.input = file.argument;
    point.target = to_string(coding.target);
    try {
      NoiseStudy study = study_noise(input, coding, {});
      point.elements = study.elements;
      point.coded = std::move(study.allocators.front().coded);
      if (bounds)
        point.bounds = bounds_at(*bounds, point.coded->bits_per_element, point.coded->distortion.nmse());
    } catch (const Error& error) {
      if (error.code() != Errc::unreachable_target) throw;
      point.problem = error.what();
    }
    points.push_back(std::move(point));
  }
  return points;
}

void attach_curve(Subject& subject, const std::vector<CurvePoint>& points) {
  subject.curve = curve_table(points).json();
  for (Json& point : subject.curve) point.erase("input");
}

/// The row of all inputs together, when there are several. Inputs are read again; standard input cannot be,
/// so that its dump was kept.
std::optional<Subject> all_inputs(const std::vector<Subject>& subjects, const Statistics& statistics,
                                  Backend backend,
                                  const std::vector<std::pair<InputFile, std::shared_ptr<InputDump>>>& done) {
  if (done.size() < 2) return std::nullopt;
  Subject all;
  all.tensors = 0;
  for (const Subject& subject : subjects) {
    if (subject.is_tensor) continue;
    all.dtype = all.dtype.empty() || all.dtype == subject.dtype ? subject.dtype : "mixed";
    all.tensors += subject.tensors;
  }
  LargestElements largest(statistics);
  for (const auto& [file, kept] : done) {
    const InputDump input = kept ? *kept : open_input(file, TensorFilter());
    StatisticsReader reader(*input.source, backend);
    for (size_t t = 0; t < input.source->tensors().size(); ++t) reader.add_to(largest, t);
  }
  all.figures = statistics.figures();
  all.largest = largest.figures();
  return all;
}

/// The studies of a dump at every target. A flat npy takes the shapes of its layers from the file beside it.
std::vector<TransformLine> transforms_of(const GlobalOptions& global, const InputFile& file, InputDump input,
                                         CompressOptions coding, const std::vector<Target>& targets) {
  const std::string notice = attach_layers(input, file, "");
  if (!notice.empty() && !global.quiet()) print(Stream::err, printable(notice) + "\n");
  const std::vector<LayerSpectrum> spectra = layer_spectra(input);
  std::vector<TransformLine> lines;
  for (const Target& target : targets) {
    coding.target = target;
    lines.push_back({file.argument, study_transforms(input, coding, spectra)});
  }
  return lines;
}

int run_analyze(const AnalyzeOptions& options, const GlobalOptions& global) {
  require_backend(global.backend);
  CompressOptions coding;
  coding.method = parse_method(options.method);
  coding.seed = global.seed;
  coding.threads = global.threads;
  coding.backend = backend_named(global.backend);
  std::vector<Target> targets;
  for (const std::string& text : options.targets) targets.push_back(parse_target(text));
  const StudyOptions study_options{options.noise, options.trials, global.memory_limit_bytes};

  std::optional<AtomicOutput> plot;
  std::vector<Chart> charts;
  if (!options.plot.empty()) {
    picture_format(options.plot);
    require_gnuplot("--plot");
    plot.emplace(options.plot, OutputRules{options.force, options.inputs, "--plot"});
  }

  Failures failures(global, options.inputs.size());
  const std::vector<InputFile> files = expand_inputs(options.inputs, failures);
  std::vector<Subject> subjects;
  std::vector<ResultLine> lines;
  std::vector<CurvePoint> points;
  std::vector<TransformLine> transforms;
  std::vector<std::pair<InputFile, std::shared_ptr<InputDump>>> done;
  Statistics of_all;
  for (const InputFile& file : files)
    failures.attempt([&] {
      const auto input = std::make_shared<InputDump>(open_input(file, TensorFilter()));
      Statistics of_dump;
      std::vector<Subject> found = dump_subjects(file, *input, coding.backend, options.per_tensor, of_dump);
      DumpPicture picture = picture_of(file, *input, of_dump);
      std::vector<RateDistortionBounds> bounds;
      if (options.bound) bounds = dump_bounds(global, file, *input, options.per_tensor);
      for (const Target& target : options.results() ? targets : std::vector<Target>()) {
        coding.target = target;
        const NoiseStudy study = study_noise(*input, coding, study_options);
        warn_where_model_is_left_behind(global, file, study);
        warn_where_nothing_varies(global, file, study);
        std::vector<ResultLine> found_lines = study_lines(study, found);
        set_bounds(found_lines, bounds, global.threads);
        attach_results(found, found_lines);
        lines.insert(lines.end(), found_lines.begin(), found_lines.end());
        picture.studies.push_back(study);
      }
      if (options.curve) {
        const std::vector<CurvePoint> curve =
            curve_of(file, *input, coding, bounds.empty() ? nullptr : &bounds.front());
        attach_curve(found.front(), curve);
        points.insert(points.end(), curve.begin(), curve.end());
        picture.curve = curve;
      }
      if (options.transforms)
        for (TransformLine& line : transforms_of(global, file, *input, coding, targets)) {
          found.front().transforms.push_back(transform_json(line.study));
          transforms.push_back(std::move(line));
        }
      if (plot)
        for (Chart& chart : charts_of(picture)) charts.push_back(std::move(chart));
      std::move(found.begin(), found.end(), std::back_inserter(subjects));
      of_all.append(of_dump);
      done.emplace_back(file, file.file == "-" ? input : nullptr);
    });
  if (std::optional<Subject> all = all_inputs(subjects, of_all, coding.backend, done))
    subjects.push_back(std::move(*all));
  ReportParts parts{.models = options.noise,
                    .results = options.results(),
                    .trials = options.trials > 0,
                    .bound = options.bound,
                    .curve = options.curve,
                    .transforms = options.transforms,
                    .several_inputs = files.size() > 1,
                    .per_tensor = options.per_tensor,
                    .method = {}};
  if (options.results() || options.curve) parts.method = to_string(coding.method);
  print_report(global, parts, subjects, lines, points, transforms);
  if (plot && !charts.empty()) write_picture(charts, picture_format(options.plot), *plot);
  return failures.exit_code();
}

}  // namespace

void add_analyze(CLI::App& app, const GlobalOptions& global, std::function<int()>& run) {
  auto options = std::make_shared<AnalyzeOptions>();
  CLI::App* command = app.add_subcommand(
      "analyze", "Statistics of dumps; predicted and measured noise; rate-distortion limits");
  command->fallthrough();
  command
      ->add_option(
          "INPUT", options->inputs,
          "Dumps: npy, npz or HDF5 files, FILE::MEMBER, folders, quoted globs, '-' for standard input")
      ->required()
      ->type_name("");
  command->add_flag("--per-tensor", options->per_tensor,
                    "Show every tensor, not only the whole of each dump (default: off)");
  command->add_flag("--noise", options->noise,
                    "Show h, h' and what a real encode and decode loses, for each allocator (default: off)");
  command->add_flag("--bound", options->bound,
                    "Show the rate-distortion limits, and how far a real encode is from them (default: off)");
  command
      ->add_option("--trials", options->trials,
                   "Code with N seeds from --seed on: mean error, bias and variance (default: 0)")
      ->type_name("N")
      ->check(CLI::Range(1, 100000));
  command->add_flag("--curve", options->curve,
                    "Show h' and measured error from 8 to 0.03 bits per element (default: off)");
  command->add_flag("--transforms", options->transforms,
                    "Show the spectrum of every layer, and what each transform of rdoq saves (default: off)");
  command
      ->add_option("-m,--method", options->method,
                   "Method that is coded with; --noise needs one with an option 'alloc' (default: jointsq)")
      ->type_name("METHOD");
  command
      ->add_option("-t,--target", options->targets,
                   "Size or error that is coded to; repeatable (default: ratio=32)")
      ->type_name("TARGET")
      ->allow_extra_args(false);
  command
      ->add_option(
          "--plot", options->plot,
          "Draw magnitudes, noise and widths of every tensor, and the curve: .svg, .png or .pdf, by gnuplot")
      ->type_name("FILE");
  command->add_flag("-f,--force", options->force, "Replace the file of --plot (default: off)");
  command->callback(
      [options, &global, &run] { run = [options, &global] { return run_analyze(*options, global); }; });
}

}  // namespace jsq::tools

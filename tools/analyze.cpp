// jsq analyze: what is in dumps, and with --noise what JointSQ's models say about compressing them beside
// what a real encode and decode loses. Gathering is in statistics.* and noise_study.*; this file holds the
// options and the report.
#include <fmt/format.h>

#include <cmath>
#include <memory>
#include <optional>

#include "command.hpp"
#include "inputs.hpp"
#include "jsq/backend.hpp"
#include "noise_study.hpp"
#include "report.hpp"
#include "statistics.hpp"

namespace jsq::tools {

namespace {

struct AnalyzeOptions {
  std::vector<std::string> inputs;
  bool per_tensor = false;
  bool noise = false;
  std::string method = "jointsq";
  std::vector<std::string> targets = {"ratio=32"};
};

/// Statistics of one tensor or of a whole population, and the models' view of it.
struct Subject {
  std::string input;   ///< "" for all inputs together
  std::string tensor;  ///< "" for a whole dump
  bool is_tensor = false;
  std::string dtype;  ///< "mixed" when a dump's tensors differ
  std::vector<uint64_t> shape;
  size_t tensors = 1;
  Figures figures;
  Json noise = Json::array();
};

/// One line of the noise table.
struct NoiseLine {
  std::string input, tensor;
  bool is_tensor = false;
  std::string target;
  std::string allocator;
  uint64_t elements = 0;
  ModelNoise model;
  bool has_coded = false;
  double file_ratio = NAN, coded_bits = NAN, coded_hprime = NAN;
  Distortion measured;
  std::string problem;
};

Cell optional_number(double value, int digits = 3) {
  return std::isnan(value) ? Cell() : Cell(number_text(value, digits), json_number(value));
}

Cell share_cell(double share) {
  if (std::isnan(share)) return {};
  const double percent = 100 * share;
  return {
      (percent == 0 || percent >= 0.1 ? fmt::format("{:.1f} %", percent) : number_text(percent, 2) + " %"),
      json_number(share)};
}

/// What stands for a whole dump in the tensor column: its tensor's name where it has only one.
std::string whole_text(const Subject& subject) {
  if (subject.tensors != 1) return fmt::format("all {}", subject.tensors);
  return subject.tensor.empty() ? "-" : subject.tensor;
}

/// One description for the three forms: the text table leaves out what JSON and CSV need to tell rows apart.
Table statistics_table(const std::vector<Subject>& subjects, bool text) {
  std::vector<Column> columns = {{"input", "input", Align::left}, {"tensor", "tensor", Align::left}};
  if (!text) columns.push_back({"tensors", "tensors"});
  columns.insert(columns.end(), {{"dtype", "dtype", Align::left},
                                 {"shape", "shape", Align::left},
                                 {"elements", "elements"},
                                 {"l2_norm", "l2 norm"},
                                 {"max_magnitude", "max"},
                                 {"mean", "mean"},
                                 {"zero_share", "zeros"},
                                 {"kurtosis", "kurtosis"},
                                 {"nonfinite", "non-finite"},
                                 {"energy_top_1_in_1000", "top 0.1 %"},
                                 {"energy_top_1_in_100", "top 1 %"},
                                 {"energy_top_1_in_10", "top 10 %"}});
  Table table(std::move(columns));
  for (const Subject& subject : subjects) {
    const Figures& f = subject.figures;
    std::vector<Cell> row;
    row.push_back(subject.input.empty() ? Cell("all inputs", nullptr) : Cell(subject.input));
    row.push_back(subject.is_tensor ? Cell(subject.tensor) : Cell(whole_text(subject), nullptr));
    if (!text) row.push_back(count_cell(subject.tensors));
    row.emplace_back(subject.dtype);
    row.push_back(subject.is_tensor || subject.tensors == 1 ? shape_cell(subject.shape) : Cell());
    row.push_back(count_cell(f.elements));
    row.push_back(number_cell(f.l2_norm, 4));
    row.push_back(number_cell(f.max_magnitude));
    row.push_back(optional_number(f.mean));
    row.push_back(share_cell(f.zero_share));
    row.push_back(optional_number(f.kurtosis, 4));
    row.push_back(count_cell(f.nonfinite));
    for (double share : {f.energy_top_1_in_1000, f.energy_top_1_in_100, f.energy_top_1_in_10})
      row.push_back(share_cell(share));
    table.add_row(std::move(row));
  }
  return table;
}

std::vector<Column> noise_columns() {
  return {{"input", "input", Align::left},
          {"tensor", "tensor", Align::left},
          {"target", "target", Align::left},
          {"allocator", "alloc", Align::left},
          {"payload_bits", "payload bits"},
          {"hprime", "h'"},
          {"h_eq3", "h Eq.3"},
          {"h_eq3_bits", "Eq.3 b"},
          {"h_eq6", "h' Eq.6"},
          {"h_eq6_nz", "Eq.6 k0=1"},
          {"coded_file_ratio", "file"},
          {"coded_payload_bits", "coded bits"},
          {"coded_hprime", "coded h'"},
          {"nmse", "nmse"},
          {"cosine", "cos"},
          {"max_error", "max err"},
          {"problem", "problem", Align::left}};
}

std::vector<Cell> noise_row(const NoiseLine& line) {
  const NoiseReport& noise = line.model.noise;
  std::vector<Cell> row = {Cell(line.input),
                           line.is_tensor ? Cell(line.tensor) : Cell("all", nullptr),
                           Cell(line.target),
                           Cell(line.allocator),
                           count_cell(line.model.payload_bits),
                           number_cell(noise.per_element, 4)};
  // Eq. 3's co-compressor has the budget of the whole population, so a tensor has none.
  row.push_back(noise.uniform_bits == 0 ? Cell() : number_cell(noise.uniform, 4));
  row.push_back(noise.uniform_bits == 0 ? Cell() : count_cell(noise.uniform_bits));
  row.push_back(number_cell(noise.eq6));
  row.push_back(number_cell(noise.eq6_nonzero));
  if (!line.has_coded) {
    row.resize(16);
    row.push_back(line.problem.empty() ? Cell() : Cell(line.problem));
    return row;
  }
  row.push_back(std::isnan(line.file_ratio) ? Cell() : ratio_cell(line.file_ratio));
  row.push_back(std::isnan(line.coded_bits) ? Cell() : count_cell(uint64_t(line.coded_bits)));
  row.push_back(optional_number(line.coded_hprime, 4));
  row.push_back(number_cell(line.measured.nmse(), 4));
  row.push_back(number_cell(line.measured.cosine(), 4));
  row.push_back(number_cell(line.measured.max_error));
  row.emplace_back();
  return row;
}

/// The rows as text needs them: without the input where there is only one, with problems behind their row.
Table noise_text_table(const std::vector<NoiseLine>& lines, bool several_inputs, bool per_tensor,
                       bool annotate) {
  const std::vector<Column> all = noise_columns();
  const auto shown = [&](const std::string& key) {
    return (key != "input" || several_inputs) && (key != "tensor" || per_tensor) &&
           (key != "problem" || !annotate);
  };
  std::vector<Column> columns;
  for (const Column& column : all)
    if (shown(column.key)) columns.push_back(column);
  Table table(columns);
  for (const NoiseLine& line : lines) {
    const std::vector<Cell> cells = noise_row(line);
    std::vector<Cell> row;
    for (size_t c = 0; c < all.size(); ++c)
      if (shown(all[c].key)) row.push_back(cells[c]);
    table.add_row(std::move(row));
    if (annotate) table.annotate_last_row(line.problem);
  }
  return table;
}

Table noise_table(const std::vector<NoiseLine>& lines) {
  Table table(noise_columns());
  for (const NoiseLine& line : lines) table.add_row(noise_row(line));
  return table;
}

constexpr std::string_view noise_legend =
    "\n"
    "left of 'file': models, every allocator at the payload bits that the method spends at the target\n"
    "  h'         noise per element, sum 4^-b g^2 / |g|^2 over all elements (Eqs. 8, 11): the figure to "
    "compare\n"
    "  h Eq.3     k / 4^b of the best co-compressor of equal cost: k elements kept at one width b, the "
    "dropped not counted\n"
    "  h' Eq.6    the paper's sum over widths, literally: each class's share times its size, the dropped "
    "class too\n"
    "  Eq.6 k0=1  the same with the dropped class counted once\n"
    "from 'file' on: a real encode at the target (class map and scales paid for) and decode\n"
    "  coded h'   h' of the allocation that was coded; nmse, cos and max err are measured on the decoded "
    "values\n";

std::string dtype_of(const std::vector<TensorInfo>& tensors) {
  if (tensors.empty()) return "-";
  for (const TensorInfo& tensor : tensors)
    if (tensor.dtype != tensors.front().dtype) return "mixed";
  return std::string(dtype_name(tensors.front().dtype));
}

/// Statistics of every tensor of a dump when asked for, and of the dump, which also join `all`.
std::vector<Subject> dump_subjects(const InputFile& file, const InputDump& input, bool per_tensor,
                                   Statistics& all) {
  const auto& tensors = input.source->tensors();
  Subject whole;
  whole.input = file.argument;
  whole.dtype = dtype_of(tensors);
  whole.tensors = tensors.size();
  if (tensors.size() == 1) {
    whole.tensor = tensors.front().name;
    whole.shape = tensors.front().shape;
  }
  std::vector<Subject> subjects;
  Statistics of_dump;
  for (size_t t = 0; t < tensors.size(); ++t) {
    const Statistics of_tensor = statistics_of(*input.source, t);
    of_dump.append(of_tensor);
    if (!per_tensor) continue;
    Subject subject;
    subject.input = file.argument;
    subject.tensor = tensors[t].name;
    subject.is_tensor = true;
    subject.dtype = std::string(dtype_name(tensors[t].dtype));
    subject.shape = tensors[t].shape;
    subject.figures = of_tensor.figures();
    subjects.push_back(std::move(subject));
  }
  whole.figures = of_dump.figures();
  all.append(of_dump);
  subjects.push_back(std::move(whole));
  return subjects;
}

/// The lines of one study: per allocator every tensor (when asked for), then the dump.
std::vector<NoiseLine> study_lines(const NoiseStudy& study, const std::vector<Subject>& subjects) {
  std::vector<NoiseLine> lines;
  for (const AllocatorStudy& allocator : study.allocators)
    for (size_t s = 0; s < subjects.size(); ++s) {
      const Subject& subject = subjects[s];
      NoiseLine line;
      line.input = subject.input;
      line.tensor = subject.tensor;
      line.is_tensor = subject.is_tensor;
      line.target = study.target;
      line.allocator = allocator.allocator;
      line.problem = subject.is_tensor ? "" : allocator.problem;
      line.model = subject.is_tensor ? allocator.tensors[s] : allocator.model;
      line.has_coded = allocator.coded.has_value();
      if (line.has_coded) {
        const CodedNoise& coded = *allocator.coded;
        line.measured = subject.is_tensor ? coded.tensors[s] : coded.distortion;
        if (!subject.is_tensor) {
          line.file_ratio = coded.file_ratio;
          line.coded_bits = double(coded.payload_bits);
          line.coded_hprime = coded.hprime;
        }
      }
      lines.push_back(std::move(line));
    }
  return lines;
}

void warn_where_model_is_left_behind(const GlobalOptions& global, const InputFile& file,
                                     const NoiseStudy& study) {
  for (const AllocatorStudy& allocator : study.allocators)
    if (allocator.coded && allocator.coded->exceeds_model())
      warn(global,
           fmt::format(
               "{} at {}, alloc={}: measured nmse {} is more than twice the model's h' {}; judge by the "
               "measured error",
               file.argument, study.target, allocator.allocator,
               number_text(allocator.coded->distortion.nmse()), number_text(allocator.coded->hprime)));
}

/// Moves each line to the subject it is about.
void attach_noise(std::vector<Subject>& subjects, const std::vector<NoiseLine>& lines) {
  const Json rows = noise_table(lines).json();
  for (size_t i = 0; i < lines.size(); ++i) {
    Json row = rows[i];
    row.erase("input");
    row.erase("tensor");
    subjects[i % subjects.size()].noise.push_back(std::move(row));
  }
}

Json subjects_json(const std::vector<Subject>& subjects, bool noise) {
  Json rows = statistics_table(subjects, false).json();
  if (noise)
    for (size_t i = 0; i < subjects.size(); ++i) rows[i]["noise"] = subjects[i].noise;
  return rows;
}

/// The row of all inputs together, when there are several.
std::optional<Subject> all_inputs(const std::vector<Subject>& subjects, const Statistics& statistics) {
  Subject all;
  size_t inputs = 0;
  all.tensors = 0;
  for (const Subject& subject : subjects) {
    if (subject.is_tensor) continue;
    ++inputs;
    all.tensors += subject.tensors;
    all.dtype = inputs == 1 || all.dtype == subject.dtype ? subject.dtype : "mixed";
  }
  if (inputs < 2) return std::nullopt;
  all.figures = statistics.figures();
  return all;
}

void print_report(const GlobalOptions& global, const AnalyzeOptions& options, std::vector<Subject> subjects,
                  const std::vector<NoiseLine>& lines, bool several_inputs) {
  if (subjects.empty() && !global.json()) return;
  if (global.json()) {
    Json document = {{"schema", "jsq.analyze/1"}};
    if (options.noise) document["method"] = to_string(parse_method(options.method));
    document["rows"] = subjects_json(subjects, options.noise);
    print_document(Stream::out, global, document, "rows");
    return;
  }
  // CSV holds one table: the noise when it was asked for.
  if (global.format == "csv") {
    print(Stream::out, options.noise ? noise_table(lines).csv() : statistics_table(subjects, false).csv());
    return;
  }
  print(Stream::out, statistics_table(subjects, global.text()).render(global.format));
  if (!options.noise || lines.empty()) return;
  print(Stream::out,
        "\n" +
            noise_text_table(lines, several_inputs, options.per_tensor, global.text()).render(global.format));
  if (global.text() && !global.quiet()) print(Stream::out, noise_legend);
}

int run_analyze(const AnalyzeOptions& options, const GlobalOptions& global) {
  require_backend(global.backend);
  CompressOptions coding;
  coding.method = parse_method(options.method);
  coding.seed = global.seed;
  coding.threads = global.threads;
  std::vector<Target> targets;
  for (const std::string& text : options.targets) targets.push_back(parse_target(text));

  Failures failures(global, options.inputs.size());
  const std::vector<InputFile> files = expand_inputs(options.inputs, failures);
  std::vector<Subject> subjects;
  std::vector<NoiseLine> lines;
  Statistics of_all;
  for (const InputFile& file : files)
    failures.attempt([&] {
      const InputDump input = open_input(file, TensorFilter());
      std::vector<Subject> found = dump_subjects(file, input, options.per_tensor, of_all);
      for (const Target& target : options.noise ? targets : std::vector<Target>()) {
        coding.target = target;
        const NoiseStudy study = study_noise(input, coding, global.memory_limit_bytes);
        warn_where_model_is_left_behind(global, file, study);
        const std::vector<NoiseLine> found_lines = study_lines(study, found);
        attach_noise(found, found_lines);
        lines.insert(lines.end(), found_lines.begin(), found_lines.end());
      }
      std::move(found.begin(), found.end(), std::back_inserter(subjects));
    });
  if (std::optional<Subject> all = all_inputs(subjects, of_all)) subjects.push_back(std::move(*all));
  print_report(global, options, std::move(subjects), lines, files.size() > 1);
  return failures.exit_code();
}

}  // namespace

void add_analyze(CLI::App& app, const GlobalOptions& global, std::function<int()>& run) {
  auto options = std::make_shared<AnalyzeOptions>();
  CLI::App* command =
      app.add_subcommand("analyze", "Statistics of dumps; with --noise, predicted and measured noise");
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
  command
      ->add_option("-m,--method", options->method,
                   "Method that --noise codes with; it must have an option 'alloc' (default: jointsq)")
      ->type_name("METHOD");
  command
      ->add_option("-t,--target", options->targets,
                   "Size or error that --noise codes to; repeatable (default: ratio=32)")
      ->type_name("TARGET")
      ->allow_extra_args(false);
  command->callback(
      [options, &global, &run] { run = [options, &global] { return run_analyze(*options, global); }; });
}

}  // namespace jsq::tools

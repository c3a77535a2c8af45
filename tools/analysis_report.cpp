// Cells of every column, and which of them each table shows.
#include "analysis_report.hpp"

#include <fmt/format.h>

#include <cmath>
#include <functional>

namespace jsq::tools {

namespace {

Cell optional_number(double value, int digits = 3) {
  return std::isfinite(value) ? Cell(number_text(value, digits), json_number(value)) : Cell();
}

Cell share_cell(double share) {
  if (std::isnan(share)) return {};
  const double percent = 100 * share;
  return {
      (percent == 0 || percent >= 0.1 ? fmt::format("{:.1f} %", percent) : number_text(percent, 2) + " %"),
      json_number(share)};
}

/// A tensor's name; that of an npy is empty.
Cell name_cell(const std::string& name) {
  return {name.empty() ? "-" : name, name};
}

/// A column and how a row fills it.
template <class Row>
struct Field {
  Column column;
  std::function<Cell(const Row&)> cell;
};

template <class Row>
Table table_of(const std::vector<Field<Row>>& fields, const std::vector<Row>& rows) {
  std::vector<Column> columns;
  for (const Field<Row>& field : fields) columns.push_back(field.column);
  Table table(std::move(columns));
  for (const Row& row : rows) {
    std::vector<Cell> cells;
    for (const Field<Row>& field : fields) cells.push_back(field.cell(row));
    table.add_row(std::move(cells));
  }
  return table;
}

/// The fields of these keys, in the order of the keys.
template <class Row>
std::vector<Field<Row>> chosen(const std::vector<Field<Row>>& fields, const std::vector<std::string>& keys) {
  std::vector<Field<Row>> result;
  for (const std::string& key : keys)
    for (const Field<Row>& field : fields)
      if (field.column.key == key) result.push_back(field);
  return result;
}

// --- Statistics
// ----------------------------------------------------------------------------------------------

/// What stands for a whole dump in the tensor column: its tensor's name where it has only one.
std::string whole_text(const Subject& subject) {
  if (subject.tensors != 1) return fmt::format("all {}", subject.tensors);
  return subject.tensor.empty() ? "-" : subject.tensor;
}

Field<Subject> figure(const char* key, const char* title, double StatisticsFigures::*value, int digits = 3) {
  return {{key, title}, [=](const Subject& s) { return optional_number(s.figures.*value, digits); }};
}

Field<Subject> largest_share(const char* key, const char* title, double LargestFigures::*value) {
  return {{key, title}, [=](const Subject& s) { return share_cell(s.largest.*value); }};
}

std::vector<Field<Subject>> statistics_fields() {
  return {
      {{"input", "input", Align::left},
       [](const Subject& s) { return s.input.empty() ? Cell("all inputs", nullptr) : Cell(s.input); }},
      {{"tensor", "tensor", Align::left},
       [](const Subject& s) { return s.is_tensor ? name_cell(s.tensor) : Cell(whole_text(s), nullptr); }},
      {{"tensors", "tensors"}, [](const Subject& s) { return count_cell(s.tensors); }},
      {{"dtype", "dtype", Align::left}, [](const Subject& s) { return Cell(s.dtype); }},
      {{"shape", "shape", Align::left},
       [](const Subject& s) { return s.is_tensor || s.tensors == 1 ? shape_cell(s.shape) : Cell(); }},
      {{"elements", "elements"}, [](const Subject& s) { return count_cell(s.figures.elements); }},
      figure("l1_norm", "l1 norm", &StatisticsFigures::l1_norm, 4),
      figure("l2_norm", "l2 norm", &StatisticsFigures::l2_norm, 4),
      figure("max_magnitude", "max", &StatisticsFigures::max_magnitude),
      figure("mean", "mean", &StatisticsFigures::mean),
      {{"zero_share", "zeros"}, [](const Subject& s) { return share_cell(s.figures.zero_share); }},
      {{"nonfinite", "non-finite"}, [](const Subject& s) { return count_cell(s.figures.nonfinite); }},
      figure("kurtosis", "kurtosis", &StatisticsFigures::kurtosis, 4),
      {{"tail_index", "tail index"}, [](const Subject& s) { return optional_number(s.largest.tail_index); }},
      largest_share("energy_top_1_in_1000", "top 0.1 %", &LargestFigures::energy_top_1_in_1000),
      largest_share("energy_top_1_in_100", "top 1 %", &LargestFigures::energy_top_1_in_100),
      largest_share("energy_top_1_in_10", "top 10 %", &LargestFigures::energy_top_1_in_10),
      figure("class_entropy", "entropy", &StatisticsFigures::class_entropy),
      figure("row_spread", "rows", &StatisticsFigures::row_spread),
      figure("column_spread", "columns", &StatisticsFigures::column_spread),
      figure("run_spread", "runs", &StatisticsFigures::run_spread),
      figure("magnitude_autocorrelation", "autocorr", &StatisticsFigures::autocorrelation),
  };
}

const std::vector<std::string> size_keys = {"input",    "tensor",     "dtype",    "shape",
                                            "elements", "l1_norm",    "l2_norm",  "max_magnitude",
                                            "mean",     "zero_share", "nonfinite"};
const std::vector<std::string> distribution_keys = {"input",
                                                    "tensor",
                                                    "kurtosis",
                                                    "tail_index",
                                                    "energy_top_1_in_1000",
                                                    "energy_top_1_in_100",
                                                    "energy_top_1_in_10",
                                                    "class_entropy",
                                                    "row_spread",
                                                    "column_spread",
                                                    "run_spread",
                                                    "magnitude_autocorrelation"};

constexpr std::string_view statistics_legend =
    "  tail index  Hill's, of the largest 1 % (small: heavy tail)  top ...  share of the energy in the "
    "largest\n"
    "  entropy     bits an element of its class, floor(log2 |g|)   autocorr of |g| at lag 1\n"
    "  rows, columns, runs  spread of their mean |g|: standard deviation of log2, in octaves\n";

// --- Results
// -------------------------------------------------------------------------------------------------

using ModelValue = double (*)(const ModelNoise&);
Field<ResultLine> model_field(const char* key, const char* title, ModelValue value, int digits = 3) {
  return {{key, title},
          [=](const ResultLine& l) { return l.model ? optional_number(value(*l.model), digits) : Cell(); }};
}

using CodedValue = double (*)(const CodedNoise&);
Field<ResultLine> coded_field(const char* key, const char* title, CodedValue value, int digits = 3) {
  return {{key, title},
          [=](const ResultLine& l) { return l.coded ? optional_number(value(*l.coded), digits) : Cell(); }};
}
/// What a tensor has no figure of its own for.
Field<ResultLine> whole_field(const char* key, const char* title, CodedValue value, int digits = 3) {
  return {{key, title}, [=](const ResultLine& l) {
            return l.coded && !l.is_tensor ? optional_number(value(*l.coded), digits) : Cell();
          }};
}

Field<ResultLine> trial_field(const char* key, const char* title, double (*value)(const Trials&)) {
  return {{key, title}, [=](const ResultLine& l) {
            return l.coded && l.coded->trials ? optional_number(value(*l.coded->trials)) : Cell();
          }};
}

double decibels(double nmse, double bound) {
  return 10 * std::log10(nmse / bound);
}

template <class Row>
std::vector<Field<Row>> bound_fields(const char* model, BoundAt BoundsAt::*bound) {
  const std::string key = std::string("bound_") + model;
  return {{{key + "_nmse", model},
           [=](const Row& r) { return r.bounds ? optional_number(((*r.bounds).*bound).nmse, 4) : Cell(); }},
          {{key + "_db", "dB"},
           [=](const Row& r) {
             if (!r.bounds || !r.coded) return Cell();
             const double gap = decibels(r.coded->distortion.nmse(), ((*r.bounds).*bound).nmse);
             return std::isfinite(gap) ? Cell(fmt::format("{:+.2f}", gap), json_number(gap)) : Cell();
           }},
          {{key + "_bytes", "bytes"}, [=](const Row& r) {
             if (!r.bounds || !std::isfinite(((*r.bounds).*bound).bytes)) return Cell();
             const double bytes = ((*r.bounds).*bound).bytes;
             return Cell(count_text(uint64_t(std::ceil(bytes))), json_number(bytes));
           }}};
}

double eq9_gain(const ModelNoise& m) {
  return m.exchange ? m.exchange->gain : NAN;
}
double eq9_loss(const ModelNoise& m) {
  return m.exchange ? m.exchange->loss : NAN;
}

std::vector<Field<ResultLine>> result_fields() {
  std::vector<Field<ResultLine>> fields = {
      {{"input", "input", Align::left}, [](const ResultLine& l) { return Cell(l.input); }},
      {{"tensor", "tensor", Align::left},
       [](const ResultLine& l) { return l.is_tensor ? name_cell(l.tensor) : Cell("all", nullptr); }},
      {{"target", "target", Align::left}, [](const ResultLine& l) { return Cell(l.target); }},
      {{"allocator", "alloc", Align::left}, [](const ResultLine& l) { return Cell(l.allocator); }},
      {{"payload_bits", "payload bits"},
       [](const ResultLine& l) { return l.model ? count_cell(l.model->payload_bits) : Cell(); }},
      model_field(
          "hprime", "h'", [](const ModelNoise& m) { return m.noise.per_element; }, 4),
      // Eq. 3's co-compressor has the budget of the whole population, so a tensor has none.
      model_field(
          "h_eq3", "h Eq.3", [](const ModelNoise& m) { return m.noise.uniform_bits ? m.noise.uniform : NAN; },
          4),
      {{"h_eq3_bits", "Eq.3 b"},
       [](const ResultLine& l) {
         return l.model && l.model->noise.uniform_bits ? count_cell(l.model->noise.uniform_bits) : Cell();
       }},
      model_field("h_eq6", "h' Eq.6", [](const ModelNoise& m) { return m.noise.eq6; }),
      model_field("h_eq6_nz", "Eq.6 k0=1", [](const ModelNoise& m) { return m.noise.eq6_nonzero; }),
      model_field("eq9_gain", "Eq.9 gain", eq9_gain),
      model_field("eq9_loss", "loss", eq9_loss),
      {{"eq9_improves", "holds"},
       [](const ResultLine& l) {
         if (!l.model || !l.model->exchange) return Cell();
         return Cell(l.model->exchange->improves() ? "yes" : "no", l.model->exchange->improves());
       }},
      {{"file_bytes", "bytes"},
       [](const ResultLine& l) { return l.coded ? count_cell(l.coded->file_bytes) : Cell(); }},
      {{"coded_file_ratio", "file"},
       [](const ResultLine& l) { return l.coded ? ratio_cell(l.coded->file_ratio) : Cell(); }},
      coded_field("bits_per_element", "bit/el", [](const CodedNoise& c) { return c.bits_per_element; }),
      {{"coded_payload_bits", "coded bits"},
       [](const ResultLine& l) {
         return l.coded && !l.is_tensor ? count_cell(l.coded->payload_bits) : Cell();
       }},
      whole_field(
          "coded_hprime", "coded h'", [](const CodedNoise& c) { return c.hprime; }, 4),
      whole_field(
          "expected_nmse", "expected", [](const CodedNoise& c) { return c.expected_nmse; }, 4),
      coded_field(
          "nmse", "nmse", [](const CodedNoise& c) { return c.distortion.nmse(); }, 4),
      coded_field(
          "cosine", "cos", [](const CodedNoise& c) { return c.distortion.cosine(); }, 4),
      coded_field("max_error", "max err", [](const CodedNoise& c) { return c.distortion.max_error; }),
      coded_field("mean_error", "mean err",
                  [](const CodedNoise& c) {
                    return c.distortion.elements ? c.distortion.error_sum / double(c.distortion.elements) : 0;
                  }),
      {{"trials", "trials"},
       [](const ResultLine& l) {
         return l.coded && l.coded->trials ? count_cell(l.coded->trials->count) : Cell();
       }},
      {{"deterministic", "fixed"},
       [](const ResultLine& l) {
         if (!l.coded || !l.coded->trials) return Cell();
         return Cell(l.coded->trials->deterministic ? "yes" : "no", l.coded->trials->deterministic);
       }},
      trial_field("trial_nmse", "nmse", [](const Trials& t) { return t.nmse.value; }),
      trial_field("trial_nmse_ci95", "+-", [](const Trials& t) { return t.nmse.half_width; }),
      trial_field("bias", "bias", [](const Trials& t) { return t.bias.value; }),
      trial_field("bias_ci95", "+-", [](const Trials& t) { return t.bias.half_width; }),
      trial_field("variance", "variance", [](const Trials& t) { return t.variance.value; }),
      trial_field("variance_ci95", "+-", [](const Trials& t) { return t.variance.half_width; }),
  };
  const auto add = [&](std::vector<Field<ResultLine>> more) {
    fields.insert(fields.end(), more.begin(), more.end());
  };
  add(bound_fields<ResultLine>("pooled", &BoundsAt::pooled));
  add(bound_fields<ResultLine>("tensors", &BoundsAt::tensors));
  add(bound_fields<ResultLine>("scales", &BoundsAt::scales));
  fields.push_back({{"bound_shannon_nmse", "Shannon"}, [](const ResultLine& l) {
                      return l.bounds ? optional_number(l.bounds->shannon_nmse, 4) : Cell();
                    }});
  fields.push_back({{"problem", "problem", Align::left},
                    [](const ResultLine& l) { return l.problem.empty() ? Cell() : Cell(l.problem); }});
  return fields;
}

const std::vector<std::string> model_keys = {"payload_bits", "hprime",   "h_eq3",    "h_eq3_bits",  "h_eq6",
                                             "h_eq6_nz",     "eq9_gain", "eq9_loss", "eq9_improves"};
const std::vector<std::string> coded_keys = {"coded_file_ratio", "bits_per_element", "coded_payload_bits",
                                             "coded_hprime",     "expected_nmse",    "nmse",
                                             "cosine",           "max_error",        "mean_error"};
const std::vector<std::string> trial_keys = {"trials", "deterministic", "trial_nmse", "trial_nmse_ci95",
                                             "bias",   "bias_ci95",     "variance",   "variance_ci95"};
const std::vector<std::string> bound_keys = {"file_bytes",         "nmse",
                                             "bound_pooled_nmse",  "bound_pooled_db",
                                             "bound_pooled_bytes", "bound_tensors_nmse",
                                             "bound_tensors_db",   "bound_tensors_bytes",
                                             "bound_scales_nmse",  "bound_scales_db",
                                             "bound_scales_bytes"};

constexpr std::string_view model_legend =
    "  models, every allocator at the payload bits that the method spends at the target\n"
    "  h'         noise per element, sum 4^-b g^2 / |g|^2 over all elements (Eqs. 8, 11): the figure to "
    "compare\n"
    "  h Eq.3     k / 4^b of the best co-compressor of equal cost: k elements kept at one width b, the "
    "dropped not counted\n"
    "  h' Eq.6    the paper's sum over widths, literally: each class's share times its size, the dropped "
    "class too\n"
    "  Eq.6 k0=1  the same with the dropped class counted once\n"
    "  Eq.9       step from Eq.3's co-compressor to this allocation: h' gained by wider elements, lost by "
    "narrower ones\n";
constexpr std::string_view coded_legend =
    "  a real encode at the target (class map and scales paid for) and decode\n"
    "  coded h'   h' of the allocation that was coded; expected is the quantizer's exact mean squared error\n"
    "  nmse, cos, max err and mean err are measured on the decoded values\n";
constexpr std::string_view trial_legend =
    "  the same with other seeds, in units of |g|^2, each with half its 95 % confidence interval\n"
    "  bias |E g^ - g|^2, variance E |g^ - E g^|^2; fixed: the seed changes nothing, so there is nothing to "
    "vary\n";
const std::vector<std::string> tensor_bound_keys = {
    "file_bytes",        "bits_per_element", "nmse",
    "bound_pooled_nmse", "bound_pooled_db",  "bound_pooled_bytes",
    "bound_scales_nmse", "bound_scales_db",  "bound_scales_bytes"};

constexpr std::string_view bound_legend =
    "  rate-distortion limits at the same bytes: the least nmse, how far the result is above it, and the "
    "bytes "
    "that its\n"
    "  nmse would need: one distribution for all elements, one a tensor, row and column scales known "
    "(negative dB: the\n"
    "  code uses structure that the model does not have)\n";

constexpr std::string_view tensor_bound_legend =
    "  the same for each tensor alone at the bytes of its blocks; header, directory and parameters, which "
    "tensors share,\n"
    "  are left out, and the limit of a small tensor, whose histogram fits its few elements, is far below "
    "any "
    "code\n";

// --- Curve
// ---------------------------------------------------------------------------------------------------

Field<CurvePoint> point_field(const char* key, const char* title, double (*value)(const CurvePoint&),
                              int digits = 3) {
  return {{key, title},
          [=](const CurvePoint& p) { return p.coded ? optional_number(value(p), digits) : Cell(); }};
}

std::vector<Field<CurvePoint>> curve_fields() {
  std::vector<Field<CurvePoint>> fields = {
      {{"input", "input", Align::left}, [](const CurvePoint& p) { return Cell(p.input); }},
      {{"target", "target", Align::left}, [](const CurvePoint& p) { return Cell(p.target); }},
      point_field(
          "bits_per_element", "bit/el", [](const CurvePoint& p) { return p.coded->bits_per_element; }, 4),
      point_field(
          "payload_bits_per_element", "payload",
          [](const CurvePoint& p) { return double(p.coded->payload_bits) / double(p.elements); }, 4),
      point_field(
          "hprime", "h'", [](const CurvePoint& p) { return p.coded->hprime; }, 4),
      point_field(
          "expected_nmse", "expected", [](const CurvePoint& p) { return p.coded->expected_nmse; }, 4),
      point_field(
          "nmse", "nmse", [](const CurvePoint& p) { return p.coded->distortion.nmse(); }, 4),
      point_field(
          "cosine", "cos", [](const CurvePoint& p) { return p.coded->distortion.cosine(); }, 4),
  };
  for (const auto& [name, bound] :
       {std::pair("pooled", &BoundsAt::pooled), std::pair("tensors", &BoundsAt::tensors),
        std::pair("scales", &BoundsAt::scales)})
    for (const Field<CurvePoint>& field : bound_fields<CurvePoint>(name, bound))
      if (field.column.key.ends_with("_nmse")) fields.push_back(field);
  fields.push_back({{"problem", "problem", Align::left},
                    [](const CurvePoint& p) { return p.problem.empty() ? Cell() : Cell(p.problem); }});
  return fields;
}

const std::vector<std::string> curve_keys = {
    "target", "bits_per_element", "payload_bits_per_element", "hprime", "expected_nmse", "nmse", "cosine"};
const std::vector<std::string> curve_bound_keys = {"bound_pooled_nmse", "bound_tensors_nmse",
                                                   "bound_scales_nmse"};

constexpr std::string_view curve_legend =
    "  real encodes at less and less: bits an element of the whole frame, of the values alone (payload); h' "
    "of "
    "the\n"
    "  allocation that was coded, the quantizer's exact mean squared error (expected), and what was "
    "measured\n";

// --- Printing
// ------------------------------------------------------------------------------------------------

/// Rows that carry nothing for a table but its own row's name are left out of it.
using KeepLine = bool (*)(const ResultLine&);
bool has_model(const ResultLine& line) {
  return line.model.has_value();
}
bool any_line(const ResultLine&) {
  return true;
}
bool has_trials(const ResultLine& line) {
  return line.coded && line.coded->trials;
}
bool has_bounds(const ResultLine& line) {
  return line.bounds.has_value();
}

/// A sentence below a table, in lines of at most 110 columns.
std::string note(const std::string& sentence) {
  constexpr size_t width = 110;
  std::string lines;
  std::string rest = printable(sentence);
  for (bool first_line = true; !rest.empty(); first_line = false) {
    size_t end = rest.size() <= width ? rest.size() : rest.rfind(' ', width);
    if (end == std::string::npos || end == 0) end = rest.size();
    lines += (first_line ? "  ! " : "    ") + rest.substr(0, end) + "\n";
    rest.erase(0, end + 1);
  }
  return lines;
}

/// Tables one after the other, with an empty line between them. In text a table of rows about several things
/// comes in groups, each under a line that names what it is about, so that long names take no columns.
struct Printer {
  const GlobalOptions& global;
  bool first = true;

  void heading(const std::string& text) {
    if (text.empty()) return;
    print(Stream::out, (first ? "" : "\n") + printable(text) + "\n");
    first = true;  // its table follows at once
  }
  void table(const Table& table, std::string_view notes, std::string_view legend) {
    print(Stream::out, (first ? "" : "\n") + table.render(global.format));
    if (global.text()) print(Stream::out, notes);
    if (global.text() && !global.quiet()) print(Stream::out, legend);
    first = false;
  }

  /// The columns `keys` of `rows`; `heading_of` tells the groups of the text form. `problem_of` (may be
  /// nullptr) stands below the table, in Markdown in a column of its own.
  template <class Row>
  void grouped(const std::vector<Field<Row>>& all_fields, std::vector<std::string> keys,
               const std::vector<Row>& rows, std::string_view legend,
               const std::function<std::string(const Row&)>& heading_of,
               const std::function<std::string(const Row&)>& problem_of) {
    if (problem_of && global.format == "md") keys.emplace_back("problem");
    const std::vector<Field<Row>> fields = chosen(all_fields, keys);
    for (size_t at = 0; at < rows.size();) {
      const std::string group = global.text() ? heading_of(rows[at]) : "";
      heading(group);
      Table part = table_of(fields, std::vector<Row>());
      std::string notes;
      for (; at < rows.size() && (!global.text() || heading_of(rows[at]) == group); ++at) {
        std::vector<Cell> cells;
        for (const Field<Row>& field : fields) cells.push_back(field.cell(rows[at]));
        part.add_row(std::move(cells));
        if (problem_of && global.text() && !problem_of(rows[at]).empty()) notes += note(problem_of(rows[at]));
      }
      table(part, notes, at == rows.size() ? legend : std::string_view());
    }
  }
};

/// What the rows of results have in common with their neighbours, and how each is named then.
struct ResultForm {
  bool inputs, tensors;  ///< there are several inputs; tensors of them

  std::string heading(const ResultLine& line) const {
    std::string text = inputs ? line.input : "";
    if (tensors) text += (inputs ? ", " : "") + line.target + ", alloc " + line.allocator;
    return text;
  }
  /// Columns that name a row.
  std::vector<std::string> names(bool text) const {
    std::vector<std::string> keys;
    if (inputs && !text) keys.emplace_back("input");
    if (tensors) keys.emplace_back("tensor");
    if (!tensors || !text) keys.insert(keys.end(), {"target", "allocator"});
    return keys;
  }
};

void print_results(Printer& printer, const ResultForm& form, const std::vector<ResultLine>& lines,
                   const std::vector<std::string>& keys, std::string_view legend, KeepLine keep) {
  std::vector<ResultLine> kept;
  for (const ResultLine& line : lines)
    if (keep(line)) kept.push_back(line);
  std::vector<std::string> shown = form.names(printer.global.text());
  shown.insert(shown.end(), keys.begin(), keys.end());
  std::function<std::string(const ResultLine&)> problem_of;
  if (keep == any_line) problem_of = [](const ResultLine& line) { return line.problem; };
  printer.grouped<ResultLine>(
      result_fields(), shown, kept, legend, [&](const ResultLine& line) { return form.heading(line); },
      problem_of);
}

void print_bounds(Printer& printer, const ResultForm& form, const std::vector<ResultLine>& lines) {
  if (!printer.global.text() || !form.tensors)
    return print_results(printer, form, lines, bound_keys, bound_legend, has_bounds);
  // A tensor is one distribution, so two of the three models are one: with that left out its rows are not
  // too wide for its name.
  print_results(printer, {form.inputs, false}, lines, bound_keys, bound_legend,
                [](const ResultLine& line) { return has_bounds(line) && !line.is_tensor; });
  print_results(printer, form, lines, tensor_bound_keys, tensor_bound_legend,
                [](const ResultLine& line) { return has_bounds(line) && line.is_tensor; });
}

void print_statistics(Printer& printer, const ReportParts& parts, const std::vector<Subject>& subjects) {
  const bool text = printer.global.text(), heads = text && (!parts.several_inputs || parts.per_tensor);
  std::vector<std::string> sizes = size_keys, distribution = distribution_keys;
  if (heads) {
    sizes.erase(sizes.begin());
    distribution.erase(distribution.begin());
  }
  const std::function<std::string(const Subject&)> heading_of = [&](const Subject& subject) {
    if (!heads) return std::string();
    return subject.input.empty() ? std::string("all inputs") : subject.input;
  };
  printer.grouped<Subject>(statistics_fields(), sizes, subjects, {}, heading_of, nullptr);
  // One input is named once.
  const bool again = parts.several_inputs;
  printer.grouped<Subject>(
      statistics_fields(), distribution, subjects, statistics_legend,
      [&](const Subject& subject) { return again ? heading_of(subject) : std::string(); }, nullptr);
}

void print_transforms(Printer& printer, const ReportParts& parts, const std::vector<TransformLine>& lines) {
  printer.table(savings_table(lines, parts.several_inputs), {}, {});
  if (!printer.global.text()) return printer.table(layers_table(lines, true), {}, {});
  for (const TransformLine& line : lines) {
    if (line.study.layers.empty()) continue;
    if (lines.size() > 1) printer.heading(line.input + ", " + line.study.target);
    printer.table(layers_table({line}, false), {},
                  &line == &lines.back() ? transform_legend : std::string_view());
  }
}

void print_tables(const GlobalOptions& global, const ReportParts& parts, const std::vector<Subject>& subjects,
                  const std::vector<ResultLine>& lines, const std::vector<CurvePoint>& points,
                  const std::vector<TransformLine>& transforms) {
  Printer printer{global};
  print_statistics(printer, parts, subjects);
  const ResultForm form{parts.several_inputs, parts.per_tensor};
  if (parts.models) print_results(printer, form, lines, model_keys, model_legend, has_model);
  if (parts.results) print_results(printer, form, lines, coded_keys, coded_legend, any_line);
  if (parts.trials) print_results(printer, form, lines, trial_keys, trial_legend, has_trials);
  if (parts.bound) print_bounds(printer, form, lines);
  if (parts.transforms) print_transforms(printer, parts, transforms);
  if (!parts.curve) return;
  std::vector<std::string> keys = curve_keys;
  if (parts.several_inputs && !global.text()) keys.insert(keys.begin(), "input");
  if (parts.bound) keys.insert(keys.end(), curve_bound_keys.begin(), curve_bound_keys.end());
  printer.grouped<CurvePoint>(
      curve_fields(), keys, points, curve_legend,
      [&](const CurvePoint& point) { return parts.several_inputs ? point.input : std::string(); },
      [](const CurvePoint& point) { return point.problem; });
}

}  // namespace

BoundsAt bounds_at(const RateDistortionBounds& bounds, double bits_per_element, double nmse) {
  const auto at = [&](const RateDistortion& bound) {
    return BoundAt{bound.nmse_at(bits_per_element), bound.bits_at(nmse) * bound.elements() / 8};
  };
  // A model of one part is the pooled source: computing it once gives the very same figures.
  const BoundAt pooled = at(bounds.pooled);
  const auto of_model = [&](const RateDistortion& bound) { return bound.parts() == 1 ? pooled : at(bound); };
  return {pooled, of_model(bounds.tensors), of_model(bounds.scales),
          bounds.pooled.shannon_nmse_at(bits_per_element)};
}

Table statistics_table(const std::vector<Subject>& subjects) {
  return table_of(statistics_fields(), subjects);
}
Table results_table(const std::vector<ResultLine>& lines) {
  return table_of(result_fields(), lines);
}
Table curve_table(const std::vector<CurvePoint>& points) {
  return table_of(curve_fields(), points);
}

void print_report(const GlobalOptions& global, const ReportParts& parts, const std::vector<Subject>& subjects,
                  const std::vector<ResultLine>& lines, const std::vector<CurvePoint>& points,
                  const std::vector<TransformLine>& transforms) {
  if (subjects.empty() && !global.json()) return;
  if (global.json()) {
    Json document = {{"schema", "jsq.analyze/1"}};
    if (!parts.method.empty()) document["method"] = parts.method;
    Json rows = statistics_table(subjects).json();
    for (size_t i = 0; i < subjects.size(); ++i) {
      if (parts.results) rows[i]["results"] = subjects[i].results;
      if (parts.curve) rows[i]["curve"] = subjects[i].curve;
      if (parts.transforms) rows[i]["transforms"] = subjects[i].transforms;
    }
    document["rows"] = std::move(rows);
    print_document(Stream::out, global, document, "rows");
    return;
  }
  // CSV holds one table.
  if (global.format == "csv") {
    const Table table = parts.transforms ? layers_table(transforms, true)
                        : parts.curve    ? curve_table(points)
                        : parts.results  ? results_table(lines)
                                         : statistics_table(subjects);
    print(Stream::out, table.csv());
    return;
  }
  print_tables(global, parts, subjects, lines, points, transforms);
}

}  // namespace jsq::tools

// What of a comparison is drawn, and what its page says.
#include "comparison_page.hpp"

#include <algorithm>
#include <cmath>
#include <map>

#include "comparison_rows.hpp"

namespace jsq::tools {
namespace {

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

}  // namespace

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

Page comparison_page(const GlobalOptions& global, const RunIdentity& identity,
                     const std::vector<Outcome>& outcomes, const std::vector<Chart>& charts,
                     const std::vector<Verdict>& verdicts, bool per_tensor) {
  Page page = {.title = "jsq compare", .command = command_text(global), .sections = {}};
  page.sections.push_back(
      {.heading = "Inputs", .text = "", .pictures = {}, .tables = {input_table(identity)}});
  const RowForm form = {.full = false, .inputs = false, .tensors = per_tensor, .bound = true};
  for (size_t i = 0; i < identity.inputs.size(); ++i) {
    Table table = comparison_table(form);
    for (const Outcome& outcome : outcomes)
      if (outcome.input == identity.inputs[i].name) add_outcome(table, outcome, form);
    page.sections.push_back({.heading = identity.inputs[i].name,
                             .text = i == 0 ? column_legend : "",
                             .pictures = {charts[i]},
                             .tables = {table}});
  }
  if (!verdicts.empty())
    page.sections.push_back(
        {.heading = "Conditions", .text = "", .pictures = {}, .tables = {verdict_table(verdicts)}});
  return page;
}

}  // namespace jsq::tools

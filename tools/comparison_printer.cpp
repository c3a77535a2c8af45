// Rows in the form that was asked for, and the legend under them.
#include "comparison_printer.hpp"

#include "progress.hpp"

namespace jsq::tools {
namespace {

constexpr std::string_view text_legend =
    "  file: input bytes over all bytes of the frame; payload: over the bits of the values alone; h': "
    "the model's noise\n"
    "  nmse, cos, signs (share kept), max err and bias (of the mean) are measured; enc, dec: 10^6 bytes of "
    "input a second\n";
constexpr std::string_view bound_legend =
    "  to bound: nmse above the rate-distortion bound at the same bytes; x bytes: size over the bound's at "
    "the "
    "same nmse\n";

}  // namespace

RowPrinter::RowPrinter(const GlobalOptions& global, RowForm form, bool at_once)
    : global_(global),
      form_(form),
      at_once_(at_once && global.format != "json"),
      name_inputs_(global.text() && at_once && form_.inputs) {
  if (name_inputs_) form_.inputs = false;
}

void RowPrinter::start(const RunIdentity& identity) {
  if (global_.format == "jsonl") print(Stream::out, to_line(run_line(identity)) + "\n");
}

void RowPrinter::add(const Outcome& outcome) {
  if (at_once_) show(outcome);
}

void RowPrinter::finish(const std::vector<Outcome>& outcomes) {
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

void RowPrinter::print_legend(const std::vector<Outcome>& outcomes) const {
  if (!global_.text() || global_.quiet() || outcomes.empty()) return;
  print(Stream::out, text_legend);
  if (form_.bound) print(Stream::out, bound_legend);
}

void RowPrinter::show(const Outcome& outcome) {
  clear_progress_line();
  std::string text;
  if (global_.format == "jsonl") {
    for (const Json& row : outcome_rows(outcome, form_.tensors)) {
      Json line = {{"schema", comparison_schema}, {"record", "row"}};
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

Json document_rows(const std::vector<Outcome>& outcomes, bool tensors) {
  Json rows = Json::array();
  for (const Outcome& outcome : outcomes)
    for (Json& row : outcome_rows(outcome, tensors)) rows.push_back(std::move(row));
  return rows;
}

}  // namespace jsq::tools

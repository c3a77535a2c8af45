// One description of the columns for all forms.
#include "comparison_rows.hpp"

#include <cmath>

#include "jsq/error.hpp"

namespace jsq::tools {
namespace {

bool shown(Quantity quantity, const RowForm& form) {
  const bool of_bound = quantity == Quantity::bound_db || quantity == Quantity::bound_factor;
  return form.full || form.bound || !of_bound;
}

/// The heading of a column. Text has the unit of speeds in its legend, for narrower columns.
std::string title_of(const QuantityInfo& info, const RowForm& form) {
  std::string title = info.title;
  if (const size_t unit = title.find(" MB/s"); !form.full && unit != std::string::npos) title.erase(unit);
  return title;
}

/// Behind the row of a dump whose target was not reached, in the form for people.
std::string note_of(const Outcome& outcome) {
  if (outcome.reached) return "";
  return outcome.measured ? "out of reach: nearest shown" : outcome.problem;
}

std::vector<Cell> cells_of(const Outcome& outcome, const Figures& figures, bool is_tensor,
                           const RowForm& form) {
  std::vector<Cell> row;
  if (form.full || form.inputs) row.emplace_back(outcome.input);
  if (form.full || form.tensors) row.push_back(is_tensor ? Cell(figures.tensor) : Cell("all", nullptr));
  row.emplace_back(outcome.method);
  row.push_back(form.full ? Cell(to_string(outcome.target.target)) : Cell(to_string(outcome.target)));
  if (form.full) {
    row.emplace_back(accounting_name(outcome.target.kind));
    row.emplace_back(outcome.reached ? "yes" : "no", outcome.reached);
    row.push_back(outcome.measured ? count_cell(figures.elements) : Cell());
    row.push_back(outcome.measured ? count_cell(figures.file_bytes) : Cell());
  }
  for (size_t q = 0; q < quantity_count; ++q) {
    if (!shown(Quantity(q), form)) continue;
    const double value = figures.values[q];
    row.push_back(outcome.measured ? Cell(quantity_infos[q].show(value), json_number(value)) : Cell());
  }
  if (form.full) row.push_back(outcome.problem.empty() ? Cell() : Cell(outcome.problem));
  return row;
}

double number_of(const Json& row, const char* key) {
  const Json& value = row.at(key);
  return value.is_null() ? std::nan("") : value.get<double>();
}

Figures figures_of(const Json& row) {
  Figures figures;
  if (!row.at("tensor").is_null()) figures.tensor = row.at("tensor").get<std::string>();
  if (row.at("file_bytes").is_null()) return figures;
  figures.elements = row.at("elements").get<uint64_t>();
  figures.file_bytes = row.at("file_bytes").get<uint64_t>();
  for (size_t q = 0; q < quantity_count; ++q) figures.values[q] = number_of(row, quantity_infos[q].key);
  // JSON has no infinity, and the error of what was measured is a number.
  if (std::isnan(figures[Quantity::nmse])) figures[Quantity::nmse] = HUGE_VAL;
  return figures;
}

}  // namespace

Table comparison_table(const RowForm& form) {
  std::vector<Column> columns;
  if (form.full || form.inputs) columns.push_back({"input", "input", Align::left, form.input_width});
  if (form.full || form.tensors) columns.push_back({"tensor", "tensor", Align::left, form.tensor_width});
  columns.push_back({"method", "method", Align::left, form.method_width});
  columns.push_back({"target", "target", Align::left, form.target_width});
  if (form.full)
    columns.insert(columns.end(), {{"accounting", "accounting", Align::left},
                                   {"reached", "reached", Align::left},
                                   {"elements", "elements"},
                                   {"file_bytes", "file bytes"}});
  for (size_t q = 0; q < quantity_count; ++q)
    if (shown(Quantity(q), form))
      columns.push_back(
          {quantity_infos[q].key, title_of(quantity_infos[q], form), Align::right, quantity_infos[q].width});
  if (form.full) columns.push_back({"problem", "problem", Align::left});
  return Table(std::move(columns));
}

void add_outcome(Table& table, const Outcome& outcome, const RowForm& form) {
  if (form.tensors)
    for (const Figures& tensor : outcome.tensors) table.add_row(cells_of(outcome, tensor, true, form));
  table.add_row(cells_of(outcome, outcome.whole, false, form));
  if (!form.full) table.annotate_last_row(note_of(outcome));
}

std::vector<Json> outcome_rows(const Outcome& outcome, bool tensors) {
  const RowForm form = {.full = true, .tensors = tensors};
  Table table = comparison_table(form);
  add_outcome(table, outcome, form);
  const Json rows = table.json();
  return {rows.begin(), rows.end()};
}

Outcome outcome_of_rows(const std::vector<Json>& rows) {
  try {
    const Json& last = rows.back();
    Outcome outcome;
    outcome.input = last.at("input").get<std::string>();
    outcome.method = last.at("method").get<std::string>();
    outcome.target.target = parse_target(last.at("target").get<std::string>());
    outcome.target.kind = last.at("accounting") == "payload" ? RatioKind::payload : RatioKind::file;
    outcome.reached = last.at("reached").get<bool>();
    outcome.measured = !last.at("file_bytes").is_null();
    if (!last.at("problem").is_null()) outcome.problem = last.at("problem").get<std::string>();
    outcome.whole = figures_of(last);
    for (size_t r = 0; r + 1 < rows.size(); ++r) outcome.tensors.push_back(figures_of(rows[r]));
    return outcome;
  } catch (const Json::exception& error) {
    throw Error(Errc::damaged, std::string("not a row of jsq.compare/1: ") + error.what());
  }
}

}  // namespace jsq::tools

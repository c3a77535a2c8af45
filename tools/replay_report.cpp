#include "replay_report.hpp"

#include <fmt/format.h>

#include <cmath>

namespace jsq::tools {
namespace {

/// "-" for what there is not.
Cell known_cell(double value) {
  return std::isnan(value) ? Cell() : number_cell(value);
}

/// Figures that a step and the whole share.
struct Figures {
  uint64_t file_bytes, input_bytes;
  const Distortion& error;
  double coded_nmse, residual_norm, sum_error;
};

void add_figures(std::vector<Cell>& row, const Figures& figures) {
  row.push_back(count_cell(figures.file_bytes));
  row.push_back(ratio_cell(double(figures.input_bytes) / double(figures.file_bytes)));
  row.push_back(number_cell(figures.error.nmse()));
  row.push_back(known_cell(figures.coded_nmse));
  row.push_back(number_cell(figures.error.cosine()));
  row.push_back(known_cell(figures.residual_norm));
  row.push_back(number_cell(figures.sum_error));
}

Json figures_json(const Figures& figures) {
  return {{"file_bytes", figures.file_bytes},
          {"file_ratio", json_number(double(figures.input_bytes) / double(figures.file_bytes))},
          {"nmse", json_number(figures.error.nmse())},
          {"coded_nmse", json_number(figures.coded_nmse)},
          {"cosine", json_number(figures.error.cosine())},
          {"residual_norm", json_number(figures.residual_norm)},
          {"sum_error", json_number(figures.sum_error)}};
}

Figures figures_of(const ReplayStep& step, const ReplayInput& input) {
  return {step.file_bytes, input.input_bytes * input.workers, step.error, step.coded_nmse, step.residual_norm,
          step.sum_error};
}
Figures figures_of(const ReplayTotal& total, const ReplayInput& input) {
  return {total.file_bytes,    input.input_bytes * input.workers * total.steps,
          total.error,         std::nan(""),
          total.residual_norm, total.sum_error};
}

/// A run's line in a picture: its name without what all runs share.
std::string short_name(const ReplayRun& run, const std::vector<const ReplayRun*>& runs) {
  const auto differs = [&](const auto& text_of) {
    for (const ReplayRun* other : runs)
      if (text_of(other->plan()) != text_of(run.plan())) return true;
    return false;
  };
  const auto target = [](const ReplayPlan& plan) { return to_string(plan.coding.target); };
  const auto feedback = [](const ReplayPlan& plan) { return plan.feedback(); };
  const auto schedule = [](const ReplayPlan& plan) { return to_string(plan.schedule); };
  std::string name = to_string(run.plan().coding.method);
  if (differs(target)) name += " " + target(run.plan());
  if (differs(feedback)) name += " ef " + feedback(run.plan());
  if (differs(schedule)) name += " " + schedule(run.plan());
  return name;
}

}  // namespace

Table replay_table(const std::vector<const ReplayRun*>& runs, const ReplayInput& input, bool each_step,
                   bool name_runs) {
  std::vector<Column> columns;
  if (name_runs)
    columns = {{"method", "method", Align::left},
               {"target", "target", Align::left},
               {"ef", "ef", Align::left},
               {"schedule", "schedule", Align::left}};
  columns.push_back({"step", "step", Align::right});
  columns.push_back({"name", "name", Align::left});
  for (const Column& column : std::initializer_list<Column>{{"file_bytes", "bytes"},
                                                            {"file_ratio", "file"},
                                                            {"nmse", "nmse"},
                                                            {"coded_nmse", "coded"},
                                                            {"cosine", "cos"},
                                                            {"residual_norm", "residual"},
                                                            {"sum_error", "sum err"}})
    columns.push_back(column);
  Table table(columns);
  for (const ReplayRun* run : runs) {
    const ReplayPlan& plan = run->plan();
    const auto start_row = [&] {
      if (!name_runs) return std::vector<Cell>();
      return std::vector<Cell>{Cell(to_string(plan.coding.method)), Cell(to_string(plan.coding.target)),
                               Cell(plan.feedback()), Cell(to_string(plan.schedule))};
    };
    for (const ReplayStep& step : run->steps()) {
      if (!each_step) break;
      std::vector<Cell> row = start_row();
      row.push_back(count_cell(step.number));
      row.push_back(Cell(step.name));
      add_figures(row, figures_of(step, input));
      table.add_row(std::move(row));
    }
    const ReplayTotal total = run->total();
    std::vector<Cell> row = start_row();
    row.push_back(Cell("all"));
    row.push_back(Cell(fmt::format("{} steps", total.steps)));
    add_figures(row, figures_of(total, input));
    table.add_row(std::move(row));
  }
  return table;
}

Json replay_document(const std::vector<const ReplayRun*>& runs, const ReplayInput& input) {
  Json document = {{"schema", "jsq.replay/1"},   {"version", JSQ_VERSION},
                   {"inputs", input.names},      {"workers", input.workers},
                   {"elements", input.elements}, {"input_bytes", input.input_bytes},
                   {"seed", input.seed},         {"runs", Json::array()}};
  for (const ReplayRun* run : runs) {
    const ReplayPlan& plan = run->plan();
    Json steps = Json::array();
    for (const ReplayStep& step : run->steps()) {
      Json row = {{"step", step.number},
                  {"name", step.name},
                  {"budget_bytes", step.budget_bytes == 0 ? Json(nullptr) : Json(step.budget_bytes)}};
      row.update(figures_json(figures_of(step, input)));
      steps.push_back(std::move(row));
    }
    const ReplayTotal total = run->total();
    Json whole = {{"steps", total.steps}};
    whole.update(figures_json(figures_of(total, input)));
    whole.erase("coded_nmse");
    document["runs"].push_back({{"method", to_string(plan.coding.method)},
                                {"target", to_string(plan.coding.target)},
                                {"ef", plan.feedback()},
                                {"schedule", to_string(plan.schedule)},
                                {"length", plan.length},
                                {"steps", std::move(steps)},
                                {"total", std::move(whole)}});
  }
  return document;
}

std::vector<Chart> replay_charts(const std::vector<const ReplayRun*>& runs, const ReplayInput& input) {
  const std::string what =
      fmt::format("{} steps, {} worker{}", input.steps, input.workers, input.workers == 1 ? "" : "s");
  const auto chart = [&](const std::string& title, const std::string& label, const auto& value_of) {
    Chart made;
    made.title = title + ": " + what;
    made.x = {.label = "step"};
    made.y = {.label = label, .scale = Scale::logarithmic};
    for (const ReplayRun* run : runs) {
      Series series = {.name = short_name(*run, runs), .mark = Mark::line_points, .points = {}};
      for (const ReplayStep& step : run->steps())
        series.points.push_back({double(step.number), value_of(step)});
      made.series.push_back(std::move(series));
    }
    return made;
  };
  return {chart("Error of each step", "normalised mean squared error",
                [](const ReplayStep& step) { return step.error.nmse(); }),
          chart("Error of the running sum", "|sum g - sum of decoded| / |sum g|",
                [](const ReplayStep& step) { return step.sum_error; }),
          chart("Size of each step", "bytes of all workers",
                [](const ReplayStep& step) { return double(step.file_bytes); })};
}

}  // namespace jsq::tools

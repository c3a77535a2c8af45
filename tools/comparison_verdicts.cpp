// Conditions judged and told.
#include "comparison_verdicts.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>

namespace jsq::tools {
namespace {

std::string values_text(const Verdict& verdict) {
  std::string text;
  for (const auto& [name, value] : verdict.values)
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", name,
                        std::isnan(value) ? "unknown" : number_text(value, 4));
  return text;
}

}  // namespace

Verdict judge(const Plan& plan, const Condition& condition, const Grid& grid, const std::string& input,
              size_t column) {
  Verdict verdict = {condition.text(), input, target_text(plan, column), {}, {}, {}};
  const auto value_of = [&](const Condition::Name& name) {
    const std::optional<Outcome>& outcome = grid[name.method][column];
    return outcome && outcome->reached ? outcome->whole.values[name.measure] : std::nan("");
  };
  for (const Condition::Name& name : condition.names()) {
    const std::string label = to_string(plan.methods[name.method]);
    const double value = value_of(name);
    verdict.values.emplace_back(fmt::format("{}.{}", label, quantity_infos[name.measure].key), value);
    if (!std::isnan(value)) continue;
    const std::optional<Outcome>& outcome = grid[name.method][column];
    const bool out_of_reach = outcome && !outcome->reached;
    verdict.missing.push_back(
        out_of_reach ? fmt::format("{} does not reach it", label)
                     : fmt::format("{} has no {} here", label, quantity_infos[name.measure].key));
  }
  verdict.holds = condition.holds(value_of);
  return verdict;
}

Json verdicts_json(const std::vector<Verdict>& verdicts) {
  Json array = Json::array();
  for (const Verdict& verdict : verdicts) {
    Json values = Json::object();
    for (const auto& [name, value] : verdict.values) values[name] = json_number(value);
    array.push_back({{"condition", verdict.condition},
                     {"input", verdict.input},
                     {"target", verdict.target},
                     {"holds", verdict.holds ? Json(*verdict.holds) : Json(nullptr)},
                     {"values", values}});
  }
  return array;
}

bool report_verdicts(const GlobalOptions& global, const std::vector<Verdict>& verdicts) {
  bool any = false;
  for (const Verdict& verdict : verdicts) {
    if (verdict.holds && !*verdict.holds) continue;
    any = true;
    const std::string where =
        fmt::format("--fail-if '{}': {} at {}", verdict.condition, verdict.input, verdict.target);
    report_error(global, Errc::assertion_failed,
                 verdict.holds
                     ? fmt::format("{}: holds: {}", where, values_text(verdict))
                     : fmt::format("{}: cannot be judged: {}; choose targets that every method in it reaches",
                                   where, fmt::join(verdict.missing, ", ")));
  }
  return any;
}

Table verdict_table(const std::vector<Verdict>& verdicts) {
  Table table({{"condition", "condition", Align::left},
               {"input", "input", Align::left},
               {"target", "target", Align::left},
               {"holds", "holds", Align::left},
               {"values", "values", Align::left}});
  for (const Verdict& verdict : verdicts)
    table.add_row({Cell(verdict.condition), Cell(verdict.input), Cell(verdict.target),
                   Cell(!verdict.holds   ? "unknown"
                        : *verdict.holds ? "yes"
                                         : "no"),
                   Cell(values_text(verdict))});
  return table;
}

}  // namespace jsq::tools

// jsq methods: the registry as a table, or one method with everything its row says and its options.
#include <fmt/format.h>

#include <memory>

#include "command.hpp"
#include "jsq/method.hpp"
#include "report.hpp"

namespace jsq::tools {

namespace {

struct MethodsOptions {
  std::string name;
};

/// The facts of a row in the order they are shown.
struct Fact {
  const char* key;
  const char* title;
  std::string_view MethodInfo::*value;
};
constexpr Fact facts[] = {
    {"title", "what", &MethodInfo::title},
    {"source", "source", &MethodInfo::source},
    {"bias", "bias", &MethodInfo::bias},
    {"needs", "needs", &MethodInfo::needs},
    {"aggregation", "aggregation", &MethodInfo::aggregation},
    {"random_numbers", "random numbers", &MethodInfo::random_numbers},
    {"nominal_bits", "nominal bits", &MethodInfo::nominal_bits},
    {"honest_bits", "honest bits", &MethodInfo::honest_bits},
    {"backends", "backends", &MethodInfo::backends},
};

constexpr std::string_view sizing_names[] = {"fixed", "stepped", "continuous"};
constexpr std::string_view feedback_names[] = {"none", "residual", "masked", "momentum"};

/// What a target can do with the method, for people.
std::string sizing_text(const MethodInfo& info) {
  const std::string option = info.size_option.empty() ? "" : fmt::format(" (option {})", info.size_option);
  switch (info.sizing) {
    case Sizing::fixed:
      return "one size: a target is met by it or not";
    case Sizing::stepped:
      return "in steps, the largest that the target allows" + option;
    case Sizing::continuous:
      return "any ratio or error" + option;
  }
  return "";
}

Json method_json(const MethodInfo& info) {
  Json row = {{"name", info.name}, {"wire_id", info.wire_id}};
  for (const Fact& fact : facts) row[fact.key] = info.*fact.value;
  row["sizing"] = sizing_names[size_t(info.sizing)];
  row["size_option"] = info.size_option;
  row["unbiased"] = info.unbiased;
  row["feedback"] = feedback_names[size_t(info.feedback)];
  row["sums"] = info.sums;
  row["options"] = Json::array();
  for (const MethodOption& option : info.options)
    row["options"].push_back({{"name", option.name},
                              {"values", option.values},
                              {"default", option.default_value},
                              {"help", option.help}});
  return row;
}

Cell text_cell(std::string_view text) {
  return Cell(std::string(text));
}

/// One line a method.
Table summary_table(const std::vector<const MethodInfo*>& rows) {
  Table table({{"name", "name", Align::left},
               {"title", "title", Align::left},
               {"aggregation", "aggregation", Align::left},
               {"backends", "backends", Align::left}});
  for (const MethodInfo* info : rows)
    table.add_row({text_cell(info->name), text_cell(info->title), text_cell(info->aggregation),
                   text_cell(info->backends.substr(0, info->backends.find(':')))});  // without the reason
  return table;
}

Table options_table(const MethodInfo& info) {
  Table table({{"option", "option", Align::left},
               {"default", "default", Align::left},
               {"values", "values", Align::left},
               {"help", "meaning", Align::left}});
  for (const MethodOption& option : info.options)
    table.add_row({text_cell(option.name), text_cell(option.default_value), text_cell(option.values),
                   text_cell(option.help)});
  return table;
}

Table facts_table(const MethodInfo& info) {
  Table table({{"fact", "method", Align::left}, {"value", std::string(info.name), Align::left}});
  for (const Fact& fact : facts) table.add_row({text_cell(fact.title), text_cell(info.*fact.value)});
  table.add_row({"targets", text_cell(sizing_text(info))});
  table.add_row({"feedback", text_cell(feedback_names[size_t(info.feedback)])});
  table.add_row({"wire id", text_cell(std::to_string(info.wire_id))});
  return table;
}

int run_methods(const MethodsOptions& options, const GlobalOptions& global) {
  std::vector<const MethodInfo*> rows = methods();
  if (!options.name.empty()) rows = {&method_named(options.name)};
  if (global.json()) {
    Json document = {{"schema", "jsq.methods/1"}, {"methods", Json::array()}};
    for (const MethodInfo* info : rows) document["methods"].push_back(method_json(*info));
    print_document(Stream::out, global, document, "methods");
    return 0;
  }
  if (options.name.empty()) {
    print(Stream::out, summary_table(rows).render(global.format));
    return 0;
  }
  // One table is all that CSV can hold: the options, since they are what a script would want.
  if (global.format != "csv") print(Stream::out, facts_table(*rows.front()).render(global.format) + "\n");
  print(Stream::out, options_table(*rows.front()).render(global.format));
  return 0;
}

}  // namespace

void add_methods(CLI::App& app, const GlobalOptions& global, std::function<int()>& run) {
  auto options = std::make_shared<MethodsOptions>();
  CLI::App* command = app.add_subcommand("methods", "The methods, what each is, and its options");
  command->fallthrough();
  command->add_option("NAME", options->name, "Show everything about this method (default: one line for each)")
      ->type_name("");
  command->callback(
      [options, &global, &run] { run = [options, &global] { return run_methods(*options, global); }; });
}

}  // namespace jsq::tools

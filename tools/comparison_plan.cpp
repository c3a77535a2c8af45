// The options' texts as methods, targets and conditions.
#include "comparison_plan.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace jsq::tools {
namespace {

constexpr double paper_ratios[] = {20, 32, 100, 1000};

std::vector<MethodSpec> parse_methods(const std::vector<std::string>& texts) {
  std::vector<MethodSpec> specs;
  const auto add = [&](MethodSpec spec) {
    const auto same = [&](const MethodSpec& other) { return to_string(other) == to_string(spec); };
    if (std::none_of(specs.begin(), specs.end(), same)) specs.push_back(std::move(spec));
  };
  for (const std::string& text : texts) {
    if (text != "all") {
      add(parse_method(text));
      continue;
    }
    for (const MethodInfo* info : methods()) add(parse_method(info->name));
  }
  return specs;
}

std::vector<ComparedTarget> parse_targets(const CompareOptions& options) {
  std::vector<ComparedTarget> targets;
  const auto add = [&](const ComparedTarget& target) {
    const auto same = [&](const ComparedTarget& other) { return to_string(other) == to_string(target); };
    if (std::none_of(targets.begin(), targets.end(), same)) targets.push_back(target);
  };
  const RatioKind kind = options.ratio_kind == "payload" ? RatioKind::payload : RatioKind::file;
  for (const std::string& text : options.targets) {
    const Target target = parse_target(text);
    add({target, target.is_size() ? kind : RatioKind::file});
  }
  for (const std::string& preset : options.presets)
    for (double ratio : paper_ratios)
      if (preset == "papers" || preset == fmt::format("paper-{}", ratio))
        add({{TargetKind::ratio, ratio}, RatioKind::payload});
  return targets;
}

}  // namespace

std::vector<std::string> preset_names() {
  std::vector<std::string> names = {"papers"};
  for (double ratio : paper_ratios) names.push_back(fmt::format("paper-{}", ratio));
  return names;
}

Plan make_plan(const CompareOptions& options) {
  Plan plan;
  plan.methods = parse_methods(options.methods);
  plan.targets = parse_targets(options);
  Vocabulary vocabulary;
  for (const MethodSpec& method : plan.methods)
    vocabulary.methods.push_back({to_string(method), method.name});
  for (const QuantityInfo& info : quantity_infos) vocabulary.measures.emplace_back(info.key);
  for (const std::string& text : options.conditions)
    plan.conditions.push_back(Condition::parse(text, vocabulary));
  return plan;
}

bool names_bound(const Plan& plan) {
  for (const Condition& condition : plan.conditions)
    for (const Condition::Name& name : condition.names())
      if (Quantity(name.measure) == Quantity::bound_db || Quantity(name.measure) == Quantity::bound_factor)
        return true;
  return false;
}

std::string target_text(const Plan& plan, size_t column) {
  return plan.targets.empty() ? "the default targets" : to_string(plan.targets[column]);
}

}  // namespace jsq::tools

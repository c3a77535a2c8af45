// What a comparison is asked for: its options, and the methods, targets and conditions that they name.
#pragma once

#include <string>
#include <vector>

#include "comparison.hpp"
#include "condition.hpp"
#include "jsq/method.hpp"

namespace jsq::tools {

struct CompareOptions {
  std::vector<std::string> inputs;
  std::vector<std::string> methods = {
      "jointsq", "jointsq:quant=mid",  "jointsq:quant=sym", "jointsq:alloc=literal",
      "rdoq",    "rdoq:transform=none"};
  std::vector<std::string> targets;  ///< empty: each method's own
  std::vector<std::string> presets;
  std::string ratio_kind = "file";
  bool per_tensor = false, bound = false, pareto = false, force = false;
  std::string sort;
  unsigned repeat = 1;
  std::vector<std::string> conditions;
  std::string plot, html, resume;
};

/// Of --preset.
std::vector<std::string> preset_names();

/// Everything that is known before the first input is read.
struct Plan {
  std::vector<MethodSpec> methods;
  std::vector<ComparedTarget> targets;  ///< empty: each method's own
  std::vector<Condition> conditions;

  size_t columns() const { return std::max<size_t>(1, targets.size()); }
  ComparedTarget target(size_t method, size_t column) const {
    return targets.empty() ? ComparedTarget{default_target(methods[method])} : targets[column];
  }
};

/// \throws Error usage, unknown_name: what of the options cannot be understood.
Plan make_plan(const CompareOptions& options);

/// Whether a condition is about the distance to the rate-distortion bound.
bool names_bound(const Plan& plan);

/// "the default targets", or the target of the column.
std::string target_text(const Plan& plan, size_t column);

}  // namespace jsq::tools

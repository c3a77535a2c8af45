// Conditions of --fail-if on what was measured: which hold where, and how that is said.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "command.hpp"
#include "comparison_plan.hpp"
#include "report.hpp"

namespace jsq::tools {

/// A condition at one target of one input.
struct Verdict {
  std::string condition, input, target;
  std::optional<bool> holds;  ///< nothing where figures are missing
  std::vector<std::pair<std::string, double>> values;
  std::vector<std::string> missing;  ///< why
};

/// Outcomes of an input by method, then target, as the plan numbers them.
using Grid = std::vector<std::vector<std::optional<Outcome>>>;

Verdict judge(const Plan& plan, const Condition& condition, const Grid& grid, const std::string& input,
              size_t column);

Json verdicts_json(const std::vector<Verdict>& verdicts);
Table verdict_table(const std::vector<Verdict>& verdicts);

/// Says which conditions hold, or cannot be judged: what cannot be shown to be in order is not. Returns
/// whether any did.
bool report_verdicts(const GlobalOptions& global, const std::vector<Verdict>& verdicts);

}  // namespace jsq::tools

// A comparison as a picture of error against size, and as a page of tables and pictures.
#pragma once

#include <string>
#include <vector>

#include "command.hpp"
#include "comparison.hpp"
#include "comparison_verdicts.hpp"
#include "journal.hpp"
#include "page.hpp"
#include "plot.hpp"

namespace jsq::tools {

/// Error against bytes: a line for each method through its targets, and the bound where it is known.
Chart error_chart(const std::string& input, const std::vector<Outcome>& outcomes,
                  const ComparisonBound* bound);

/// Inputs with their tables and pictures, then the conditions.  \param charts one for each input.
Page comparison_page(const GlobalOptions& global, const RunIdentity& identity,
                     const std::vector<Outcome>& outcomes, const std::vector<Chart>& charts,
                     const std::vector<Verdict>& verdicts, bool per_tensor);

}  // namespace jsq::tools

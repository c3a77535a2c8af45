// Outcomes of a comparison as rows: of a table that people and programs read, and as JSON objects that can be
// read back, for a run that goes on where an earlier one ended.
#pragma once

#include <string>
#include <vector>

#include "comparison.hpp"
#include "report.hpp"

namespace jsq::tools {

/// Which columns a table has beside the method, the target and the quantities.
struct RowForm {
  bool full = true;      ///< everything that a program needs to tell rows apart; otherwise what the rest says
  bool inputs = true;    ///< several inputs
  bool tensors = false;  ///< rows for each tensor
  bool bound = false;    ///< the distance to the bound
  size_t input_width = 0, tensor_width = 0, method_width = 0,
         target_width = 0;  ///< of the longest texts to come
};

/// A table without rows.
Table comparison_table(const RowForm& form);
/// Appends an outcome: with `form.tensors` a row for each tensor, then the row of the whole dump.
void add_outcome(Table& table, const Outcome& outcome, const RowForm& form);

/// The rows of an outcome as objects, those of its tensors first when asked for.
std::vector<Json> outcome_rows(const Outcome& outcome, bool tensors);
/// The reverse. \param rows of one outcome, ending with that of the whole dump. \throws Error damaged when a
/// key is missing or of another type.
Outcome outcome_of_rows(const std::vector<Json>& rows);

}  // namespace jsq::tools

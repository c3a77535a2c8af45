// The rows of a comparison on standard output: each as it comes, or all in their last order.
#pragma once

#include <string>
#include <vector>

#include "command.hpp"
#include "comparison_rows.hpp"
#include "journal.hpp"

namespace jsq::tools {

/// Of every report of jsq compare.
constexpr const char* comparison_schema = "jsq.compare/1";

/// Prints rows as they come, unless they must be ordered or make one JSON document. In text rows of several
/// inputs that come in their order stand under a line with the input's name.
class RowPrinter {
 public:
  RowPrinter(const GlobalOptions& global, RowForm form, bool at_once);

  void start(const RunIdentity& identity);
  void add(const Outcome& outcome);
  /// All rows in their last order.
  void finish(const std::vector<Outcome>& outcomes);

 private:
  void print_legend(const std::vector<Outcome>& outcomes) const;
  void show(const Outcome& outcome);

  const GlobalOptions& global_;
  RowForm form_;
  bool at_once_;
  bool name_inputs_;
  bool headed_ = false;
  std::string input_;  ///< of the row before
};

/// All rows as one JSON array.
Json document_rows(const std::vector<Outcome>& outcomes, bool tensors);

}  // namespace jsq::tools

// The journal of a long comparison: JSON lines with the cells that are done, so that a run that was
// interrupted goes on where it ended. It is what `--format jsonl` prints.
#pragma once

#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "atomic_output.hpp"
#include "comparison.hpp"
#include "report.hpp"

namespace jsq::tools {

/// What must be equal for a cell of another run to be this one's.
struct RunIdentity {
  uint64_t seed = 0;
  unsigned repeat = 1;
  struct Input {
    std::string name, format, hash;  ///< hash "" for standard input, which cannot be read again
    size_t tensors = 0;
    uint64_t bytes = 0;
  };
  std::vector<Input> inputs;
};

/// The first line of a run: {"schema", "record": "run", ...}.
Json run_line(const RunIdentity& identity);
/// The inputs as every form of the report has them.
Json inputs_json(const RunIdentity& identity);

class Journal {
 public:
  /// Reads what is there, if anything, and opens the file for appending. Lines that are not a run's are
  /// passed over: the last one may be cut. `tensors`: cells are of use only with their tensors. \throws Error
  /// read_failed, write_failed.
  Journal(std::string path, const RunIdentity& identity, bool tensors);

  /// The finished cell, or nullptr.
  const Outcome* find(const std::string& input, const std::string& method,
                      const ComparedTarget& target) const;
  size_t cells() const noexcept { return done_.size(); }
  /// Cells in the file that are of other inputs, another seed, number of repetitions or version of jsq.
  size_t foreign_cells() const noexcept { return foreign_; }
  /// Adds a cell at once. Does nothing where standard output is the same file.
  void append(const Outcome& outcome);

 private:
  using Key = std::tuple<std::string, std::string, std::string>;
  static Key key_of(const std::string& input, const std::string& method, const ComparedTarget& target);
  void read(const std::string& text, const RunIdentity& identity, bool tensors);
  void write(const std::string& lines);

  std::string path_;
  std::string head_;  ///< of this run, until it is written
  Descriptor file_;
  bool writes_ = true;
  std::map<Key, Outcome> done_;
  size_t foreign_ = 0;
};

}  // namespace jsq::tools

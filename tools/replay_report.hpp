// How runs of `jsq replay` are shown: a table of steps or of runs, one JSON document, and pictures.
#pragma once

#include <vector>

#include "plot.hpp"
#include "replay_run.hpp"
#include "report.hpp"

namespace jsq::tools {

/// What all runs have in common.
struct ReplayInput {
  std::vector<std::string> names;                                  ///< as they were given
  uint64_t steps = 0, workers = 0, elements = 0, input_bytes = 0;  ///< bytes of one worker's step
  uint64_t seed = 0;
};

/// Rows of the runs: every step when `each_step`, then the whole.
Table replay_table(const std::vector<const ReplayRun*>& runs, const ReplayInput& input, bool each_step,
                   bool name_runs);
/// jsq.replay/1.
Json replay_document(const std::vector<const ReplayRun*>& runs, const ReplayInput& input);
/// NMSE, error of the running sum, and bytes against the step, a line for each run.
std::vector<Chart> replay_charts(const std::vector<const ReplayRun*>& runs, const ReplayInput& input);

}  // namespace jsq::tools

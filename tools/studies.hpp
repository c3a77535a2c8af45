// The commands that study training: sequences of steps, means of workers, time of a step. Each lives in the
// file of its name; how they are added is command.hpp's.
#pragma once

#include "command.hpp"

namespace jsq::tools {

void add_replay(CLI::App& app, const GlobalOptions& global, std::function<int()>& run);
void add_aggregate(CLI::App& app, const GlobalOptions& global, std::function<int()>& run);
void add_simulate(CLI::App& app, const GlobalOptions& global, std::function<int()>& run);

}  // namespace jsq::tools

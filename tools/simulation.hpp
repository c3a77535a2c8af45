// A simulation as `jsq simulate` tells it: methods at numbers of workers, their step times and what follows
// from them. The model is in network_model.*.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "network_model.hpp"
#include "plot.hpp"
#include "report.hpp"

namespace jsq::tools {

/// A method with so many workers.
struct SimulatedPoint {
  uint64_t workers = 0;
  Codec codec;
  StepTime time;
  double speedup = 0;                ///< step time of fp32 allreduce over this one
  std::optional<double> break_even;  ///< bytes a second; infinity: at any bandwidth
  std::string problem;               ///< why there are no figures; "" where there are
};

struct SimulatedMethod {
  std::string method, target;  ///< target "" where messages are added
  std::vector<SimulatedPoint> points;
  std::optional<uint64_t> stops_paying;  ///< of methods whose frames are gathered: the fewest workers
  bool gathers = false;
};

struct Simulation {
  std::vector<std::string> inputs;
  Network network;
  TrainingStep step;
  double dump_bytes = 0;
  bool measured_codec = true;
  unsigned threads = 1;
  uint64_t most_workers = 65536;         ///< that stops_paying looks at
  std::vector<SimulatedPoint> baseline;  ///< fp32 allreduce
  std::vector<SimulatedMethod> methods;
};

/// A line for each method with its speed-up at each number of workers.
Table speedup_table(const Simulation& simulation);
/// A row for each method and number of workers.
Table point_table(const Simulation& simulation);
/// jsq.simulate/1.
Json simulation_document(const Simulation& simulation);
/// Speed-up and break-even bandwidth against the number of workers.
std::vector<Chart> simulation_charts(const Simulation& simulation);
/// "10 Gbit/s".
std::string bandwidth_text(double bytes_per_second);

}  // namespace jsq::tools

// One aggregation: the workers of a step, all in this process or one in each process of mpirun, and the mean
// that a method's collective makes of their gradients.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "jsq/aggregate.hpp"
#include "ranks.hpp"
#include "sequence.hpp"

namespace jsq::tools {

struct Aggregation {
  AggregateOptions options;
  AggregateReport report;
  std::vector<float> mean;                 ///< tensor after tensor
  std::optional<double> exchange_seconds;  ///< between processes, all rounds, the median of the repetitions
};

/// All workers in one process.  \throws Error as jsq::aggregate does, naming step, worker and tensor.
Aggregation aggregate_alone(const Sequence& sequence, size_t step, const AggregateOptions& options);

/// Worker r in the process of rank r; all ranks call it together. Only rank 0 gets figures; the others get
/// none of them. Every rank has the same mean, and it is that of aggregate_alone().
/// \pre as many ranks as workers.  \throws Error at rank 0: what went wrong at any rank before the exchange.
std::optional<Aggregation> aggregate_between(Ranks& ranks, const Sequence& sequence, size_t step,
                                             const AggregateOptions& options, unsigned repeat);

}  // namespace jsq::tools

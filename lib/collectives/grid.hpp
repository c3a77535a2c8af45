// Allreduce of levels on one grid: workers agree on scales (the largest of each bucket), round to the grid of
// all of them, and add levels in the code domain. Global-QSGD with both dithers, TernGrad with a shared
// scale.
#pragma once

#include <vector>

#include "lib/collectives/endpoint.hpp"
#include "lib/quantizers/grid.hpp"

namespace jsq {

/// `grid.workers` is the number of workers. `values` are what is coded (TernGrad's are clipped); their
/// largest magnitude in each bucket (0: the tensor) is this worker's scale.
std::unique_ptr<Endpoint> make_grid_endpoint(const Grid& grid, uint64_t bucket, bool nearest,
                                             const EndpointContext& context, std::vector<float> values);

}  // namespace jsq

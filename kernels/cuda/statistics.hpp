// What statistics of a tensor ask of a device, beside the summary. Beside device.hpp, so that only they see
// it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cuda/device.hpp"
#include "kernels/element/axis.hpp"
#include "kernels/element/largest.hpp"
#include "kernels/element/moments.hpp"

namespace jsq::cuda {

struct TensorSums {
  std::vector<element::ChunkSums> sums;  ///< of every chunk of sum_chunk elements
  std::vector<element::ChunkMoments> moments;
  std::vector<std::vector<double>> axes;  ///< sums of magnitudes by index
};
/// Of one tensor of the pool; adds its finite elements to `histogram` (summary_bins counters).  \throws
/// DeviceError.
TensorSums tensor_sums(PoolValues& pool, size_t tensor, std::span<const element::Axis> axes,
                       std::span<uint64_t> histogram);

/// Sums of every chunk of one tensor; counts as cpu::largest_of_chunk.  \throws DeviceError.
std::vector<element::LargestSums> largest_sums(PoolValues& pool, size_t tensor,
                                               const element::LargestCuts& cuts, std::span<uint64_t> counts);

}  // namespace jsq::cuda

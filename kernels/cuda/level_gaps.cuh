// Omega codes of the distances between the levels of a block that are not 0, while it is coded: within runs
// of a warp's neighbours at once, between runs when all are known.
#pragma once

#include "kernels/cuda/warp.cuh"
#include "kernels/element/level_layout.hpp"

namespace jsq::cuda {

constexpr uint32_t run_each = 4;  ///< neighbouring levels of a lane
constexpr uint32_t run_levels = run_each * warp_size;

/// 1 + index of the first and last level of a run that is not 0; 0 for none.
template <uint32_t most_runs>
struct RunEnds {
  uint32_t first[most_runs], last[most_runs];

  /// Of no levels. All threads.
  __device__ void clear() {
    for (uint32_t run = threadIdx.x; run < most_runs; run += blockDim.x) first[run] = last[run] = 0;
  }
  /// Bits of the distances within a run; its ends are noted. `index`: of this lane's first level. A warp.
  __device__ uint32_t add(const int32_t* level, uint32_t index, uint32_t run) {
    uint32_t bits = 0, begin = 0, end = 0;
    for (uint32_t k = 0; k < run_each; ++k) {
      if (level[k] == 0) continue;
      const uint32_t here = index + k + 1;
      if (end != 0) bits += element::omega_code(here - end).length;
      if (begin == 0) begin = here;
      end = here;
    }
    uint32_t reached = end;
    const uint32_t before = largest_before(reached);
    if (begin != 0 && before != 0) bits += element::omega_code(begin - before).length;
    if (begin != 0 && before == 0) first[run] = begin;
    if (lane_of() == warp_size - 1) last[run] = reached;
    return bits;
  }
  /// Bits of the distances between runs. One thread.
  __device__ uint32_t between() const {
    uint32_t bits = 0, end = 0;
    for (uint32_t run = 0; run < most_runs; ++run) {
      if (first[run] == 0) continue;
      bits += element::omega_code(first[run] - end).length;
      end = last[run];
    }
    return bits;
  }
};

}  // namespace jsq::cuda

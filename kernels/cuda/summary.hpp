// Kernels of the passes that only look: sums and histogram of chunks, refinement of the histogram, counts of
// one key. For files of this folder only.
#pragma once

#include "kernels/cuda/memory.hpp"

namespace jsq::cuda {

/// At most sum_chunk values in device memory.
struct ChunkView {
  const float* values = nullptr;
  uint32_t count = 0;
};

/// sums[i] of chunk i; adds finite elements to `histogram` (summary_bins counters). All pointers on the
/// device.
void launch_summary(const ChunkView* chunks, uint32_t count, element::ChunkSums* sums,
                    unsigned long long* histogram, const Stream& stream);
/// Adds to counts[256 r + cell].  `ranges` ascend by `low` and are disjoint.
void launch_refine(const ChunkView* chunks, uint32_t count, const element::KeyRange* ranges,
                   uint32_t range_count, unsigned long long* counts, const Stream& stream);
/// equal[i]: elements of chunk i with this key.
void launch_count_key(const ChunkView* chunks, uint32_t count, uint32_t key, uint32_t* equal,
                      const Stream& stream);
/// squares[i]: sum of (g - centres[i])^2 over chunk i.
void launch_squares_about(const ChunkView* chunks, uint32_t count, const double* centres, double* squares,
                          const Stream& stream);
/// keys[first[i] + k]: the key of value k of chunk i.
void launch_keys(const ChunkView* chunks, uint32_t count, const uint64_t* first, uint32_t* keys,
                 const Stream& stream);

}  // namespace jsq::cuda

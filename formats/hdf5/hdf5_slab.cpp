// Cutting a C-ordered array into slabs; see hdf5_slab.hpp.
#include "formats/hdf5/hdf5_slab.hpp"

#include <algorithm>

namespace jsq::hdf5 {

namespace {

/// Rows of the split dimension in one slab: a multiple of the chunk's rows, except where one chunk alone is
/// too large.
uint64_t rows_of_slab(uint64_t chunk_rows, uint64_t row_bytes) {
  const uint64_t limit_rows = std::max<uint64_t>(1, slab_limit_bytes / row_bytes);
  if (chunk_rows >= limit_rows) return limit_rows;
  const uint64_t joined = slab_target_bytes / row_bytes / chunk_rows;
  return chunk_rows * std::max<uint64_t>(1, joined);
}

}  // namespace

Slab slab_at(std::span<const uint64_t> shape, std::span<const uint64_t> chunk, size_t element_bytes,
             uint64_t at) {
  const size_t rank = shape.size();
  if (rank == 0) return {0, 1, {}, {}};

  std::vector<uint64_t> inner(rank, 1);  // elements below one index of each dimension
  for (size_t d = rank - 1; d > 0; --d) inner[d - 1] = inner[d] * shape[d];

  size_t split = 0;
  while (split + 1 < rank) {
    const uint64_t rows = std::min(chunk[split], shape[split]);
    if (inner[split] <= slab_limit_bytes / element_bytes / rows) break;
    ++split;
  }

  Slab slab;
  slab.start.resize(rank, 0);
  slab.extent.assign(shape.begin(), shape.end());
  for (size_t d = 0; d <= split; ++d) {
    slab.start[d] = at / inner[d] % shape[d];
    slab.extent[d] = 1;
  }
  const uint64_t chunk_rows = std::min(chunk[split], shape[split]);
  const uint64_t rows = rows_of_slab(chunk_rows, inner[split] * element_bytes);
  slab.start[split] -= slab.start[split] % rows;
  slab.extent[split] = std::min(rows, shape[split] - slab.start[split]);
  for (size_t d = 0; d <= split; ++d) slab.first += slab.start[d] * inner[d];
  slab.count = slab.extent[split] * inner[split];
  return slab;
}

}  // namespace jsq::hdf5

// Slabs: how a flat range of a C-ordered array is covered by hyperslabs that respect chunks.
// A flat range of an n-dimensional dataset is not a hyperslab, but whole rows of a leading dimension are
// both. The array is cut once and for all into such slabs, so that reading or writing it in order touches
// each chunk once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace jsq::hdf5 {

/// One box of the array that is also the flat range [first, first + count) in C order.
struct Slab {
  uint64_t first = 0;
  uint64_t count = 0;
  std::vector<uint64_t> start;   ///< per dimension; empty for a scalar
  std::vector<uint64_t> extent;  ///< per dimension, >= 1
};

constexpr size_t slab_target_bytes = size_t(4) << 20;  ///< small chunk rows are joined up to about this size
constexpr size_t slab_limit_bytes = size_t(32) << 20;  ///< no slab is larger

/// The slab that holds flat element `at`. The cut depends on shape, chunk and element size only.
/// Rows of the first dimension whose chunk row fits slab_limit_bytes are taken whole; only where chunk rows
/// of a leading dimension are too large is that dimension walked index by index (and its chunks, if taller,
/// met again per index). \pre at < product of shape; chunk.size() == shape.size() (all ones where there are
/// no chunks). O(rank).
Slab slab_at(std::span<const uint64_t> shape, std::span<const uint64_t> chunk, size_t element_bytes,
             uint64_t at);

}  // namespace jsq::hdf5

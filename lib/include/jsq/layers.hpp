// The table of layers that stands beside flat gradients in an HDF5 dump.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "jsq/export.hpp"

namespace jsq {

/// A layer of a flat gradient: elements [offset, offset + product of shape).
struct LayerRow {
  std::string name;
  uint64_t offset = 0;
  std::vector<uint64_t> shape;
};

/// Reads a data set of HDF5 compounds with the fields `name` (a string of fixed length), `offset`, `ndim` and
/// `shape` (an array, of which ndim extents count); other fields are passed over. `path` is
/// FILE::/DATASET, or FILE for its data set /layers.  \throws Error not_found, unsupported_format (no such
/// table), unknown_name, damaged, limit.
JSQ_API std::vector<LayerRow> read_layer_table(const std::string& path);

}  // namespace jsq

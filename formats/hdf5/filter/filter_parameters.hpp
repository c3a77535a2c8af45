// The parameters of the HDF5 filter: what a user asks for, and what a data set keeps of it.
//
// A user gives nothing (jointsq), one number (jointsq at that ratio), or METHOD and TARGET of jsq(1) with a
// space between them as text, four bytes in each number, the first in its lowest bits, filled up with zeros.
// A data set keeps numbers that begin with a mark and describe its elements and chunks too, so that a chunk
// can be coded and decoded without looking at the data set:
//
//   mark, dtype + 256 if big-endian, rank, extents of a chunk (low half, high half), text
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "formats/hdf5/hdf5_tensor_type.hpp"

namespace jsq::hdf5 {

/// What is done with a chunk.
struct FilterRequest {
  std::string method = "jointsq";
  std::string target;  ///< "": the method's default
};

/// What a chunk is.
struct FilterChunk {
  TensorType type{DType::f32, false};
  std::vector<uint64_t> shape;

  /// Bytes of a whole chunk; nothing where they are beyond what HDF5 allows, 4 GiB.
  std::optional<uint64_t> bytes() const;
};

struct FilterParameters {
  FilterRequest request;
  std::optional<FilterChunk> chunk;  ///< nothing in what a user gave
};

/// \throws Error usage: neither a user's numbers nor a data set's.
FilterParameters parse_filter_parameters(std::span<const unsigned> numbers);

/// What a data set keeps.
std::vector<unsigned> filter_parameters_of_data_set(const FilterRequest& request, const FilterChunk& chunk);

}  // namespace jsq::hdf5

// What a parameter set of rdoq holds, and how the streams of a pool are decoded with it. SPEC.md, "rdoq", is
// the definition.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/packers/context_stream.hpp"
#include "lib/packers/scale_field.hpp"

namespace jsq {

using Shape = std::vector<uint64_t>;

/// The parts of one tensor, in storage order, each with a view of its own: the layers of a flat dump, or the
/// tensor itself.
struct TensorParts {
  std::vector<ScaleView> views;
  std::vector<uint64_t> first;  ///< element of the tensor at which each begins
};
/// Views of layers of these shapes (C order).
TensorParts parts_of(std::span<const Shape> layers);
TensorParts parts_of(const TensorInfo& info);

/// A part's elements within a range of the tensor.
struct PartPiece {
  size_t part = 0;
  Piece piece;
};
/// The pieces of elements first .. first + count - 1, in order.
std::vector<PartPiece> pieces_of(const TensorParts& parts, uint64_t first, uint64_t count);

/// By (tensor number, part): column scales of parts that no stream holds whole.
using ColumnScales = std::map<std::pair<uint32_t, uint32_t>, std::vector<int16_t>>;

struct RdoqParameters {
  ContextCoder coder;                             ///< its model is the tables
  std::map<uint32_t, std::vector<Shape>> layers;  ///< by tensor number: shapes within a flat tensor
  ColumnScales columns;
  uint64_t packed_elements = 0;  ///< tensors of at most so many elements are in the pack; 0: there is none
  std::string pack;              ///< one context stream

  TensorParts parts(uint32_t tensor, const TensorInfo& info) const;
};

std::string write_rdoq_parameters(const RdoqParameters& parameters);
/// Ready for decoding.  \throws Error damaged.
RdoqParameters read_rdoq_parameters(std::string_view bytes, std::string_view what);

/// A piece with the scales that it is coded with; scales are what the stream stores.
struct ScaledPiece {
  size_t part = 0;
  Piece piece;
  ScaleLayout layout = one_scale;
  std::vector<int16_t> rows, columns;
};

/// Layout, columns (of a whole part), and rows as side symbols.
void write_scales(const ScaledPiece& scaled, ScaleCodec& codec, SideWriter& out);

/// Elements of one tensor.
struct TensorRange {
  uint32_t tensor = 0;
  const TensorInfo* info = nullptr;
  uint64_t first = 0, count = 0;
};
/// Decodes one stream: the ranges' elements one after the other.  \throws Error damaged.
void decode_rdoq_stream(const RdoqParameters& parameters, std::span<const TensorRange> ranges,
                        std::string_view stream, std::span<float> values, std::string_view what);

}  // namespace jsq

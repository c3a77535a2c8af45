// What a parameter set of rdoq holds, and how the streams of a pool are decoded with it. SPEC.md, "rdoq", is
// the definition.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/methods/rdoq_transforms.hpp"
#include "lib/packers/context_stream.hpp"
#include "lib/packers/scale_field.hpp"

namespace jsq {

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
  uint64_t table_bytes = 0;  ///< that tables and points took, once they were read
  ContextCoder coder;        ///< its model is the tables; values in 1/256 step with transforms
  Reconstruction values;     ///< in the unit of the gradient
  std::map<uint32_t, std::vector<Shape>> layers;  ///< by tensor number: shapes within a flat tensor
  ColumnScales columns;
  std::map<PartPlace, double> column_bits;  ///< that these took, once they were read
  uint64_t packed_elements = 0;  ///< tensors of at most so many elements are in the pack; 0: there is none
  std::string pack;              ///< one context stream
  bool has_transforms = false;
  uint32_t first_transformed = 0;  ///< number of the first tensor that may have transforms
  std::string transform_stream;
  Transforms transforms;  ///< of its tensors, once they were bound

  /// Where the tensor's parts may have transforms.
  std::vector<TransformSite> sites(uint32_t tensor, const TensorInfo& info) const;
  TensorParts parts(uint32_t tensor, const TensorInfo& info) const;
};

std::string write_rdoq_parameters(const RdoqParameters& parameters);
/// Ready for decoding.  \throws Error damaged.
RdoqParameters read_rdoq_parameters(std::string_view bytes, std::string_view what);

/// Turns what a coder in units decodes (1/256 steps) into values, transforms undone.
void finish_range(const TensorParts& parts, const Transforms& transforms,
                  const Reconstruction& reconstruction, uint32_t tensor, uint64_t first,
                  std::span<float> values);

/// A piece with the scales that it is coded with; scales are what the stream stores.
struct ScaledPiece {
  size_t part = 0;
  Piece piece;
  ScaleLayout layout = one_scale;
  std::vector<int16_t> rows, columns;
  std::span<const int16_t> frequencies;  ///< of its part's transform
};

/// Layout, columns (of a whole part), and rows as side symbols.
void write_scales(const ScaledPiece& scaled, ScaleCodec& codec, SideWriter& out);

/// Elements of one tensor.
struct TensorRange {
  uint32_t tensor = 0;
  const TensorInfo* info = nullptr;
  uint64_t first = 0, count = 0;
};
/// The parts of the range's tensor.  \throws Error damaged where they have another number of elements than
/// it.
TensorParts checked_parts(const RdoqParameters& parameters, const TensorRange& range, std::string_view what);

/// A piece with the scales that its stream stores, which are valid until the next one is read.
struct StoredPiece {
  size_t part = 0;
  Piece piece;
  ScaleLayout layout = one_scale;
  std::span<const int16_t> rows, columns, frequencies;  ///< as fill_classes has them
};
/// Reads the side symbols of a range's pieces: calls visit for each, in order.  \throws Error damaged.
void read_pieces(const RdoqParameters& parameters, const TensorRange& range, ContextReader& in,
                 ScaleCodec& codec, std::string_view what,
                 const std::function<void(const StoredPiece&)>& visit);

/// Ideal code lengths of a part's elements in one stream.
struct PieceBits {
  PartPlace place;
  double scales = 0, elements = 0;
};
/// Decodes one stream: the ranges' elements one after the other. `bits`, where given, receives what its
/// pieces took.  \throws Error damaged.
void decode_rdoq_stream(const RdoqParameters& parameters, std::span<const TensorRange> ranges,
                        std::string_view stream, std::span<float> values, std::string_view what,
                        std::vector<PieceBits>* bits = nullptr);

}  // namespace jsq

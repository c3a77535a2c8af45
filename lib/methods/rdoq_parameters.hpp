// What a parameter set of rdoq holds, and how pieces of tensors are decoded with it. SPEC.md, "rdoq", is the definition.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lib/packers/context_stream.hpp"
#include "lib/packers/scale_field.hpp"

namespace jsq {

/// Column scales by tensor number; of tensors that need none there is no entry.
using ColumnScales = std::map<uint32_t, std::vector<int16_t>>;

struct RdoqParameters {
  ContextCoder coder;  ///< its model is the tables
  ColumnScales columns;
  uint64_t packed_elements = 0;  ///< tensors of at most so many elements are in the pack; 0: there is none
  std::string pack;              ///< one context stream
};

std::string write_rdoq_parameters(const RdoqParameters& parameters);
/// Ready for decoding.  \throws Error damaged.
RdoqParameters read_rdoq_parameters(std::string_view bytes, std::string_view what);

/// A piece with the scales that it is coded with; scales are what the stream stores.
struct ScaledPiece {
  Piece piece;
  ScaleLayout layout = one_scale;
  std::vector<int16_t> rows, columns;
};

/// Layout, (with `own_columns`) columns, and rows as side symbols.
void write_scales(const ScaledPiece& scaled, bool own_columns, ScaleCodec& codec, SideWriter& out);

/// Decodes a block: one piece, whose columns stand in the parameter set.
void decode_rdoq_block(const RdoqParameters& parameters, uint32_t tensor, const Piece& piece, std::string_view block,
                       std::span<float> values, std::string_view what);
/// Decodes the pack: whole tensors, one after the other, into one span.
void decode_rdoq_pack(const RdoqParameters& parameters, std::span<const ScaleView> tensors, std::span<float> values,
                      std::string_view what);

}  // namespace jsq

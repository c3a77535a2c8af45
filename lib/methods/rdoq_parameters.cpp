#include "lib/methods/rdoq_parameters.hpp"

#include <algorithm>

#include "jsq/error.hpp"
#include "lib/core/bytes.hpp"
#include "lib/methods/rdoq_training.hpp"

namespace jsq {
namespace {

constexpr uint8_t has_columns = 1, has_pack = 2;

std::string write_columns(const RdoqParameters& parameters) {
  ByteWriter out;
  out.uvarint(parameters.columns.size());
  SideWriter side;
  ScaleCodec codec;
  uint32_t before = 0;
  for (const auto& [tensor, scales] : parameters.columns) {
    out.uvarint(tensor - before);
    out.uvarint(scales.size());
    codec.write(side, scales, true);
    before = tensor;
  }
  std::string stream;
  parameters.coder.encode(side.symbols(), {}, {}, stream);
  out.string(stream);
  return out.take();
}

void read_columns(ByteReader& in, RdoqParameters& parameters, std::string_view what) {
  const uint64_t tensors = in.uvarint(in.remaining());
  std::vector<std::pair<uint32_t, uint64_t>> sizes;
  uint64_t tensor = 0, total = 0;
  for (uint64_t i = 0; i < tensors; ++i) {
    const uint64_t distance = in.uvarint(UINT32_MAX);
    tensor += distance;
    if (tensor > UINT32_MAX || (i > 0 && distance == 0)) in.damaged("column scales of tensors that do not ascend");
    sizes.emplace_back(uint32_t(tensor), in.uvarint(uint64_t(1) << 40));
    total += sizes.back().second;
  }
  const std::string_view stream = in.string(in.remaining());
  // No scale takes less than 1/256 bit.
  if (total / 2048 > stream.size()) in.damaged("more column scales than their stream can hold");
  ContextReader reader(parameters.coder, stream, what);
  ScaleCodec codec;
  for (const auto& [number, count] : sizes) {
    auto& scales = parameters.columns[number];
    scales.resize(size_t(count));
    codec.read(reader, scales, true);
  }
  reader.elements({}, {});
}

}  // namespace

std::string write_rdoq_parameters(const RdoqParameters& parameters) {
  ByteWriter out;
  out.u8(uint8_t((parameters.columns.empty() ? 0 : has_columns) | (parameters.packed_elements ? has_pack : 0)));
  out.u16(parameters.coder.values().mantissa);
  out.u16(uint16_t(parameters.coder.values().exponent));
  std::string tables;
  cpu::BitWriter bits(tables);
  parameters.coder.model().write(bits);
  write_offsets(bits, parameters.coder.values(), parameters.coder.model());
  bits.align();
  out.raw(tables);
  if (!parameters.columns.empty()) out.raw(write_columns(parameters));
  if (parameters.packed_elements) {
    out.uvarint(parameters.packed_elements);
    out.raw(parameters.pack);
  }
  return out.take();
}

RdoqParameters read_rdoq_parameters(std::string_view bytes, std::string_view what) {
  RdoqParameters parameters;
  ByteReader in(bytes, what);
  const uint8_t flags = in.u8();
  if (flags > (has_columns | has_pack)) in.damaged("unknown flags " + std::to_string(flags));
  Reconstruction values;
  values.mantissa = in.u16();
  values.exponent = int16_t(in.u16());
  if (values.mantissa < 0x8000 || values.exponent < -160 || values.exponent > 128) in.damaged("an impossible step");
  ContextModel model;
  cpu::BitReader bits(bytes.substr(in.position()));
  if (!model.read(bits) || !read_offsets(bits, values, model) || !bits.align() || bits.overrun() ||
      bits.consumed() > in.remaining())
    in.damaged("impossible context tables");
  in.raw(bits.consumed());
  parameters.coder = ContextCoder(std::move(model), std::move(values));
  parameters.coder.prepare_decoding();
  if (flags & has_columns) read_columns(in, parameters, what);
  if (flags & has_pack) {
    parameters.packed_elements = in.uvarint(uint64_t(1) << 20);
    if (parameters.packed_elements == 0) in.damaged("a pack of tensors without elements");
    parameters.pack = std::string(in.raw(in.remaining()));
  }
  in.expect_end();
  return parameters;
}

void write_scales(const ScaledPiece& scaled, bool own_columns, ScaleCodec& codec, SideWriter& out) {
  out.nibble(scaled.layout);
  if (own_columns && scaled.layout == row_and_column_scales) codec.write(out, scaled.columns, true);
  codec.write(out, scaled.rows, false);
}

namespace {

void read_scales(ContextReader& in, ScaleCodec& codec, bool own_columns, ScaledPiece& scaled) {
  scaled.layout = ScaleLayout(in.nibble());
  if (own_columns) {
    scaled.columns.resize(scaled.layout == row_and_column_scales ? size_t(scaled.piece.view.columns) : 0);
    codec.read(in, scaled.columns, true);
  }
  scaled.rows.resize(stretches_of(scaled.piece, scaled.layout).number);
  codec.read(in, scaled.rows, false);
}

}  // namespace

void decode_rdoq_block(const RdoqParameters& parameters, uint32_t tensor, const Piece& piece, std::string_view block,
                       std::span<float> values, std::string_view what) {
  ContextReader in(parameters.coder, block, what);
  ScaleCodec codec;
  ScaledPiece scaled{piece, one_scale, {}, {}};
  read_scales(in, codec, false, scaled);
  std::span<const int16_t> columns;
  if (scaled.layout == row_and_column_scales) {
    const auto found = parameters.columns.find(tensor);
    if (found == parameters.columns.end() || found->second.size() != piece.view.columns)
      throw Error(Errc::damaged, std::string(what) + " is damaged: its tensor's column scales are missing");
    columns = found->second;
  }
  static thread_local std::vector<ContextClass> classes;
  classes.resize(piece.count);
  fill_classes(parameters.coder, piece, scaled.layout, scaled.rows, columns, classes);
  in.elements(classes, values);
}

void decode_rdoq_pack(const RdoqParameters& parameters, std::span<const ScaleView> tensors, std::span<float> values,
                      std::string_view what) {
  ContextReader in(parameters.coder, parameters.pack, what);
  ScaleCodec codec;
  std::vector<ContextClass> classes(values.size());
  size_t at = 0;
  for (const ScaleView& view : tensors) {
    const size_t count = size_t(view.rows * view.row_elements());
    ScaledPiece scaled{{view, 0, count}, one_scale, {}, {}};
    read_scales(in, codec, true, scaled);
    fill_classes(parameters.coder, scaled.piece, scaled.layout, scaled.rows, scaled.columns, std::span(classes).subspan(at, count));
    at += count;
  }
  in.elements(classes, values);
}

}  // namespace jsq

#include "lib/methods/rdoq_parameters.hpp"

#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <numeric>

#include "jsq/error.hpp"
#include "lib/core/bytes.hpp"
#include "lib/methods/rdoq_training.hpp"

namespace jsq {

// --- Parts
// -----------------------------------------------------------------------------------------------------------

TensorParts parts_of(std::span<const Shape> layers) {
  TensorParts parts;
  uint64_t at = 0;
  for (const Shape& shape : layers) {
    parts.views.push_back(scale_view(shape, false));
    parts.first.push_back(at);
    uint64_t elements = 1;
    for (uint64_t extent : shape) elements *= extent;
    at += elements;
  }
  return parts;
}

TensorParts parts_of(const TensorInfo& info) {
  return {{scale_view(info)}, {0}};
}

std::vector<PartPiece> pieces_of(const TensorParts& parts, uint64_t first, uint64_t count) {
  std::vector<PartPiece> pieces;
  if (count == 0) return pieces;
  size_t part =
      size_t(std::upper_bound(parts.first.begin(), parts.first.end(), first) - parts.first.begin()) - 1;
  for (const uint64_t end = first + count; first < end; ++part) {
    const ScaleView& view = parts.views[part];
    const uint64_t begin = first - parts.first[part], elements = view.rows * view.row_elements();
    const uint64_t n = std::min(end - first, elements - begin);
    if (n > 0) pieces.push_back({part, {view, begin, size_t(n)}});
    first += n;
  }
  return pieces;
}

TensorParts RdoqParameters::parts(uint32_t tensor, const TensorInfo& info) const {
  const auto found = layers.find(tensor);
  return found == layers.end() ? parts_of(info) : parts_of(found->second);
}

namespace {

uint64_t elements_of(const Shape& shape) {
  uint64_t elements = 1;
  for (uint64_t extent : shape) elements *= extent;
  return elements;
}

}  // namespace

std::vector<TransformSite> RdoqParameters::sites(uint32_t tensor, const TensorInfo& info) const {
  std::vector<TransformSite> sites;
  const auto add = [&](uint32_t part, std::span<const uint64_t> shape, bool fortran_order) {
    if (std::optional<TransformSite> site = transform_site({tensor, part}, shape, fortran_order))
      sites.push_back(*std::move(site));
  };
  if (tensor < first_transformed) return sites;
  const auto found = layers.find(tensor);
  if (found == layers.end()) {
    add(0, info.shape, info.fortran_order);
    return sites;
  }
  uint64_t elements = 0;
  for (const Shape& shape : found->second) elements += elements_of(shape);
  if (elements == info.elements())
    for (size_t p = 0; p < found->second.size(); ++p) add(uint32_t(p), found->second[p], false);
  return sites;
}

// --- Stored form
// -------------------------------------------------------------------------------------------------------

namespace {

constexpr uint8_t has_layers = 1, has_columns = 2, has_pack = 4, is_exact = 8, has_transforms = 16,
                  is_dependent = 32, is_positive = 64, is_negative = 128;

uint8_t sign_flags(LevelSigns signs) {
  return signs == LevelSigns::positive ? is_positive : signs == LevelSigns::negative ? is_negative : 0;
}

/// Shapes repeat in patterns: a distance of 0 and a new shape, or a distance back and how many to copy from
/// there.
void write_shapes(ByteWriter& out, std::span<const Shape> shapes) {
  out.uvarint(shapes.size());
  for (size_t i = 0; i < shapes.size();) {
    size_t best = 0, distance = 0;
    for (size_t d = 1; d <= i && d <= 255; ++d) {
      size_t length = 0;
      while (i + length < shapes.size() && shapes[i + length] == shapes[i + length - d]) ++length;
      if (length > best) {
        best = length;
        distance = d;
      }
    }
    out.uvarint(distance);
    if (distance > 0) {
      out.uvarint(best);
      i += best;
      continue;
    }
    out.uvarint(shapes[i].size());
    for (uint64_t extent : shapes[i]) out.uvarint(extent);
    ++i;
  }
}

std::vector<Shape> read_shapes(ByteReader& in) {
  std::vector<Shape> shapes;
  // A copy of many shapes takes few bytes: bounded apart from what is left.
  const uint64_t count = in.uvarint(uint64_t(1) << 20);
  if (count == 0) in.damaged("a tensor of no layers");
  uint64_t total = 0;
  const auto add = [&](Shape shape) {
    total += elements_of(shape);
    if (total > uint64_t(1) << 62) in.damaged("layers of more than 2^62 elements");
    shapes.push_back(std::move(shape));
  };
  while (shapes.size() < count) {
    const uint64_t distance = in.uvarint(shapes.size());
    if (distance > 0) {
      const uint64_t length = in.uvarint(count - shapes.size());
      for (uint64_t i = 0; i < length; ++i) {
        add(Shape(shapes[shapes.size() - size_t(distance)]));
      }
      if (length == 0) in.damaged("a copy of no shape");
      continue;
    }
    Shape shape(size_t(in.uvarint(32)));
    uint64_t elements = 1;
    for (uint64_t& extent : shape) {
      extent = in.uvarint(uint64_t(1) << 40);
      if (extent == 0 || elements > (uint64_t(1) << 62) / extent)
        in.damaged("a layer of an impossible shape");
      elements *= extent;
    }
    add(std::move(shape));
  }
  return shapes;
}

void write_layers(ByteWriter& out, const RdoqParameters& parameters) {
  out.uvarint(parameters.layers.size());
  uint32_t before = 0;
  for (const auto& [tensor, shapes] : parameters.layers) {
    out.uvarint(tensor - before);
    write_shapes(out, shapes);
    before = tensor;
  }
}

void read_layers(ByteReader& in, RdoqParameters& parameters) {
  const uint64_t tensors = in.uvarint(in.remaining());
  uint64_t tensor = 0;
  for (uint64_t i = 0; i < tensors; ++i) {
    const uint64_t distance = in.uvarint(UINT32_MAX);
    tensor += distance;
    if (tensor > UINT32_MAX || (i > 0 && distance == 0)) in.damaged("layers of tensors that do not ascend");
    parameters.layers[uint32_t(tensor)] = read_shapes(in);
  }
}

void write_columns(ByteWriter& out, const RdoqParameters& parameters) {
  out.uvarint(parameters.columns.size());
  SideWriter side;
  ScaleCodec codec;
  uint32_t before = 0;
  for (const auto& [place, scales] : parameters.columns) {
    out.uvarint(place.first - before);
    out.uvarint(place.second);
    out.uvarint(scales.size());
    codec.write(side, scales, true);
    before = place.first;
  }
  std::string stream;
  parameters.coder.encode(side.symbols(), {}, {}, stream);
  out.string(stream);
}

void read_columns(ByteReader& in, RdoqParameters& parameters, std::string_view what) {
  const uint64_t entries = in.uvarint(in.remaining());
  std::vector<std::pair<std::pair<uint32_t, uint32_t>, uint64_t>> sizes;
  uint64_t tensor = 0, total = 0;
  for (uint64_t i = 0; i < entries; ++i) {
    tensor += in.uvarint(UINT32_MAX);
    const auto part = uint32_t(in.uvarint(UINT32_MAX));
    if (tensor > UINT32_MAX || (i > 0 && !(std::pair(uint32_t(tensor), part) > sizes.back().first)))
      in.damaged("column scales that do not ascend");
    sizes.emplace_back(std::pair(uint32_t(tensor), part), in.uvarint(uint64_t(1) << 40));
    total += sizes.back().second;
  }
  const std::string_view stream = in.string(in.remaining());
  // No scale takes less than 1/256 bit.
  if (total / 2048 > stream.size()) in.damaged("more column scales than their stream can hold");
  ContextReader reader(parameters.coder, stream, what);
  ScaleCodec codec;
  for (const auto& [place, count] : sizes) {
    auto& scales = parameters.columns[place];
    scales.resize(size_t(count));
    const double before = reader.bits_read();
    codec.read(reader, scales, true);
    parameters.column_bits[place] = reader.bits_read() - before;
  }
  reader.elements({}, {});
}

}  // namespace

std::string write_rdoq_parameters(const RdoqParameters& parameters) {
  ByteWriter out;
  out.u8(uint8_t((parameters.layers.empty() ? 0 : has_layers) |
                 (parameters.columns.empty() ? 0 : has_columns) |
                 (parameters.packed_elements ? has_pack : 0) | (parameters.values.exact ? is_exact : 0) |
                 (parameters.has_transforms ? has_transforms : 0) |
                 (parameters.coder.model().dependent() ? is_dependent : 0) |
                 sign_flags(parameters.coder.model().signs)));
  out.u16(parameters.values.mantissa);
  out.u16(uint16_t(parameters.values.exponent));
  if (parameters.values.exact) {
    out.u32(parameters.values.base);
    out.u8(parameters.values.shift);
  }
  std::string tables;
  cpu::BitWriter bits(tables);
  parameters.coder.model().write(bits);
  write_offsets(bits, parameters.values, parameters.coder.model());
  bits.align();
  out.raw(tables);
  if (!parameters.layers.empty()) write_layers(out, parameters);
  if (!parameters.columns.empty()) write_columns(out, parameters);
  if (parameters.has_transforms) {
    out.uvarint(parameters.first_transformed);
    out.string(parameters.transform_stream);
  }
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
  if ((flags & is_exact && flags & (has_transforms | is_dependent)) ||
      (flags & is_positive && flags & is_negative))
    in.damaged("impossible flags " + std::to_string(flags));
  Reconstruction values;
  values.mantissa = in.u16();
  values.exponent = int16_t(in.u16());
  if (values.mantissa < 0x8000 || values.exponent < -160 || values.exponent > 128)
    in.damaged("an impossible step");
  if (flags & is_exact) {
    values.exact = true;
    values.base = in.u32();
    values.shift = in.u8();
    if (values.shift > 31 || uint64_t(values.base) << values.shift > 0x7f7fffff)
      in.damaged("impossible exact levels");
  }
  ContextModel model;
  cpu::BitReader bits(bytes.substr(in.position()));
  if (!model.read(bits, flags & is_dependent) || model.dependent() != bool(flags & is_dependent) ||
      !read_offsets(bits, values, model) || !bits.align() || bits.overrun() ||
      bits.consumed() > in.remaining())
    in.damaged("impossible context tables");
  model.signs = flags & is_positive   ? LevelSigns::positive
                : flags & is_negative ? LevelSigns::negative
                                      : LevelSigns::both;
  parameters.table_bytes = bits.consumed();
  in.raw(parameters.table_bytes);
  parameters.values = values;
  parameters.has_transforms = flags & has_transforms;
  parameters.coder =
      ContextCoder(std::move(model), parameters.has_transforms ? in_units(values) : std::move(values));
  parameters.coder.prepare_decoding();
  if (flags & has_layers) read_layers(in, parameters);
  if (flags & has_columns) read_columns(in, parameters, what);
  if (parameters.has_transforms) {
    parameters.first_transformed = uint32_t(in.uvarint(UINT32_MAX));
    parameters.transform_stream = std::string(in.string(in.remaining()));
  }
  if (flags & has_pack) {
    parameters.packed_elements = in.uvarint(uint64_t(1) << 20);
    if (parameters.packed_elements == 0) in.damaged("a pack of tensors without elements");
    parameters.pack = std::string(in.raw(in.remaining()));
  }
  in.expect_end();
  return parameters;
}

// --- Streams
// -----------------------------------------------------------------------------------------------------------

void write_scales(const ScaledPiece& scaled, ScaleCodec& codec, SideWriter& out) {
  codec.write_layout(out, scaled.layout);
  if (scaled.layout == row_and_column_scales && scaled.piece.whole()) codec.write(out, scaled.columns, true);
  codec.write(out, scaled.rows, false);
}

TensorParts checked_parts(const RdoqParameters& parameters, const TensorRange& range, std::string_view what) {
  TensorParts parts = parameters.parts(range.tensor, *range.info);
  const ScaleView& last = parts.views.back();
  if (parts.first.back() + last.rows * last.row_elements() != range.info->elements())
    throw Error(Errc::damaged,
                std::string(what) + " is damaged: its tensor's layers have another number of elements");
  return parts;
}

void read_pieces(const RdoqParameters& parameters, const TensorRange& range, ContextReader& in,
                 ScaleCodec& codec, std::string_view what,
                 const std::function<void(const StoredPiece&)>& visit) {
  static thread_local std::vector<int16_t> rows_of_thread, columns_of_thread;
  std::vector<int16_t>&rows = rows_of_thread, &own_columns = columns_of_thread;
  const TensorParts parts = checked_parts(parameters, range, what);
  for (const PartPiece& place : pieces_of(parts, range.first, range.count)) {
    StoredPiece stored{place.part, place.piece, codec.read_layout(in), {}, {}, {}};
    if (stored.layout == row_and_column_scales && place.piece.whole()) {
      own_columns.resize(size_t(place.piece.view.columns));
      codec.read(in, own_columns, true);
      stored.columns = own_columns;
    } else if (stored.layout == row_and_column_scales) {
      const auto found = parameters.columns.find({range.tensor, uint32_t(place.part)});
      if (found == parameters.columns.end() || found->second.size() != place.piece.view.columns)
        throw Error(Errc::damaged, std::string(what) + " is damaged: its tensor's column scales are missing");
      stored.columns = found->second;
    }
    rows.resize(stretches_of(place.piece, stored.layout).number);
    codec.read(in, rows, false);
    stored.rows = rows;
    if (const PartTransform* transform = parameters.transforms.find(range.tensor, place.part))
      stored.frequencies = transform->frequencies();
    visit(stored);
  }
}

void decode_rdoq_stream(const RdoqParameters& parameters, std::span<const TensorRange> ranges,
                        std::string_view stream, std::span<float> values, std::string_view what,
                        std::vector<PieceBits>* bits) {
  ContextReader in(parameters.coder, stream, what);
  ScaleCodec codec;
  static thread_local std::vector<ContextClass> classes_of_thread;
  std::vector<ContextClass>& classes = classes_of_thread;
  classes.resize(values.size());
  size_t at = 0;
  std::vector<uint32_t> begins;
  for (const TensorRange& range : ranges) {
    begins.push_back(uint32_t(at));
    double side_before = bits ? in.bits_read() : 0;
    read_pieces(parameters, range, in, codec, what, [&](const StoredPiece& stored) {
      const size_t count = stored.piece.count;
      if (bits) {
        const double side = in.bits_read();
        bits->push_back({{range.tensor, uint32_t(stored.part)}, side - side_before, double(count)});
        side_before = side;
      }
      fill_classes(parameters.coder, stored.piece, stored.layout, stored.rows, stored.columns,
                   stored.frequencies, std::span(classes).subspan(at, count));
      at += count;
    });
  }
  std::vector<float> code_lengths(bits ? values.size() : 0);
  in.elements(classes, values, begins, code_lengths);
  if (bits) {
    auto length = code_lengths.begin();
    for (PieceBits& piece : *bits) {  // which have their numbers of elements so far
      const auto end = length + std::ptrdiff_t(piece.elements);
      piece.elements = std::accumulate(length, end, 0.0);
      length = end;
    }
  }
  if (!parameters.has_transforms) return;
  // On its own: a thread that waits takes up no other stream, whose buffers are the thread's.
  tbb::this_task_arena::isolate([&] {
    tbb::parallel_for(size_t(0), ranges.size(), [&](size_t r) {
      const TensorRange& range = ranges[r];
      finish_range(parameters.parts(range.tensor, *range.info), parameters.transforms, parameters.values,
                   range.tensor, range.first, values.subspan(begins[r], size_t(range.count)));
    });
  });
}

void finish_range(const TensorParts& parts, const Transforms& transforms,
                  const Reconstruction& reconstruction, uint32_t tensor, uint64_t first,
                  std::span<float> values) {
  size_t at = 0;
  for (const PartPiece& place : pieces_of(parts, first, values.size())) {
    const std::span<float> own = values.subspan(at, place.piece.count);
    at += own.size();
    if (const PartTransform* transform = transforms.find(tensor, place.part))
      transform->invert(place.piece, reconstruction, own);
    else
      finish_units(reconstruction, own);
  }
}

}  // namespace jsq

#include "lib/packers/scale_field.hpp"

#include <algorithm>
#include <cstring>

#include "lib/packers/entropy_model.hpp"

namespace jsq {

ScaleView scale_view(const TensorInfo& info) {
  return scale_view(info.shape, info.fortran_order);
}

ScaleView scale_view(std::span<const uint64_t> shape, bool fortran_order) {
  std::vector<uint64_t> extents(shape.begin(), shape.end());
  if (fortran_order) std::reverse(extents.begin(), extents.end());
  uint64_t elements = 1;
  for (uint64_t extent : extents) elements *= extent;
  ScaleView view;
  if (elements == 0) return view;
  const auto begin = std::find_if(extents.begin(), extents.end(), [](uint64_t extent) { return extent > 1; });
  const auto dimensions = extents.end() - begin;
  if (dimensions < 2) {
    view.inner = elements;
    return view;
  }
  if (fortran_order) {
    view.columns = extents.back();
    view.rows = elements / view.columns;
    return view;
  }
  view.rows = begin[0];
  view.columns = begin[1];
  view.inner = elements / view.rows / view.columns;
  return view;
}

Stretches stretches_of(const Piece& piece, ScaleLayout layout) {
  if (piece.count == 0) return {};
  if (layout == one_scale) return {piece.count, piece.count, 1};
  const uint64_t length = layout >= first_run_layout ? run_elements(layout) : piece.view.row_elements();
  Stretches stretches;
  stretches.first = size_t(std::min<uint64_t>(piece.count, length - piece.first % length));
  stretches.other = size_t(std::min<uint64_t>(length, piece.count));
  stretches.number = 1 + size_t((piece.count - stretches.first + length - 1) / length);
  return stretches;
}

void ScaleCodec::write(SideWriter& out, std::span<const int16_t> scales, bool columns) {
  Track& track = tracks_[columns];
  for (int scale : scales) {
    const int difference = scale - ((track.prediction + 8) >> 4);
    const uint32_t folded = difference < 0 ? uint32_t(-difference) * 2 - 1 : uint32_t(difference) * 2;
    AdaptiveTable& table = track.tables[track.last];
    out.adaptive(table, std::min(folded, 15u));
    if (folded >= 15) {
      const uint32_t stored = uint32_t(scale - least_scale);
      out.nibble(stored >> 4);
      out.nibble(stored & 15);
    }
    track.last = uint32_t(std::min(std::abs(difference), 2));
    track.prediction += (scale * 16 - track.prediction) >> 2;
  }
}

uint32_t ScaleCodec::cost_q16(int scale, bool columns) const {
  const Track& track = tracks_[columns];
  const int difference = scale - ((track.prediction + 8) >> 4);
  const uint32_t folded = difference < 0 ? uint32_t(-difference) * 2 - 1 : uint32_t(difference) * 2;
  const AdaptiveTable& table = track.tables[track.last];
  return code_length_q16(table.frequency(std::min(folded, 15u))) + (folded >= 15 ? 8u << 16 : 0);
}

void ScaleCodec::read(ContextReader& in, std::span<int16_t> scales, bool columns) {
  Track& track = tracks_[columns];
  for (int16_t& result : scales) {
    const uint32_t folded = in.adaptive(track.tables[track.last]);
    const int predicted = (track.prediction + 8) >> 4;
    int scale = predicted + (folded & 1 ? -int(folded / 2) - 1 : int(folded / 2));
    if (folded >= 15) {
      const uint32_t high = in.nibble();
      scale = int(high << 4 | in.nibble()) + least_scale;
    }
    scale = std::clamp(scale, least_scale, most_scale);
    result = int16_t(scale);
    track.last = uint32_t(std::min(std::abs(scale - predicted), 2));
    track.prediction += (scale * 16 - track.prediction) >> 2;
  }
}

namespace {

/// `n` elements of class k; there is room for `room`. Most runs are as short as a kernel: two stores of
/// eight, which the next run covers again, cost less than a call.
void put_run(ContextClass* out, size_t n, size_t room, ContextClass k) {
  if (n > 16 || room < 16) {
    std::fill_n(out, n, k);
    return;
  }
  const uint64_t eight = k * 0x0101010101010101u;
  std::memcpy(out, &eight, 8);
  std::memcpy(out + 8, &eight, 8);
}

/// Classes of neighbours in a row of `scale`, one column each: coder.class_of() as a vector operation.
void put_columns(const ContextCoder& coder, int scale, std::span<const int16_t> columns, ContextClass* out) {
  if (coder.model().tables.empty()) {
    std::fill_n(out, columns.size(), ContextClass(0));
    return;
  }
  const auto before_first = int16_t(coder.model().lowest - 1), row = int16_t(scale);
  for (size_t i = 0; i < columns.size(); ++i) {
    const auto context = std::min<int16_t>(int16_t(row + columns[i]), highest_context);
    out[i] = ContextClass(std::max<int16_t>(int16_t(context - before_first), 0));
  }
}

/// What columns and frequencies add to the scale of a row for its elements from `first` on.
void add_offsets(std::span<const int16_t> columns, std::span<const int16_t> frequencies, uint64_t first,
                 std::span<int16_t> offsets) {
  auto column = size_t(first / frequencies.size());
  auto place = size_t(first % frequencies.size());
  for (size_t i = 0; i < offsets.size(); ++column, place = 0) {
    const auto of_column = columns.empty() ? int16_t(0) : columns[column];
    const size_t n = std::min(frequencies.size() - place, offsets.size() - i);
    for (size_t k = 0; k < n; ++k) offsets[i + k] = int16_t(of_column + frequencies[place + k]);
    i += n;
  }
}

void fill_by_frequencies(const ContextCoder& coder, const Piece& piece, ScaleLayout layout,
                         std::span<const int16_t> rows, std::span<const int16_t> columns,
                         std::span<const int16_t> frequencies, std::span<ContextClass> classes) {
  static thread_local std::vector<int16_t> offsets;
  const Stretches stretches = stretches_of(piece, layout);
  // Offsets come again with every row, or without columns with every kernel.
  const uint64_t period = columns.empty() ? frequencies.size() : piece.view.row_elements();
  const size_t longest = std::min(std::max(stretches.first, stretches.other), piece.count);
  const bool kept = period <= piece.count;
  if (kept) {
    offsets.resize(size_t(period) + (columns.empty() ? longest : 0));
    add_offsets(columns, frequencies, 0, offsets);
  }
  size_t at = 0;
  for (size_t r = 0; r < stretches.number; ++r) {
    const size_t length = std::min(r == 0 ? stretches.first : stretches.other, piece.count - at);
    const auto first = size_t((piece.first + at) % period);
    if (!kept) {
      offsets.resize(length);
      add_offsets(columns, frequencies, first, offsets);
    }
    put_columns(coder, rows[r], std::span(offsets).subspan(kept ? first : 0, length), classes.data() + at);
    at += length;
  }
}

}  // namespace

void fill_classes(const ContextCoder& coder, const Piece& piece, ScaleLayout layout,
                  std::span<const int16_t> rows, std::span<const int16_t> columns,
                  std::span<const int16_t> frequencies, std::span<ContextClass> classes) {
  if (!frequencies.empty())
    return fill_by_frequencies(coder, piece, layout, rows, columns, frequencies, classes);
  const Stretches stretches = stretches_of(piece, layout);
  size_t at = 0;
  if (layout != row_and_column_scales) {
    for (size_t r = 0; r < stretches.number; ++r) {
      const size_t length = std::min(r == 0 ? stretches.first : stretches.other, piece.count - at);
      put_run(classes.data() + at, length, piece.count - at, coder.class_of(rows[r]));
      at += length;
    }
    return;
  }
  const size_t inner = size_t(piece.view.inner);
  for (size_t r = 0; r < stretches.number; ++r) {
    const size_t length = std::min(r == 0 ? stretches.first : stretches.other, piece.count - at);
    const uint64_t in_row = (piece.first + at) % piece.view.row_elements();
    size_t column = size_t(in_row / inner), left = inner - size_t(in_row % inner);
    if (inner == 1) put_columns(coder, rows[r], columns.subspan(column, length), classes.data() + at);
    for (size_t done = inner == 1 ? length : 0; done < length;) {
      const size_t n = std::min(left, length - done);
      const ContextClass k = coder.class_of(rows[r] + columns[column]);
      put_run(classes.data() + at + done, n, piece.count - at - done, k);
      done += n;
      ++column;
      left = inner;
    }
    at += length;
  }
}

}  // namespace jsq

// Which scale an element is predicted to have: a tensor seen as rows x columns x inner elements, with a scale
// for each row and each column, or for runs of elements, in half octaves. The scales are coded as side
// symbols before the elements and give every element its context. SPEC.md, "Scales".
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "jsq/tensor.hpp"
#include "lib/packers/context_stream.hpp"

namespace jsq {

/// In storage order: element (r, c, k) is number (r columns + c) inner + k.
struct ScaleView {
  uint64_t rows = 1, columns = 1, inner = 1;
  uint64_t row_elements() const { return columns * inner; }
};

/// C order: output channels x input channels x kernel, extents of 1 in front left out. Fortran order:
/// everything but the fastest extent x that extent.
ScaleView scale_view(const TensorInfo& info);
ScaleView scale_view(std::span<const uint64_t> shape, bool fortran_order);

/// How the scales of a piece lie: 0 one for all, 1 of rows, 2 of rows and columns, 3..15 of runs of 2^(layout
/// + 1) elements.
using ScaleLayout = uint8_t;
constexpr ScaleLayout one_scale = 0, row_scales = 1, row_and_column_scales = 2, first_run_layout = 3,
                      last_run_layout = 15;
constexpr uint64_t run_elements(ScaleLayout layout) {
  return uint64_t(1) << (layout + 1);
}

/// Consecutive elements of one view.
struct Piece {
  ScaleView view;
  uint64_t first = 0;  ///< in the view
  size_t count = 0;
  bool whole() const { return count == view.rows * view.row_elements(); }
};

/// Elements that share a row scale: the first one's length, the others', as they lie in the piece.
struct Stretches {
  size_t first = 0, other = 0, number = 0;
};
Stretches stretches_of(const Piece& piece, ScaleLayout layout);

constexpr int least_scale = -64, most_scale = 191;  ///< of what is stored

/// The adaptive state of the layouts and scales of one stream.
class ScaleCodec {
 public:
  void write(SideWriter& out, std::span<const int16_t> scales, bool columns);
  void read(ContextReader& in, std::span<int16_t> scales, bool columns);
  void write_layout(SideWriter& out, ScaleLayout layout) { out.adaptive(layouts_, layout); }
  ScaleLayout read_layout(ContextReader& in) { return ScaleLayout(in.adaptive(layouts_)); }
  /// Bits that `scale` would take next, in 2^-16 bit.
  uint32_t cost_q16(int scale, bool columns) const;

 private:
  struct Track {
    AdaptiveTable tables[3];
    int prediction = 0;  ///< in 1/16
    uint32_t last = 2;   ///< size of the last difference, at most 2
  };
  Track tracks_[2];
  AdaptiveTable layouts_;
};

/// Contexts of a piece: row scale + column scale + the offset of the element's place in its kernel, as
/// classes of the coder. `columns` is empty but with row_and_column_scales; `frequencies` is empty or has an
/// offset for each of view.inner places.
void fill_classes(const ContextCoder& coder, const Piece& piece, ScaleLayout layout,
                  std::span<const int16_t> rows, std::span<const int16_t> columns,
                  std::span<const int16_t> frequencies, std::span<ContextClass> classes);

/// Calls visit(first element of the piece, elements, row, column) for every run of one row and one column.
template <class Visit>
void for_each_run(const Piece& piece, ScaleLayout layout, Visit visit) {
  const Stretches stretches = stretches_of(piece, layout);
  const ScaleView& view = piece.view;
  size_t at = 0;
  for (size_t r = 0; r < stretches.number; ++r) {
    const size_t length = std::min(r == 0 ? stretches.first : stretches.other, piece.count - at);
    if (layout != row_and_column_scales) {
      visit(at, length, r, size_t(0));
    } else {
      const uint64_t in_row = (piece.first + at) % view.row_elements();
      size_t column = size_t(in_row / view.inner), left = size_t(view.inner - in_row % view.inner);
      for (size_t done = 0; done < length;) {
        const size_t n = std::min(left, length - done);
        visit(at + done, n, r, column);
        done += n;
        ++column;
        left = size_t(view.inner);
      }
    }
    at += length;
  }
}

}  // namespace jsq

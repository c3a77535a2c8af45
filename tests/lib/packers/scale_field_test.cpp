// Views of shapes, stretches, the coding of scales and the contexts that they give, against hand-worked
// cases.
#include "lib/packers/scale_field.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace jsq {
namespace {

void expect_view(std::vector<uint64_t> shape, bool fortran, uint64_t rows, uint64_t columns, uint64_t inner) {
  const ScaleView view = scale_view(shape, fortran);
  EXPECT_EQ(view.rows, rows);
  EXPECT_EQ(view.columns, columns);
  EXPECT_EQ(view.inner, inner);
}

TEST(ScaleView, OfShapesIsOutputChannelsInputChannelsAndTheKernel) {
  expect_view({64, 32, 3, 3}, false, 64, 32, 9);
  expect_view({10, 64}, false, 10, 64, 1);
  expect_view({1, 1, 7, 5}, false, 7, 5, 1);
  expect_view({100}, false, 1, 1, 100);
  expect_view({}, false, 1, 1, 1);
  expect_view({1, 1}, false, 1, 1, 1);
  // Storage is [3, 3, 32, 64] there: runs of 64 outputs.
  expect_view({64, 32, 3, 3}, true, 288, 64, 1);
  expect_view({10, 64}, true, 64, 10, 1);
}

TEST(Stretches, CoverAPieceThatBeginsAndEndsInsideRows) {
  const Piece piece{{10, 4, 3}, 7, 30};  // rows of 12: 5 elements, then 12, 12 and 1
  const Stretches rows = stretches_of(piece, row_scales);
  EXPECT_EQ(rows.first, 5u);
  EXPECT_EQ(rows.other, 12u);
  EXPECT_EQ(rows.number, 4u);
  EXPECT_EQ(stretches_of(piece, one_scale).number, 1u);
  const Stretches runs = stretches_of({{1, 1, 100}, 16, 70}, first_run_layout);  // runs of 16: 4 and 6 more
  EXPECT_EQ(runs.first, 16u);
  EXPECT_EQ(runs.number, 5u);
}

ContextCoder coder_from(int lowest) {
  ContextModel model;
  model.lowest = lowest;
  model.tables.assign(size_t(highest_own_context - lowest + 1), Ladder{.rungs = 2, .closed = false});
  model.has_escapes = true;
  return ContextCoder(model, Reconstruction{});
}

TEST(FillClasses, AddsTheScalesOfRowAndColumn) {
  const ContextCoder coder = coder_from(-8);
  // A view of 3 x 2 x 2; the piece is elements 1..10, which lie in rows 0 0 0 1 1 1 1 2 2 2, columns 0 1 1 0
  // 0 1 1 0 0 1.
  const Piece piece{{3, 2, 2}, 1, 10};
  const std::vector<int16_t> rows = {-1, 2, -4}, columns = {0, 3};
  std::vector<ContextClass> classes(10);
  fill_classes(coder, piece, row_and_column_scales, rows, columns, {}, classes);
  const int expected[10] = {-1, 2, 2, 2, 2, 5, 5, -4, -4, -1};
  for (size_t i = 0; i < 10; ++i) EXPECT_EQ(classes[i], coder.class_of(expected[i])) << i;
  fill_classes(coder, piece, row_scales, rows, {}, {}, classes);
  const int by_row[10] = {-1, -1, -1, 2, 2, 2, 2, -4, -4, -4};
  for (size_t i = 0; i < 10; ++i) EXPECT_EQ(classes[i], coder.class_of(by_row[i])) << i;
}

TEST(FillClasses, AddsRowColumnAndFrequencyOfEveryElement) {
  const ContextCoder coder = coder_from(-8);
  const ScaleView view{3, 5, 3};  // rows of 15
  const std::vector<int16_t> columns = {0, 3, -2, 40, -7}, frequencies = {4, 0, -3};
  for (uint64_t first : {0u, 1u, 14u, 15u, 20u})
    for (size_t count : {1u, 2u, 9u, 15u, 25u}) {
      const Piece piece{view, first, count};
      for (const ScaleLayout layout : {row_and_column_scales, row_scales, one_scale}) {
        const bool by_column = layout == row_and_column_scales;
        const Stretches stretches = stretches_of(piece, layout);
        std::vector<int16_t> rows;
        for (size_t r = 0; r < stretches.number; ++r) rows.push_back(int16_t(5 * int(r) - 4));
        std::vector<ContextClass> classes(count);
        fill_classes(coder, piece, layout, rows, by_column ? columns : std::vector<int16_t>(), frequencies,
                     classes);
        for (size_t i = 0; i < count; ++i) {
          const size_t row = i < stretches.first ? 0 : 1 + (i - stretches.first) / stretches.other,
                       column = (first + i) % 15 / 3;
          const int scale = rows[row] + (by_column ? columns[column] : 0) + frequencies[(first + i) % 3];
          ASSERT_EQ(classes[i], coder.class_of(scale)) << first << " " << count << " " << i;
        }
      }
    }
}

TEST(ScaleCodec, GivesBackEveryScaleAndTellsItsCost) {
  const ContextCoder coder = coder_from(-8);
  std::vector<int16_t> rows, columns;
  for (int i = 0; i < 500; ++i)
    rows.push_back(
        int16_t(std::lround(6 * std::sin(i / 9.0)) - (i % 50 == 0 ? 50 : 0) + (i % 71 == 0 ? 180 : 0)));
  for (int i = 0; i < 200; ++i) columns.push_back(int16_t(i * 7 % 5 - 2));
  SideWriter side;
  ScaleCodec writing;
  uint64_t expected = 0;
  for (const int16_t& row : rows) {
    expected += writing.cost_q16(row, false);
    writing.write(side, std::span(&row, 1), false);
  }
  EXPECT_EQ(side.bits_q16(), expected);
  writing.write(side, columns, true);
  std::string bytes;
  coder.encode(side.symbols(), {}, {}, bytes);
  ContextReader reader(coder, bytes, "stream");
  ScaleCodec reading;
  std::vector<int16_t> back(rows.size()), back_columns(columns.size());
  reading.read(reader, back, false);
  reading.read(reader, back_columns, true);
  reader.elements({}, {});
  EXPECT_EQ(back, rows);
  EXPECT_EQ(back_columns, columns);
}

}  // namespace
}  // namespace jsq

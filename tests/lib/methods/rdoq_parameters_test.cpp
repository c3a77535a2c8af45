// Scales of columns in rdoq's parameter set, which tensors of several blocks have there: they come back as
// they were, wherever a set is cut or a bit of it flipped it is refused or reads as other scales, and a set
// that announces what it does not hold is refused before memory is asked for.
#include "lib/methods/rdoq_parameters.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "jsq/error.hpp"
#include "lib/core/bytes.hpp"
#include "lib/core/pool.hpp"
#include "lib/methods/method.hpp"
#include "tests/kernels/data.hpp"
#include "tests/largest_allocation.hpp"

namespace jsq {
namespace {

constexpr uint8_t columns_flag = 2;  // SPEC.md, "rdoq": bit 1 of the first byte

/// A set as rdoq writes it of a small matrix, without layers, columns, transforms and a pack.
std::string plain_set() {
  TensorInfo info;
  info.shape = {24, 25};
  const std::vector<float> values = test::make_data(test::Kind::heavy, 600, 9);
  const auto source = source_of(info, values);
  std::vector<PoolTensor> tensors(1);
  tensors[0].source = source.get();
  tensors[0].info = &source->tensors()[0];
  const TensorPool pool(std::move(tensors));
  const auto encoder = make_encoder(method_row("rdoq"), pool, parse_method("rdoq:preset=fast"), {});
  encoder->aim_bytes(260);
  RdoqParameters parameters = read_rdoq_parameters(encoder->stored_set(0).parameters, "set");
  parameters.packed_elements = 0;
  return write_rdoq_parameters(parameters);
}

std::vector<int16_t> wave(size_t count) {
  std::vector<int16_t> scales(count);
  for (size_t i = 0; i < count; ++i) scales[i] = int16_t(int(i * i % 23) - 11);
  return scales;
}

const ColumnScales some_columns = {
    {{0, 0}, {5}}, {{0, 2}, wave(7)}, {{3, 1}, wave(300)}, {{70000, 0}, wave(40)}};

std::string set_with(const ColumnScales& columns) {
  RdoqParameters parameters = read_rdoq_parameters(plain_set(), "set");
  parameters.columns = columns;
  return write_rdoq_parameters(parameters);
}

/// A set whose columns are announced by `write`.
std::string set_that_announces(const std::function<void(ByteWriter&)>& write) {
  ByteWriter announced;
  write(announced);
  std::string set = plain_set();
  set[0] = char(set[0] | columns_flag);
  return set + announced.take();
}

Error error_of(std::string_view set) {
  try {
    read_rdoq_parameters(set, "set 0");
  } catch (const Error& error) {
    return error;
  }
  return Error(Errc::internal, "nothing was thrown");
}

void expect_damaged(std::string_view set, const std::string& words) {
  test::largest_allocation = 0;
  const Error error = error_of(set);
  EXPECT_EQ(error.code(), Errc::damaged) << error.what();
  EXPECT_NE(std::string(error.what()).find("set 0"), std::string::npos) << error.what();
  EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
  EXPECT_LE(test::largest_allocation, size_t(1) << 20);
}

TEST(ColumnsOfASet, ComeBackAsTheyWere) {
  const RdoqParameters read = read_rdoq_parameters(set_with(some_columns), "set");
  EXPECT_EQ(read.columns, some_columns);
  ASSERT_EQ(read.column_bits.size(), some_columns.size());
  for (const auto& [place, bits] : read.column_bits) EXPECT_GT(bits, 0) << place.first << ' ' << place.second;
}

TEST(ColumnsOfASet, AreRefusedWhereverTheSetEndsAndWithABitMore) {
  const std::string set = set_with(some_columns);
  for (size_t size = 0; size < set.size(); ++size)
    EXPECT_EQ(error_of(std::string_view(set).substr(0, size)).code(), Errc::damaged) << size;
  EXPECT_EQ(error_of(set + '\0').code(), Errc::damaged);
}

TEST(ColumnsOfASet, AreRefusedOrReadAsScalesWhicheverBitIsFlipped) {
  std::string set = set_with(some_columns);
  for (size_t bit = 0; bit < 8 * set.size(); ++bit) {
    set[bit / 8] = char(set[bit / 8] ^ (1 << bit % 8));
    test::largest_allocation = 0;
    try {
      for (const auto& [place, scales] : read_rdoq_parameters(set, "set").columns)
        for (const int16_t scale : scales) {
          ASSERT_GE(scale, least_scale);
          ASSERT_LE(scale, most_scale);
        }
    } catch (const Error& error) {
      ASSERT_EQ(error.code(), Errc::damaged) << error.what();
    }
    ASSERT_LE(test::largest_allocation, size_t(8) << 20) << bit;
    set[bit / 8] = char(set[bit / 8] ^ (1 << bit % 8));
  }
}

TEST(ColumnsOfASet, StandInTheOrderOfTheirTensorsAndParts) {
  const auto places = [](const std::vector<std::pair<uint64_t, uint64_t>>& distances_and_parts) {
    return set_that_announces([&](ByteWriter& out) {
      out.uvarint(distances_and_parts.size());
      for (const auto& [distance, part] : distances_and_parts) {
        out.uvarint(distance);
        out.uvarint(part);
        out.uvarint(1);
      }
      out.string(std::string(8, '\0'));
    });
  };
  expect_damaged(places({{0, 1}, {0, 1}}), "column scales that do not ascend");
  expect_damaged(places({{4, 1}, {0, 0}}), "column scales that do not ascend");
  expect_damaged(places({{UINT32_MAX, 0}, {1, 0}}), "column scales that do not ascend");
}

TEST(ColumnsOfASet, AreNoMoreThanTheirBytesCanHold) {
  const auto announced = [](uint64_t entries, uint64_t scales, size_t bytes) {
    return set_that_announces([&](ByteWriter& out) {
      out.uvarint(entries);
      for (uint64_t i = 0; i < std::min<uint64_t>(entries, 3); ++i) {
        out.uvarint(1);
        out.uvarint(0);
        out.uvarint(scales);
      }
      out.string(std::string(bytes, '\0'));
    });
  };
  expect_damaged(announced(3, uint64_t(1) << 40, 8), "more column scales than their stream can hold");
  expect_damaged(announced(3, 2048 * 3, 8), "more column scales than their stream can hold");
  expect_damaged(announced(1, 2048, 0), "more column scales than their stream can hold");
  for (const uint64_t scales : {(uint64_t(1) << 40) + 1, UINT64_MAX})
    expect_damaged(announced(1, scales, 8), "");
  for (const uint64_t entries : {uint64_t(4), uint64_t(1) << 32, uint64_t(1) << 63, UINT64_MAX})
    expect_damaged(announced(entries, 1, 8), "");
}

}  // namespace
}  // namespace jsq

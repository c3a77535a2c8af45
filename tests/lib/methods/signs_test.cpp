// The methods of one bit an element: signSGD, EF-signSGD, 1-bit SGD.
#include "lib/methods/signs.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "tests/kernels/data.hpp"
#include "tests/lib/methods/one_tensor.hpp"

namespace jsq {
namespace {

using test::is_refused_as_damaged;
using test::Kind;
using test::make_data;
using test::OneTensor;
using test::refusal_of;
using test::v8;

std::vector<float> residual_of(const OneTensor& coded) {
  std::vector<float> residual = coded.values;
  for (size_t i = 0; i < residual.size(); ++i) residual[i] -= coded.decoded[i];
  return residual;
}

std::string as_f32(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  return {char(bits), char(bits >> 8), char(bits >> 16), char(bits >> 24)};
}

constexpr const char* sign_methods[] = {
    "signsgd",          "signsgd:scale=mean",          "ef-signsgd", "onebit", "onebit:group=row",
    "onebit:group=col", "onebit:group=bucket,bucket=7"};

TEST(SignMethods, DecodeToExactlyWhatTheirEncodersSayAndToFiniteNumbers) {
  for (const char* method : sign_methods)
    for (Kind kind : test::all_kinds)
      for (size_t n : {0, 1, 2, 3, 7, 8, 9, 1000, 65536 + 8}) {
        const std::vector<uint64_t> shape =
            n % 4 == 0 && n > 0 ? std::vector<uint64_t>{n / 4, 2, 2} : std::vector<uint64_t>{};
        for (bool fortran_order : {false, true}) {
          const OneTensor coded(make_data(kind, n), method, Rounding::automatic, 0, shape, fortran_order);
          const std::vector<float> read = coded.read_back();
          size_t differences = 0, infinite = 0;
          for (size_t i = 0; i < n; ++i) {
            differences += std::bit_cast<uint32_t>(read[i]) != std::bit_cast<uint32_t>(coded.decoded[i]);
            infinite += !std::isfinite(read[i]);
          }
          EXPECT_EQ(differences, 0u) << method << ' ' << test::kind_name(kind) << ' ' << n;
          EXPECT_EQ(infinite, 0u) << method << ' ' << test::kind_name(kind) << ' ' << n;
        }
      }
}

TEST(SignMethods, StoreNothingOfABlockOfZerosAndCountZerosAsPositiveElsewhere) {
  for (const char* method : sign_methods) {
    const OneTensor zeros(make_data(Kind::negative_zeros, 100), method);
    EXPECT_EQ(zeros.blocks, std::vector<std::string>{""}) << method;
    EXPECT_EQ(zeros.decoded, std::vector<float>(100)) << method;
    const OneTensor mixed({-0.0f, 0.0f, 3, -3}, method);
    EXPECT_EQ(mixed.blocks[0].back(), char(0x10)) << method;
    EXPECT_GT(mixed.decoded[0], 0) << method;
    EXPECT_EQ(mixed.decoded[0], mixed.decoded[1]) << method;
  }
}

TEST(SignMethods, RefuseBlocksOfAnotherSizeAndPaddingThatIsNotZero) {
  for (const char* method : sign_methods) {
    const OneTensor coded(v8, method);
    const auto decoder = coded.decoder();
    std::vector<float> values(7);  // the eighth bit, of -4, becomes padding
    std::string block = coded.blocks[0];
    EXPECT_TRUE(
        is_refused_as_damaged([&] { decoder->decode_block(coded.place(0), block, values, "block"); }));
    values.resize(8);
    for (const std::string& other : {block + '\0', block.substr(1)})
      EXPECT_TRUE(is_refused_as_damaged([&] {
        decoder->decode_block(coded.place(0), other, values, "block");
      })) << method;
  }
}

TEST(SignSgd, SendsTheSignsMostSignificantBitFirstAndDecodesThemToOne) {
  const OneTensor coded(v8, "signsgd");
  EXPECT_EQ(coded.blocks[0], std::string(1, char(0x49)));  // + - + + - + + -
  EXPECT_EQ(coded.decoded, (std::vector<float>{1, -1, 1, 1, -1, 1, 1, -1}));
  EXPECT_EQ(coded.sums.nominal_bits, 8u);
}

TEST(SignSgd, DecodesToTheMeanMagnitudeOnRequest) {
  const OneTensor coded(v8, "signsgd:scale=mean");
  for (size_t i = 0; i < 8; ++i) EXPECT_EQ(std::abs(coded.decoded[i]), 10.875f / 8);
  EXPECT_EQ(coded.sums.nominal_bits, 8u + 32);
  EXPECT_EQ(refusal_of("signsgd:scale=lr"), Errc::usage);
}

TEST(EfSignSgd, LeavesTheResidualsOfTheWorkedVector) {
  const OneTensor first({1, -0.25f, 0.5f, 0.25f}, "ef-signsgd");
  EXPECT_EQ(first.decoded, (std::vector<float>{0.5f, -0.5f, 0.5f, 0.5f}));
  EXPECT_EQ(residual_of(first), (std::vector<float>{0.5f, 0.25f, 0, -0.25f}));
  const OneTensor second({1, -0.25f, 0.25f, 0.25f}, "ef-signsgd");  // the second gradient and that residual
  EXPECT_EQ(std::abs(second.decoded[0]), 0.4375f);
  EXPECT_EQ(residual_of(second), (std::vector<float>{0.5625f, 0.1875f, -0.1875f, -0.1875f}));
}

TEST(OneBit, DecodesToTheClassMeansOfTheWorkedVector) {
  const OneTensor coded(v8, "onebit");
  const double expected[] = {-.65, .7083333, -.9, .85, 1.5833333, -1.15, 1.85, -2.2916667};
  const std::vector<float> residual = residual_of(coded);
  for (size_t i = 0; i < 8; ++i) EXPECT_NEAR(double(residual[i]), expected[i], 3e-7) << i;
  EXPECT_EQ(coded.sums.nominal_bits, 8u + 64);
  EXPECT_EQ(coded.parameters().size(), 2u + 8);
}

TEST(OneBit, GivesAnEmptyClassTheMeanZero) {
  EXPECT_EQ(OneTensor({1, 3}, "onebit").parameters(), std::string("\0\1", 2) + as_f32(0) + as_f32(2));
  EXPECT_EQ(OneTensor({-1, -3}, "onebit").parameters(), std::string("\0\1", 2) + as_f32(-2) + as_f32(0));
}

// V8 as the matrix  .5 -1 .25 2 / -.125 0 3 -4  in C order.
TEST(OneBit, GroupsTheRowsAndColumnsOfTheMatrix) {
  const auto decoded = [](const char* group, std::vector<float> values, bool fortran_order) {
    return OneTensor(std::move(values), std::string("onebit:group=") + group, Rounding::automatic, 0, {2, 4},
                     fortran_order)
        .decoded;
  };
  const float row0 = float(2.75 / 3);
  EXPECT_EQ(decoded("row", v8, false),
            (std::vector<float>{row0, -1, row0, row0, -2.0625f, 1.5f, 1.5f, -2.0625f}));
  EXPECT_EQ(decoded("col", v8, false), (std::vector<float>{0.5f, -1, 1.625f, 2, -0.125f, 0, 1.625f, -4}));
  // The same matrix in Fortran order: the columns one after the other.
  const std::vector<float> by_columns = {0.5f, -0.125f, -1, 0, 0.25f, 3, 2, -4};
  EXPECT_EQ(decoded("row", by_columns, true),
            (std::vector<float>{row0, -2.0625f, -1, 1.5f, row0, 1.5f, row0, -2.0625f}));
  EXPECT_EQ(decoded("col", by_columns, true),
            (std::vector<float>{0.5f, -0.125f, -1, 0, 1.625f, 1.625f, 2, -4}));
}

TEST(OneBit, GroupsColumnsAcrossBlocks) {
  // 30,000 rows of 3: block 0 ends inside a row. Every column is constant, so that its mean is its value.
  std::vector<float> values;
  for (int row = 0; row < 30000; ++row) values.insert(values.end(), {1.5f, -2.5f, 0.25f});
  const OneTensor coded(values, "onebit:group=col", Rounding::automatic, 0, {30000, 3});
  EXPECT_EQ(coded.blocks.size(), 2u);
  EXPECT_EQ(coded.decoded, values);
  EXPECT_EQ(coded.read_back(), values);
}

TEST(OneBit, KeepsTheMeansOfBucketsInTheBlock) {
  const OneTensor coded(v8, "onebit:group=bucket,bucket=3");
  EXPECT_EQ(coded.decoded, (std::vector<float>{0.375f, -1, 0.375f, 1, -0.125f, 1, 3, -4}));
  EXPECT_EQ(coded.blocks[0], as_f32(-1) + as_f32(0.375f) + as_f32(-0.125f) + as_f32(1) + as_f32(-4) +
                                 as_f32(3) + std::string(1, char(0x49)));
  EXPECT_EQ(coded.sums.nominal_bits, 8u + 3 * 64);
}

TEST(OneBit, TakesATensorOfOneDimensionAsOneGroup) {
  for (const char* group : {"row", "col"})
    EXPECT_EQ(OneTensor(v8, std::string("onebit:group=") + group).decoded, OneTensor(v8, "onebit").decoded);
}

TEST(OneBit, RefusesMoreGroupsThanTheDirectoryShouldHold) {
  const uint64_t columns = (1u << 20) + 1;
  EXPECT_EQ(refusal_of("onebit:group=col", make_data(Kind::gauss, columns), {1, columns}), Errc::usage);
  EXPECT_EQ(refusal_of("onebit:group=row", make_data(Kind::gauss, columns), {1, columns}), Errc::internal);
  for (const char* options : {"group=layer", "bucket=0", "bucket=65537"})
    EXPECT_EQ(refusal_of(std::string("onebit:") + options), Errc::usage) << options;
}

TEST(SignParameters, AreRefusedWhereNoWriterMakesThem) {
  const auto refused = [](const char* method, const std::string& parameters) {
    return is_refused_as_damaged([&] { method_row(method).make_decoder(parameters, "parameters"); });
  };
  for (const char* method : {"signsgd", "ef-signsgd"}) {
    EXPECT_FALSE(refused(method, as_f32(0)));
    EXPECT_TRUE(refused(method, as_f32(-1)));
    EXPECT_TRUE(refused(method, as_f32(INFINITY)));
    EXPECT_TRUE(refused(method, as_f32(NAN)));
    EXPECT_TRUE(refused(method, as_f32(1) + '\0'));
    EXPECT_TRUE(refused(method, ""));
  }
  const std::string tensor("\0\1", 2);
  EXPECT_FALSE(refused("onebit", tensor + as_f32(-1) + as_f32(1)));
  EXPECT_TRUE(refused("onebit", tensor + as_f32(1) + as_f32(1)));
  EXPECT_TRUE(refused("onebit", tensor + as_f32(-1) + as_f32(-1)));
  EXPECT_TRUE(refused("onebit", tensor + as_f32(NAN) + as_f32(1)));
  EXPECT_TRUE(refused("onebit", tensor + as_f32(-1)));
  EXPECT_TRUE(refused("onebit", std::string("\0\0", 2)));
  EXPECT_TRUE(refused("onebit", std::string("\1\xff\xff\x7f", 4)));  // two million groups in no bytes
  EXPECT_TRUE(refused("onebit", std::string("\3\0", 2)));
  EXPECT_TRUE(refused("onebit", std::string("\4\1", 2)));
}

TEST(OneBit, RefusesMeansOfAnotherNumberOfGroups) {
  const OneTensor coded(v8, "onebit:group=row", Rounding::automatic, 0, {2, 4});
  TensorInfo other = coded.source->tensors()[0];
  other.shape = {4, 2};
  std::vector<float> values(8);
  EXPECT_TRUE(is_refused_as_damaged([&] {
    coded.decoder()->decode_block({0, 0, &other, 0}, coded.blocks[0], values, "block");
  }));
}

}  // namespace
}  // namespace jsq

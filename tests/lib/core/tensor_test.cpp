// Element types: every 16-bit pattern both ways, byte orders, and doubles rounded once.
#include "jsq/tensor.hpp"

#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>
#include <cstring>
#include <limits>

#include "jsq/error.hpp"
#include "tests/kernels/data.hpp"

namespace jsq {
namespace {

template <class Word>
std::vector<std::byte> stored(const std::vector<Word>& words, bool big_endian) {
  std::vector<std::byte> bytes(words.size() * sizeof(Word));
  std::memcpy(bytes.data(), words.data(), bytes.size());
  if (big_endian) swap_element_bytes(bytes, sizeof(Word));
  return bytes;
}

TEST(DecodeElements, EncodesBackToEvery16BitPatternInBothByteOrders) {
  std::vector<uint16_t> patterns(65536);
  for (uint32_t i = 0; i < 65536; ++i) patterns[i] = uint16_t(i);
  for (DType dtype : {DType::f16, DType::bf16})
    for (bool big : {false, true}) {
      std::vector<float> values(65536);
      decode_elements(dtype, big, stored(patterns, big).data(), values);
      std::vector<uint16_t> back(65536);
      encode_elements(dtype, values, reinterpret_cast<std::byte*>(back.data()));
      const uint16_t exponent = dtype == DType::f16 ? 0x7c00 : 0x7f80,
                     quiet = dtype == DType::f16 ? 0x200 : 0x40;
      for (uint32_t i = 0; i < 65536; ++i) {
        const bool nan = (i & 0x7fff) > exponent;
        ASSERT_EQ(back[i], nan ? (i | quiet) : i);
      }
    }
  EXPECT_EQ(dtype_bytes(DType::f16), 2u);
  EXPECT_EQ(dtype_bytes(DType::bf16), 2u);
}

TEST(DecodeElements, KeepsEveryBitOfF32InBothByteOrders) {
  test::Random random(1);
  std::vector<uint32_t> patterns = {0,          0x80000000, 1,          0x7f800000,
                                    0xff800000, 0x7f800001, 0xffffffff, 0x7f7fffff};
  for (int i = 0; i < 1000; ++i) patterns.push_back(uint32_t(random.word()));
  for (bool big : {false, true}) {
    std::vector<float> values(patterns.size());
    decode_elements(DType::f32, big, stored(patterns, big).data(), values);
    std::vector<uint32_t> back(patterns.size());
    encode_elements(DType::f32, values, reinterpret_cast<std::byte*>(back.data()));
    EXPECT_EQ(back, patterns);
  }
}

// numpy.float32(x) for doubles around every border, numpy 1.24: '%.17g' of x -> bits of the f32.
TEST(DecodeElements, RoundsDoublesToNearestEvenAndOverflowsToInfinity) {
  const std::pair<double, uint32_t> table[] = {{0.1, 0x3dcccccd},
                                               {1.0 + 0x1p-24, 0x3f800000},
                                               {1.0 + 0x1p-24 + 0x1p-50, 0x3f800001},
                                               {1.0 + 3 * 0x1p-24, 0x3f800002},
                                               {0x1p-149, 1},
                                               {0x1p-150, 0},
                                               {0x1.8p-150, 1},
                                               {-0x1p-151, 0x80000000},
                                               {double(FLT_MAX), 0x7f7fffff},
                                               {0x1.fffffefffffffp127, 0x7f7fffff},
                                               {0x1.ffffffp127, 0x7f800000},
                                               {-0x1.ffffffp127, 0xff800000},
                                               {1e300, 0x7f800000},
                                               {-DBL_MAX, 0xff800000},
                                               {HUGE_VAL, 0x7f800000},
                                               {-0.0, 0x80000000}};
  for (const auto& [value, bits] : table)
    for (bool big : {false, true}) {
      float f = 0;
      decode_elements(DType::f64, big, stored(std::vector<double>{value}, big).data(), std::span(&f, 1));
      EXPECT_EQ(std::bit_cast<uint32_t>(f), bits) << value;
    }
  float nan = 0;
  decode_elements(DType::f64, false,
                  stored(std::vector<double>{std::numeric_limits<double>::quiet_NaN()}, false).data(),
                  std::span(&nan, 1));
  EXPECT_TRUE(std::isnan(nan));
}

TEST(EncodeElements, WidensToF64ExactlyAndSaturatesTheNarrowTypes) {
  const std::vector<float> values = {0.1f, -FLT_MAX, 0x1p-149f, -0.0f, 70000.0f};
  std::vector<double> wide(values.size());
  encode_elements(DType::f64, values, reinterpret_cast<std::byte*>(wide.data()));
  for (size_t i = 0; i < values.size(); ++i) EXPECT_EQ(wide[i], double(values[i]));
  EXPECT_TRUE(std::signbit(wide[3]));
  std::vector<uint16_t> half(values.size());
  encode_elements(DType::f16, values, reinterpret_cast<std::byte*>(half.data()));
  EXPECT_EQ(half, (std::vector<uint16_t>{0x2e66, 0xfbff, 0, 0x8000, 0x7bff}));
  encode_elements(DType::bf16, values, reinterpret_cast<std::byte*>(half.data()));
  EXPECT_EQ(half, (std::vector<uint16_t>{0x3dcd, 0xff7f, 0, 0x8000, 0x4789}));
}

TEST(SwapElementBytes, ReversesEachElement) {
  std::string bytes = "abcdefgh";
  const auto span = std::as_writable_bytes(std::span(bytes));
  swap_element_bytes(span, 2);
  EXPECT_EQ(bytes, "badcfehg");
  swap_element_bytes(span, 4);
  EXPECT_EQ(bytes, "cdabghef");
  swap_element_bytes(span, 8);
  EXPECT_EQ(bytes, "fehgbadc");
}

TEST(DTypeNames, AreTheirOwnInverses) {
  for (DType dtype : {DType::f16, DType::bf16, DType::f32, DType::f64})
    EXPECT_EQ(dtype_from_name(dtype_name(dtype)), dtype);
  try {
    dtype_from_name("f8");
    FAIL() << "expected an error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::unknown_name);
    EXPECT_NE(std::string(error.what()).find("bf16"), std::string::npos);
  }
}

TEST(TensorInfo, CountsElementsAndStoredBytes) {
  TensorInfo info;
  EXPECT_EQ(info.elements(), 1u);  // a scalar
  info.shape = {3, 4, 5};
  EXPECT_EQ(info.elements(), 60u);
  EXPECT_EQ(info.stored_bytes(), 240u);
  info.dtype = DType::bf16;
  EXPECT_EQ(info.stored_bytes(), 120u);
  info.shape = {7, 0};
  EXPECT_EQ(info.elements(), 0u);
}

}  // namespace
}  // namespace jsq

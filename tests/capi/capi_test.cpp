// The C interface: it keeps the promises of jsq.h, agrees with the C++ interface byte for byte, turns every
// error into its code, and lets no bad argument past. What the codecs do with the values is tested elsewhere.
#include <gtest/gtest.h>
#include <unistd.h>
#include <xxhash.h>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "jsq/allocation.hpp"
#include "jsq/compress.hpp"
#include "jsq/jsq.h"

namespace {

constexpr uint64_t rows = 300, columns = 250, elements = rows * columns;
const uint64_t matrix_shape[] = {rows, columns};

/// Heavy-tailed like a gradient, and the same on every machine.
std::vector<float> gradient() {
  std::vector<float> values(elements);
  uint32_t state = 1;
  for (float& value : values) {
    state = state * 1664525u + 1013904223u;
    const float uniform = float(state >> 8) * 0x1p-23f - 1.0f;  // [-1, 1)
    value = uniform * uniform * uniform * 1e-2f;
  }
  return values;
}

jsq_array array_of(const std::vector<float>& values, const char* name = "layer.weight") {
  return {values.data(), JSQ_F32, 2, matrix_shape, name};
}

jsq_options options_with(const char* target, const char* method = nullptr, const char* nonfinite = nullptr) {
  return {sizeof(jsq_options), method, target, nonfinite, 0, 2};
}

struct Bytes {
  ~Bytes() { jsq_free(data); }
  std::string_view view() const { return {static_cast<const char*>(data), size}; }
  void* data = nullptr;
  size_t size = 0;
};

struct CloseFrame {
  void operator()(jsq_frame* frame) const { jsq_close(frame); }
};
using Frame = std::unique_ptr<jsq_frame, CloseFrame>;

Frame open(std::string_view bytes) {
  jsq_frame* frame = nullptr;
  EXPECT_EQ(jsq_open_memory(bytes.data(), bytes.size(), &frame), JSQ_OK) << jsq_last_error();
  return Frame(frame);
}

/// A frame of gradient() at `target`.
std::unique_ptr<Bytes> compressed(const char* target = "maxabs=1e-4") {
  const std::vector<float> values = gradient();
  const jsq_array array = array_of(values);
  const jsq_options options = options_with(target);
  auto bytes = std::make_unique<Bytes>();
  EXPECT_EQ(jsq_compress(&array, 1, &options, &bytes->data, &bytes->size, nullptr), JSQ_OK)
      << jsq_last_error();
  return bytes;
}

bool last_error_says(const std::string& words) {
  return std::string(jsq_last_error()).find(words) != std::string::npos;
}

TEST(Capi, VersionHasThreeNumbers) {
  int major = -1, minor = -1, patch = -1, end = 0;
  EXPECT_EQ(std::sscanf(jsq_version(), "%d.%d.%d%n", &major, &minor, &patch, &end), 3);
  EXPECT_EQ(size_t(end), std::strlen(jsq_version()));
}

TEST(Capi, EveryCodeHasItsName) {
  EXPECT_STREQ(jsq_error_name(JSQ_OK), "ok");
  EXPECT_STREQ(jsq_error_name(JSQ_USAGE), "usage");
  EXPECT_STREQ(jsq_error_name(JSQ_NON_FINITE), "non_finite");
  EXPECT_STREQ(jsq_error_name(JSQ_DAMAGED), "damaged");
  EXPECT_STREQ(jsq_error_name(JSQ_UNREACHABLE_TARGET), "unreachable_target");
  EXPECT_STREQ(jsq_error_name(-1), "internal");
}

TEST(Capi, RoundTripKeepsNameTypeShapeAndTheErrorBound) {
  const std::vector<float> values = gradient();
  const std::unique_ptr<Bytes> bytes = compressed("maxabs=1e-4");
  const Frame frame = open(bytes->view());

  size_t count = 0;
  ASSERT_EQ(jsq_tensor_count(frame.get(), &count), JSQ_OK);
  EXPECT_EQ(count, 1u);
  jsq_tensor tensor = {sizeof(jsq_tensor)};
  ASSERT_EQ(jsq_describe_tensor(frame.get(), 0, &tensor), JSQ_OK);
  EXPECT_STREQ(tensor.name, "layer.weight");
  EXPECT_EQ(tensor.dtype, JSQ_F32);
  EXPECT_EQ(tensor.fortran_order, 0);
  ASSERT_EQ(tensor.rank, 2u);
  EXPECT_EQ(tensor.shape[0], rows);
  EXPECT_EQ(tensor.shape[1], columns);
  EXPECT_EQ(tensor.elements, elements);
  EXPECT_GT(tensor.coded_bytes, 0u);
  EXPECT_LT(tensor.coded_bytes, bytes->size);

  std::vector<float> decoded(elements);
  ASSERT_EQ(jsq_read(frame.get(), 0, 0, elements, decoded.data()), JSQ_OK) << jsq_last_error();
  for (size_t i = 0; i < elements; ++i)
    ASSERT_LE(std::abs(double(values[i]) - double(decoded[i])), 1e-4) << i;
}

TEST(Capi, ASizeTargetBoundsTheBuffer) {
  const std::unique_ptr<Bytes> bytes = compressed("ratio=20");
  EXPECT_LE(bytes->size * 20, elements * sizeof(float));
}

TEST(Capi, NullOptionsAreJointsqAtRatio32) {
  const std::vector<float> values = gradient();
  const jsq_array array = array_of(values);
  const jsq_options spelled_out = {sizeof(jsq_options), "jointsq", "ratio=32", "error", 0, 0};
  Bytes by_default, by_name;
  ASSERT_EQ(jsq_compress(&array, 1, nullptr, &by_default.data, &by_default.size, nullptr), JSQ_OK)
      << jsq_last_error();
  ASSERT_EQ(jsq_compress(&array, 1, &spelled_out, &by_name.data, &by_name.size, nullptr), JSQ_OK)
      << jsq_last_error();
  EXPECT_EQ(by_default.view(), by_name.view());
}

TEST(Capi, TheBytesAreThoseOfTheCppInterfaceForAnyThreadCount) {
  const std::vector<float> values = gradient();
  jsq::TensorInfo info;
  info.name = "layer.weight";
  info.shape = {rows, columns};
  jsq::CompressOptions cpp;
  cpp.target = jsq::parse_target("bpw=1.5");
  cpp.seed = 7;
  jsq::MemorySink sink;
  jsq::compress({{"array.npy", jsq::source_of(info, values), {}, true}}, cpp, sink);

  const jsq_array array = array_of(values);
  for (unsigned threads : {1u, 3u}) {
    const jsq_options options = {sizeof(jsq_options), nullptr, "bpw=1.5", nullptr, 7, threads};
    Bytes bytes;
    ASSERT_EQ(jsq_compress(&array, 1, &options, &bytes.data, &bytes.size, nullptr), JSQ_OK)
        << jsq_last_error();
    EXPECT_EQ(bytes.view(), sink.bytes) << threads << " threads";
  }
}

TEST(Capi, MisalignedElementsCompressToTheSameBytes) {
  const std::vector<float> values = gradient();
  std::vector<char> shifted(elements * sizeof(float) + 1);
  std::memcpy(shifted.data() + 1, values.data(), elements * sizeof(float));
  jsq_array array = array_of(values);
  array.data = shifted.data() + 1;
  const jsq_options options = options_with("maxabs=1e-4");
  Bytes bytes;
  ASSERT_EQ(jsq_compress(&array, 1, &options, &bytes.data, &bytes.size, nullptr), JSQ_OK) << jsq_last_error();
  EXPECT_EQ(bytes.view(), compressed("maxabs=1e-4")->view());
}

TEST(Capi, ARangeIsThatPartOfTheWhole) {
  const std::unique_ptr<Bytes> bytes = compressed();
  const Frame frame = open(bytes->view());
  std::vector<float> whole(elements);
  ASSERT_EQ(jsq_read(frame.get(), 0, 0, elements, whole.data()), JSQ_OK);
  for (const auto& [first, count] :
       {std::pair<uint64_t, uint64_t>{0, 1}, {65535, 2}, {elements - 1, 1}, {12345, 60000}}) {
    std::vector<float> part(count);
    ASSERT_EQ(jsq_read(frame.get(), 0, first, count, part.data()), JSQ_OK) << jsq_last_error();
    EXPECT_EQ(std::memcmp(part.data(), whole.data() + first, count * sizeof(float)), 0)
        << first << "+" << count;
  }
}

TEST(Capi, StoredBytesOfF32AreTheValues) {
  const std::unique_ptr<Bytes> bytes = compressed();
  const Frame frame = open(bytes->view());
  std::vector<float> values(1000), stored(1000);
  ASSERT_EQ(jsq_read(frame.get(), 0, 500, 1000, values.data()), JSQ_OK);
  ASSERT_EQ(jsq_read_stored(frame.get(), 0, 500, 1000, stored.data(), 4000), JSQ_OK) << jsq_last_error();
  EXPECT_EQ(std::memcmp(values.data(), stored.data(), 4000), 0);
}

TEST(Capi, KeptNonFiniteHalvesComeBackWithEveryBit) {
  std::vector<uint16_t> halves(4096);
  for (size_t i = 0; i < halves.size(); ++i) halves[i] = uint16_t(0x2000 + i % 1024);  // 2^-7 to 2^-6
  halves[5] = 0x7e55;                                                                  // NaN with a payload
  halves[1000] = 0xfc00;                                                               // -infinity
  const uint64_t shape[] = {halves.size()};
  const jsq_array array = {halves.data(), JSQ_F16, 1, shape, nullptr};
  const jsq_options options = options_with("maxabs=1e-3", nullptr, "keep");
  Bytes bytes;
  ASSERT_EQ(jsq_compress(&array, 1, &options, &bytes.data, &bytes.size, nullptr), JSQ_OK) << jsq_last_error();

  const Frame frame = open(bytes.view());
  jsq_tensor tensor = {sizeof(jsq_tensor)};
  ASSERT_EQ(jsq_describe_tensor(frame.get(), 0, &tensor), JSQ_OK);
  EXPECT_STREQ(tensor.name, "");
  EXPECT_EQ(tensor.dtype, JSQ_F16);
  std::vector<uint16_t> stored(halves.size());
  ASSERT_EQ(jsq_read_stored(frame.get(), 0, 0, halves.size(), stored.data(), 2 * halves.size()), JSQ_OK);
  EXPECT_EQ(stored[5], 0x7e55);
  EXPECT_EQ(stored[1000], 0xfc00);
  std::vector<float> values(halves.size());
  ASSERT_EQ(jsq_read(frame.get(), 0, 0, halves.size(), values.data()), JSQ_OK);
  EXPECT_TRUE(std::isnan(values[5]));
  EXPECT_EQ(values[1000], -std::numeric_limits<float>::infinity());
  EXPECT_NEAR(values[0], 0x1p-7, 1e-3);  // 0x2000 is 2^-7
}

TEST(Capi, EveryDtypeKeepsItsOwn) {
  const std::vector<float> values(64, 0.5f);  // exact in all four
  const uint16_t f16 = 0x3800, bf16 = 0x3f00;
  const double f64 = 0.5;
  const std::vector<uint16_t> as_f16(64, f16), as_bf16(64, bf16);
  const std::vector<double> as_f64(64, f64);
  const uint64_t shape[] = {64};
  const jsq_options options = options_with("maxabs=0.25");
  for (const auto& [data, dtype] : {std::pair<const void*, int>{as_f16.data(), JSQ_F16},
                                    {as_bf16.data(), JSQ_BF16},
                                    {values.data(), JSQ_F32},
                                    {as_f64.data(), JSQ_F64}}) {
    const jsq_array array = {data, dtype, 1, shape, "w"};
    Bytes bytes;
    ASSERT_EQ(jsq_compress(&array, 1, &options, &bytes.data, &bytes.size, nullptr), JSQ_OK)
        << jsq_last_error();
    const Frame frame = open(bytes.view());
    jsq_tensor tensor = {sizeof(jsq_tensor)};
    ASSERT_EQ(jsq_describe_tensor(frame.get(), 0, &tensor), JSQ_OK);
    EXPECT_EQ(tensor.dtype, dtype);
    std::vector<float> decoded(64);
    ASSERT_EQ(jsq_read(frame.get(), 0, 0, 64, decoded.data()), JSQ_OK) << jsq_last_error();
    for (float value : decoded) ASSERT_NEAR(value, 0.5, 0.25) << "dtype " << dtype;
  }
}

TEST(Capi, ScalarAndEmptyArraysRoundTrip) {
  const float scalar = 0.25f;
  const uint64_t no_rows[] = {0, 5};
  const jsq_options options = options_with("maxabs=1e-3");
  const jsq_array arrays[] = {{&scalar, JSQ_F32, 0, nullptr, "scalar"},
                              {nullptr, JSQ_F32, 2, no_rows, "empty"}};
  for (const jsq_array& array : arrays) {
    Bytes bytes;
    ASSERT_EQ(jsq_compress(&array, 1, &options, &bytes.data, &bytes.size, nullptr), JSQ_OK)
        << array.name << jsq_last_error();
    const Frame frame = open(bytes.view());
    jsq_tensor tensor = {sizeof(jsq_tensor)};
    ASSERT_EQ(jsq_describe_tensor(frame.get(), 0, &tensor), JSQ_OK);
    EXPECT_EQ(tensor.rank, array.rank);
    EXPECT_EQ(tensor.elements, array.rank == 0 ? 1u : 0u);
    float value = 0;
    ASSERT_EQ(jsq_read(frame.get(), 0, 0, tensor.elements, &value), JSQ_OK) << jsq_last_error();
    if (tensor.elements == 1) {
      EXPECT_NEAR(value, 0.25, 1e-3);
    }
    EXPECT_EQ(jsq_read(frame.get(), 0, tensor.elements, 0, nullptr), JSQ_OK) << jsq_last_error();
  }
}

TEST(Capi, AFileOpensLikeTheSameBytesInMemory) {
  const std::unique_ptr<Bytes> bytes = compressed();
  std::string folder = (std::filesystem::temp_directory_path() / "jsq-capi-test-XXXXXX").string();
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  const std::string path = folder + "/w.jsq";
  std::ofstream(path, std::ios::binary) << bytes->view();

  jsq_frame* opened = nullptr;
  ASSERT_EQ(jsq_open(path.c_str(), &opened), JSQ_OK) << jsq_last_error();
  const Frame from_file(opened), from_memory = open(bytes->view());
  std::vector<float> file_values(elements), memory_values(elements);
  EXPECT_EQ(jsq_read(from_file.get(), 0, 0, elements, file_values.data()), JSQ_OK) << jsq_last_error();
  EXPECT_EQ(jsq_read(from_memory.get(), 0, 0, elements, memory_values.data()), JSQ_OK) << jsq_last_error();
  EXPECT_EQ(file_values, memory_values);
  std::filesystem::remove_all(folder);
}

TEST(Capi, ATensorIsFoundByItsName) {
  const std::unique_ptr<Bytes> bytes = compressed();
  const Frame frame = open(bytes->view());
  size_t index = 99;
  EXPECT_EQ(jsq_find_tensor(frame.get(), "layer.weight", &index), JSQ_OK) << jsq_last_error();
  EXPECT_EQ(index, 0u);
  index = 99;
  EXPECT_EQ(jsq_find_tensor(frame.get(), "layer.bias", &index), JSQ_UNKNOWN_NAME);
  EXPECT_TRUE(last_error_says("layer.bias")) << jsq_last_error();
  EXPECT_EQ(index, 99u);
}

TEST(Capi, FreeingAndClosingNullDoNothing) {
  jsq_free(nullptr);
  jsq_close(nullptr);
}

TEST(Capi, EveryNullThatIsNotAllowedIsNamed) {
  const std::vector<float> values = gradient();
  const jsq_array good = array_of(values);
  jsq_array no_data = good, no_shape = good;
  no_data.data = nullptr;
  no_shape.shape = nullptr;
  const std::unique_ptr<Bytes> bytes = compressed();
  const Frame frame = open(bytes->view());
  void* data = nullptr;
  size_t size = 0;
  jsq_frame* out = nullptr;
  jsq_tensor tensor = {sizeof(jsq_tensor)};
  float value = 0;

  const std::pair<std::string, std::function<int()>> calls[] = {
      {"jsq_compress: arrays", [&] { return jsq_compress(nullptr, 1, nullptr, &data, &size, nullptr); }},
      {"jsq_compress: frame", [&] { return jsq_compress(&good, 1, nullptr, nullptr, &size, nullptr); }},
      {"jsq_compress: size", [&] { return jsq_compress(&good, 1, nullptr, &data, nullptr, nullptr); }},
      {"jsq_compress: array->data",
       [&] { return jsq_compress(&no_data, 1, nullptr, &data, &size, nullptr); }},
      {"jsq_compress: array->shape",
       [&] { return jsq_compress(&no_shape, 1, nullptr, &data, &size, nullptr); }},
      {"jsq_open: path", [&] { return jsq_open(nullptr, &out); }},
      {"jsq_open: frame", [&] { return jsq_open("x.jsq", nullptr); }},
      {"jsq_open_memory: bytes", [&] { return jsq_open_memory(nullptr, 10, &out); }},
      {"jsq_open_memory: frame", [&] { return jsq_open_memory("x", 1, nullptr); }},
      {"jsq_tensor_count: frame", [&] { return jsq_tensor_count(nullptr, &size); }},
      {"jsq_tensor_count: count", [&] { return jsq_tensor_count(frame.get(), nullptr); }},
      {"jsq_find_tensor: frame", [&] { return jsq_find_tensor(nullptr, "w", &size); }},
      {"jsq_find_tensor: name", [&] { return jsq_find_tensor(frame.get(), nullptr, &size); }},
      {"jsq_find_tensor: index", [&] { return jsq_find_tensor(frame.get(), "layer.weight", nullptr); }},
      {"jsq_describe_tensor: frame", [&] { return jsq_describe_tensor(nullptr, 0, &tensor); }},
      {"jsq_describe_tensor: tensor", [&] { return jsq_describe_tensor(frame.get(), 0, nullptr); }},
      {"jsq_read: frame", [&] { return jsq_read(nullptr, 0, 0, 1, &value); }},
      {"jsq_read: values", [&] { return jsq_read(frame.get(), 0, 0, 1, nullptr); }},
      {"jsq_read_stored: frame", [&] { return jsq_read_stored(nullptr, 0, 0, 1, &value, 4); }},
      {"jsq_read_stored: out", [&] { return jsq_read_stored(frame.get(), 0, 0, 1, nullptr, 4); }},
  };
  for (const auto& [what, call] : calls) {
    EXPECT_EQ(call(), JSQ_USAGE) << what;
    EXPECT_TRUE(last_error_says(what + " is NULL")) << what << " gave: " << jsq_last_error();
  }
  EXPECT_EQ(data, nullptr);
  EXPECT_EQ(out, nullptr);
}

TEST(Capi, BadOptionsAreRefusedWithTheirCodes) {
  const std::vector<float> values = gradient();
  const jsq_array array = array_of(values);
  jsq_options wrong_size = options_with("ratio=32");
  wrong_size.size = 8;
  const std::tuple<int, const char*, jsq_options> cases[] = {
      {JSQ_UNKNOWN_NAME, "jointqs", options_with(nullptr, "jointqs")},
      {JSQ_UNKNOWN_NAME, "colour", options_with(nullptr, "jointsq:colour=red")},
      {JSQ_USAGE, "ratio=zero", options_with("ratio=zero")},
      {JSQ_USAGE, "maybe", options_with(nullptr, nullptr, "maybe")},
      {JSQ_USAGE, "sizeof", wrong_size},
      {JSQ_UNREACHABLE_TARGET, "", options_with("bytes=16B")},
  };
  for (const auto& [code, words, options] : cases) {
    void* data = nullptr;
    size_t size = 77;
    EXPECT_EQ(jsq_compress(&array, 1, &options, &data, &size, nullptr), code)
        << words << ": " << jsq_last_error();
    EXPECT_TRUE(last_error_says(words)) << jsq_last_error();
    EXPECT_EQ(data, nullptr);
    EXPECT_EQ(size, 77u);
  }
}

TEST(Capi, ElementTypesOutsideTheEnumAreRefused) {
  const std::vector<float> values = gradient();
  for (int dtype : {0, 5, -1, 1 << 30}) {
    jsq_array array = array_of(values);
    array.dtype = dtype;
    Bytes bytes;
    EXPECT_EQ(jsq_compress(&array, 1, nullptr, &bytes.data, &bytes.size, nullptr), JSQ_UNSUPPORTED_DTYPE)
        << dtype;
  }
}

TEST(Capi, ShapesBeyondMemoryAreRefusedBeforeDataIsTouched) {
  const float value = 0;
  const uint64_t max = std::numeric_limits<uint64_t>::max();
  const uint64_t shapes[][3] = {{max, 1, 1},
                                {max, max, 1},
                                {1ull << 32, 1ull << 32, 1},
                                {1ull << 61, 1, 1},
                                {1ull << 40, 0, 1ull << 40}};
  for (const auto& shape : shapes) {
    const jsq_array array = {&value, JSQ_F32, 3, shape, "w"};
    Bytes bytes;
    EXPECT_EQ(jsq_compress(&array, 1, nullptr, &bytes.data, &bytes.size, nullptr), JSQ_USAGE)
        << shape[0] << "x" << shape[1];
    EXPECT_TRUE(last_error_says("shape")) << jsq_last_error();
  }
}

TEST(Capi, NonFiniteValuesAreRefusedUnlessAskedFor) {
  std::vector<float> values = gradient();
  values[12] = std::numeric_limits<float>::quiet_NaN();
  const jsq_array array = array_of(values);
  Bytes refused, zeroed;
  jsq_options options = options_with("maxabs=1e-4");
  EXPECT_EQ(jsq_compress(&array, 1, &options, &refused.data, &refused.size, nullptr), JSQ_NON_FINITE);
  options.nonfinite = "zero";
  ASSERT_EQ(jsq_compress(&array, 1, &options, &zeroed.data, &zeroed.size, nullptr), JSQ_OK)
      << jsq_last_error();
  const Frame frame = open(zeroed.view());
  float value = 1;
  ASSERT_EQ(jsq_read(frame.get(), 0, 12, 1, &value), JSQ_OK) << jsq_last_error();
  EXPECT_NEAR(value, 0, 1e-4);
}

TEST(Capi, RangesAndIndicesBeyondTheTensorAreRefused) {
  const std::unique_ptr<Bytes> bytes = compressed();
  const Frame frame = open(bytes->view());
  const uint64_t max = std::numeric_limits<uint64_t>::max();
  std::vector<float> values(16, 3.0f);
  for (const auto& [first, count] :
       {std::pair<uint64_t, uint64_t>{elements, 1}, {elements - 1, 2}, {max, 1}, {1, max}, {max, max}}) {
    EXPECT_EQ(jsq_read(frame.get(), 0, first, count, values.data()), JSQ_USAGE) << first << "+" << count;
    EXPECT_EQ(jsq_read_stored(frame.get(), 0, first, count, values.data(), 64), JSQ_USAGE)
        << first << "+" << count;
  }
  EXPECT_EQ(values, std::vector<float>(16, 3.0f));
  jsq_tensor tensor = {sizeof(jsq_tensor)};
  EXPECT_EQ(jsq_describe_tensor(frame.get(), 1, &tensor), JSQ_USAGE);
  EXPECT_EQ(jsq_read(frame.get(), 1, 0, 0, nullptr), JSQ_USAGE);
  EXPECT_EQ(jsq_read_stored(frame.get(), 0, 0, 4, values.data(), 15), JSQ_USAGE);
  EXPECT_EQ(jsq_read_stored(frame.get(), 0, 0, 4, values.data(), 20), JSQ_USAGE);
}

TEST(Capi, WhatIsNoFrameDoesNotOpen) {
  jsq_frame* frame = nullptr;
  EXPECT_EQ(jsq_open("no/such/file.jsq", &frame), JSQ_NOT_FOUND);
  EXPECT_TRUE(last_error_says("no/such/file.jsq")) << jsq_last_error();
  const std::string npy("\x93NUMPY\x01\x00v\x00", 10);
  EXPECT_EQ(jsq_open_memory(npy.data(), npy.size(), &frame), JSQ_UNSUPPORTED_FORMAT) << jsq_last_error();
  EXPECT_EQ(jsq_open_memory(nullptr, 0, &frame), JSQ_DAMAGED) << jsq_last_error();
  EXPECT_EQ(frame, nullptr);
}

TEST(Capi, AFrameOfALaterFormatNeedsANewerJsq) {
  std::string later(compressed()->view());
  later[4] = '\x7f';  // the version; then features, then 16 bits of checksum over the six bytes before it
  const uint64_t checksum = XXH3_64bits(later.data(), 6);
  later[6] = char(checksum & 0xff);
  later[7] = char(checksum >> 8 & 0xff);
  jsq_frame* frame = nullptr;
  EXPECT_EQ(jsq_open_memory(later.data(), later.size(), &frame), JSQ_NEWER_FORMAT) << jsq_last_error();
  EXPECT_EQ(frame, nullptr);
}

TEST(Capi, ATruncatedFrameIsDamaged) {
  const std::unique_ptr<Bytes> bytes = compressed();
  for (size_t size : {bytes->size - 1, bytes->size / 2, size_t(8)}) {
    jsq_frame* frame = nullptr;
    EXPECT_EQ(jsq_open_memory(bytes->data, size, &frame), JSQ_DAMAGED) << size << ": " << jsq_last_error();
    EXPECT_EQ(frame, nullptr);
  }
}

TEST(Capi, AFlippedBitInABlockIsDamagedWhenThatBlockIsRead) {
  const std::unique_ptr<Bytes> bytes = compressed();
  std::string flipped(bytes->view());
  flipped[flipped.size() / 4] ^=
      0x10;  // within the first of two blocks: the directory is a small part at the end
  const Frame frame = open(flipped);
  ASSERT_NE(frame, nullptr);
  std::vector<float> values(elements);
  EXPECT_EQ(jsq_read(frame.get(), 0, 0, elements, values.data()), JSQ_DAMAGED) << jsq_last_error();
  EXPECT_EQ(jsq_read(frame.get(), 0, 70000, 1000, values.data()), JSQ_OK)
      << "the other block: " << jsq_last_error();
}

TEST(Capi, MessagesBelongToTheThreadThatFailed) {
  size_t count = 0;
  EXPECT_EQ(jsq_tensor_count(nullptr, &count), JSQ_USAGE);
  const std::string mine = jsq_last_error();
  std::thread([] {
    EXPECT_STREQ(jsq_last_error(), "");
    jsq_frame* frame = nullptr;
    EXPECT_EQ(jsq_open("no/such/file.jsq", &frame), JSQ_NOT_FOUND);
  }).join();
  EXPECT_EQ(jsq_last_error(), mine);
}

TEST(Capi, SeveralThreadsReadOneFrame) {
  const std::unique_ptr<Bytes> bytes = compressed();
  const Frame frame = open(bytes->view());
  std::vector<float> expected(elements);
  ASSERT_EQ(jsq_read(frame.get(), 0, 0, elements, expected.data()), JSQ_OK);
  std::vector<std::vector<float>> read(4, std::vector<float>(elements));
  std::vector<std::thread> threads;
  for (std::vector<float>& values : read)
    threads.emplace_back([&frame, &values] { jsq_read(frame.get(), 0, 0, elements, values.data()); });
  for (std::thread& thread : threads) thread.join();
  for (const std::vector<float>& values : read) EXPECT_EQ(values, expected);
}

// --- Several arrays, files, reports
// -------------------------------------------------------------------------

const uint64_t short_shape[] = {1000}, wide_shape[] = {20, 50};

/// gradient()'s first values as two tensors; the second lies in Fortran order.
std::vector<jsq_array> two_arrays(const std::vector<float>& values) {
  return {{values.data(), JSQ_F32, 1, short_shape, "bias"},
          {values.data() + 1000, JSQ_F32, 2, wide_shape, "weight", 1, 0}};
}

TEST(Capi, SeveralArraysAreOneFrameWithTheirNamesOrdersAndMethod) {
  const std::vector<float> values = gradient();
  const std::vector<jsq_array> arrays = two_arrays(values);
  const jsq_options options = options_with(nullptr, "fp32");
  Bytes bytes;
  ASSERT_EQ(jsq_compress(arrays.data(), arrays.size(), &options, &bytes.data, &bytes.size, nullptr), JSQ_OK)
      << jsq_last_error();
  const Frame frame = open(bytes.view());
  size_t count = 0, index = 0;
  ASSERT_EQ(jsq_tensor_count(frame.get(), &count), JSQ_OK);
  EXPECT_EQ(count, 2u);
  ASSERT_EQ(jsq_find_tensor(frame.get(), "weight", &index), JSQ_OK);
  jsq_tensor tensor = {sizeof(jsq_tensor)};
  ASSERT_EQ(jsq_describe_tensor(frame.get(), index, &tensor), JSQ_OK);
  EXPECT_EQ(tensor.fortran_order, 1);
  EXPECT_EQ(tensor.elements, 1000u);
  EXPECT_STREQ(tensor.method, "fp32");
  EXPECT_STREQ(tensor.dump, "arrays.npz");
  std::vector<float> read(1000);
  ASSERT_EQ(jsq_read(frame.get(), index, 0, 1000, read.data()), JSQ_OK) << jsq_last_error();
  EXPECT_EQ(read, std::vector<float>(values.begin() + 1000, values.begin() + 2000));
}

TEST(Capi, BigEndianElementsAreReadAsTheyAreMeant) {
  const std::vector<float> values = gradient();
  std::vector<uint32_t> swapped;
  for (float value : values) swapped.push_back(__builtin_bswap32(std::bit_cast<uint32_t>(value)));
  const jsq_array array = {swapped.data(), JSQ_F32, 2, matrix_shape, "w", 0, 1};
  const jsq_options options = options_with(nullptr, "fp32");
  Bytes bytes;
  ASSERT_EQ(jsq_compress(&array, 1, &options, &bytes.data, &bytes.size, nullptr), JSQ_OK) << jsq_last_error();
  const Frame frame = open(bytes.view());
  std::vector<float> read(elements);
  ASSERT_EQ(jsq_read(frame.get(), 0, 0, elements, read.data()), JSQ_OK);
  EXPECT_EQ(read, values);
}

TEST(Capi, ArraysThatMakeNoDumpAreRefused) {
  const std::vector<float> values = gradient();
  std::vector<jsq_array> arrays = two_arrays(values);
  jsq_options as_npy = options_with("ratio=8"), as_text = as_npy;
  as_npy.dump = "both.npy";
  as_text.dump = "both.txt";
  void* data = nullptr;
  size_t size = 0;
  EXPECT_EQ(jsq_compress(arrays.data(), 2, &as_npy, &data, &size, nullptr), JSQ_USAGE);
  EXPECT_TRUE(last_error_says("both.npy")) << jsq_last_error();
  EXPECT_EQ(jsq_compress(arrays.data(), 2, &as_text, &data, &size, nullptr), JSQ_USAGE);
  EXPECT_TRUE(last_error_says("both.txt")) << jsq_last_error();
  EXPECT_EQ(jsq_compress(arrays.data(), 0, nullptr, &data, &size, nullptr), JSQ_USAGE);
  EXPECT_TRUE(last_error_says("count is 0")) << jsq_last_error();
  arrays[1].name = arrays[0].name;
  EXPECT_EQ(jsq_compress(arrays.data(), 2, nullptr, &data, &size, nullptr), JSQ_USAGE);
  EXPECT_TRUE(last_error_says("two arrays are named 'bias'")) << jsq_last_error();
  EXPECT_EQ(data, nullptr);
}

TEST(Capi, TheReportIsWhatReadingTheFrameBackMeasures) {
  const std::vector<float> values = gradient();
  const jsq_array array = array_of(values);
  const jsq_options options = options_with("ratio=16");
  jsq_report report = {sizeof(jsq_report)};
  Bytes bytes;
  ASSERT_EQ(jsq_compress(&array, 1, &options, &bytes.data, &bytes.size, &report), JSQ_OK) << jsq_last_error();
  Bytes unmeasured;
  ASSERT_EQ(jsq_compress(&array, 1, &options, &unmeasured.data, &unmeasured.size, nullptr), JSQ_OK);
  EXPECT_EQ(unmeasured.view() == bytes.view(), true);
  const Frame frame = open(bytes.view());
  std::vector<float> read(elements);
  ASSERT_EQ(jsq_read(frame.get(), 0, 0, elements, read.data()), JSQ_OK);
  double error = 0, energy = 0, largest = 0, sum = 0;
  for (size_t i = 0; i < elements; ++i) {
    const double difference = double(read[i]) - double(values[i]);
    error += difference * difference;
    energy += double(values[i]) * double(values[i]);
    largest = std::max(largest, std::abs(difference));
    sum += difference;
  }
  EXPECT_EQ(report.file_bytes, bytes.size);
  EXPECT_EQ(report.elements, elements);
  EXPECT_EQ(report.input_bytes, elements * sizeof(float));
  EXPECT_NEAR(report.nmse, error / energy, 1e-9);
  EXPECT_EQ(report.max_error, largest);
  EXPECT_NEAR(report.mean_error, sum / double(elements), 1e-12);
  EXPECT_GT(report.hprime, 0);
}

TEST(Capi, AnOlderCallersShorterStructuresWork) {
  const std::vector<float> values = gradient();
  const jsq_array array = array_of(values);
  struct {
    jsq_options known;
  } older = {options_with("ratio=32")};
  older.known.size =
      offsetof(jsq_options, rounding);  // what jsq 0.1 had; what follows is not the library's to read
  older.known.rounding = reinterpret_cast<const char*>(1);
  older.known.state = reinterpret_cast<jsq_state*>(1);
  Bytes by_older, by_newer;
  ASSERT_EQ(jsq_compress(&array, 1, &older.known, &by_older.data, &by_older.size, nullptr), JSQ_OK)
      << jsq_last_error();
  const jsq_options now = options_with("ratio=32");
  ASSERT_EQ(jsq_compress(&array, 1, &now, &by_newer.data, &by_newer.size, nullptr), JSQ_OK);
  EXPECT_EQ(by_older.view(), by_newer.view());
}

TEST(Capi, ANewerCallersLargerStructuresWorkUnlessTheyAskForMore) {
  const std::vector<float> values = gradient();
  const jsq_array array = array_of(values);
  struct {
    jsq_options known;
    uint64_t unknown;
  } newer = {options_with("ratio=32"), 0};
  newer.known.size = sizeof newer;
  Bytes bytes, refused;
  EXPECT_EQ(jsq_compress(&array, 1, &newer.known, &bytes.data, &bytes.size, nullptr), JSQ_OK)
      << jsq_last_error();
  newer.unknown = 1;
  EXPECT_EQ(jsq_compress(&array, 1, &newer.known, &refused.data, &refused.size, nullptr), JSQ_USAGE);
  EXPECT_TRUE(last_error_says("newer jsq")) << jsq_last_error();
}

TEST(Capi, StructuresToFillNeedTheirSize) {
  const std::unique_ptr<Bytes> bytes = compressed();
  const Frame frame = open(bytes->view());
  jsq_tensor tensor = {};
  EXPECT_EQ(jsq_describe_tensor(frame.get(), 0, &tensor), JSQ_USAGE);
  EXPECT_TRUE(last_error_says("size")) << jsq_last_error();
  struct {
    jsq_tensor known;
    uint64_t unknown;
  } newer = {{sizeof newer}, 77};
  ASSERT_EQ(jsq_describe_tensor(frame.get(), 0, &newer.known), JSQ_OK);
  EXPECT_EQ(newer.known.size, sizeof newer);
  EXPECT_EQ(newer.unknown, 77u);
}

class CapiFiles : public testing::Test {
 protected:
  CapiFiles() {
    std::string name = (std::filesystem::temp_directory_path() / "jsq_capi_XXXXXX").string();
    folder = ::mkdtemp(name.data());
  }
  ~CapiFiles() override { std::filesystem::remove_all(folder); }
  std::string path(const char* name) const { return (folder / name).string(); }
  std::filesystem::path folder;
};

TEST_F(CapiFiles, AFileHasTheBytesOfMemoryAndReplacesWhatWasThere) {
  const std::vector<float> values = gradient();
  const jsq_array array = array_of(values);
  const jsq_options options = options_with("maxabs=1e-4");
  std::ofstream(path("a.jsq")) << "something else";
  ASSERT_EQ(jsq_compress_file(&array, 1, &options, path("a.jsq").c_str(), nullptr), JSQ_OK)
      << jsq_last_error();
  std::ifstream file(path("a.jsq"), std::ios::binary);
  const std::string written((std::istreambuf_iterator<char>(file)), {});
  EXPECT_EQ(written, compressed("maxabs=1e-4")->view());
}

TEST_F(CapiFiles, AFailureLeavesWhatWasThereAndNoTemporary) {
  const std::vector<float> values = gradient();
  const jsq_array array = array_of(values);
  const jsq_options impossible = options_with("bytes=16B");
  std::ofstream(path("a.jsq")) << "old";
  EXPECT_EQ(jsq_compress_file(&array, 1, &impossible, path("a.jsq").c_str(), nullptr),
            JSQ_UNREACHABLE_TARGET);
  EXPECT_EQ(jsq_compress_file(&array, 1, nullptr, path("no/such/folder.jsq").c_str(), nullptr),
            JSQ_WRITE_FAILED);
  EXPECT_TRUE(last_error_says("no/such/folder.jsq")) << jsq_last_error();
  EXPECT_EQ(std::filesystem::file_size(path("a.jsq")), 3u);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder), {}), 1);
}

TEST(Capi, MetadataComesBack) {
  const std::vector<float> values = gradient();
  const jsq_array array = array_of(values);
  jsq_options options = options_with("ratio=32");
  const char* const entries[] = {"step", "160", "model", "resnet20"};
  options.metadata = entries;
  options.metadata_count = 2;
  Bytes bytes;
  ASSERT_EQ(jsq_compress(&array, 1, &options, &bytes.data, &bytes.size, nullptr), JSQ_OK) << jsq_last_error();
  const Frame frame = open(bytes.view());
  size_t count = 0;
  ASSERT_EQ(jsq_metadata_count(frame.get(), &count), JSQ_OK);
  ASSERT_EQ(count, 2u);
  const char *key = nullptr, *value = nullptr;
  ASSERT_EQ(jsq_metadata(frame.get(), 1, &key, &value), JSQ_OK);
  EXPECT_STREQ(key, "model");
  EXPECT_STREQ(value, "resnet20");
  EXPECT_EQ(jsq_metadata(frame.get(), 2, &key, &value), JSQ_USAGE);
}

TEST(Capi, TheNearestTargetIsReachedWhenAskedFor) {
  const std::vector<float> values = gradient();
  const jsq_array array = array_of(values);
  jsq_options options = options_with("ratio=1000", "qsgd");
  Bytes bytes;
  ASSERT_EQ(jsq_compress(&array, 1, &options, &bytes.data, &bytes.size, nullptr), JSQ_UNREACHABLE_TARGET);
  const std::string nearest = jsq_last_nearest_target();
  options.target = nearest.c_str();
  EXPECT_EQ(jsq_compress(&array, 1, &options, &bytes.data, &bytes.size, nullptr), JSQ_OK) << jsq_last_error();
  size_t count = 0;
  EXPECT_EQ(jsq_tensor_count(nullptr, &count), JSQ_USAGE);
  EXPECT_STREQ(jsq_last_nearest_target(), "") << "another error knows no target";
}

TEST(Capi, ExitCodesAreThoseOfTheProgram) {
  EXPECT_EQ(jsq_exit_code(JSQ_OK), 0);
  EXPECT_EQ(jsq_exit_code(JSQ_USAGE), 2);
  EXPECT_EQ(jsq_exit_code(JSQ_NOT_FOUND), 3);
  EXPECT_EQ(jsq_exit_code(JSQ_DAMAGED), 5);
  EXPECT_EQ(jsq_exit_code(JSQ_UNREACHABLE_TARGET), 8);
  EXPECT_EQ(jsq_exit_code(-1), 70);
}

// --- States
// ---------------------------------------------------------------------------------------------------

struct FreeState {
  void operator()(jsq_state* state) const { jsq_state_free(state); }
};
using KeptState = std::unique_ptr<jsq_state, FreeState>;

KeptState new_state() {
  jsq_state* state = nullptr;
  EXPECT_EQ(jsq_state_new(&state), JSQ_OK) << jsq_last_error();
  return KeptState(state);
}

/// Top-k of one step with feedback; the frame's values.
std::vector<float> step(const std::vector<float>& values, jsq_state* state, const char* feedback = nullptr) {
  const jsq_array array = array_of(values);
  jsq_options options = options_with("ratio=50", "topk");
  options.state = state;
  options.feedback = feedback;
  Bytes bytes;
  EXPECT_EQ(jsq_compress(&array, 1, &options, &bytes.data, &bytes.size, nullptr), JSQ_OK) << jsq_last_error();
  const Frame frame = open(bytes.view());
  std::vector<float> read(elements);
  EXPECT_EQ(jsq_read(frame.get(), 0, 0, elements, read.data()), JSQ_OK) << jsq_last_error();
  return read;
}

TEST(Capi, TheResidualIsWhatTheStepsDidNotSend) {
  const std::vector<float> values = gradient();
  const KeptState state = new_state();
  const std::vector<float> first = step(values, state.get()), second = step(values, state.get());
  uint64_t steps = 0, count = 0;
  const char* method = nullptr;
  ASSERT_EQ(jsq_state_describe(state.get(), &steps, &method), JSQ_OK);
  EXPECT_EQ(steps, 2u);
  EXPECT_STREQ(method, "topk");
  const float* residual = nullptr;
  ASSERT_EQ(jsq_state_array(state.get(), "layer.weight", "e", &residual, &count), JSQ_OK) << jsq_last_error();
  ASSERT_EQ(count, elements);
  for (size_t i = 0; i < elements; ++i)
    ASSERT_NEAR(residual[i], 2 * double(values[i]) - double(first[i]) - double(second[i]), 1e-8) << i;
}

TEST(Capi, ASavedStateGoesOnExactly) {
  const std::vector<float> values = gradient();
  const KeptState state = new_state();
  step(values, state.get());
  Bytes saved;
  ASSERT_EQ(jsq_state_save_memory(state.get(), &saved.data, &saved.size), JSQ_OK) << jsq_last_error();
  jsq_state* opened = nullptr;
  ASSERT_EQ(jsq_state_open_memory(saved.data, saved.size, &opened), JSQ_OK) << jsq_last_error();
  const KeptState again(opened);
  EXPECT_EQ(step(values, again.get()), step(values, state.get()));
}

TEST_F(CapiFiles, AStateInAFileGoesOnExactly) {
  const std::vector<float> values = gradient();
  const KeptState state = new_state();
  step(values, state.get());
  ASSERT_EQ(jsq_state_save(state.get(), path("w.state").c_str()), JSQ_OK) << jsq_last_error();
  jsq_state* opened = nullptr;
  ASSERT_EQ(jsq_state_open(path("w.state").c_str(), &opened), JSQ_OK) << jsq_last_error();
  const KeptState again(opened);
  EXPECT_EQ(step(values, again.get()), step(values, state.get()));
}

TEST(Capi, AStepThatFailsLeavesTheStateAsItWas) {
  const std::vector<float> values = gradient();
  const KeptState state = new_state(), other = new_state();
  step(values, state.get());
  step(values, other.get());
  const jsq_array array = array_of(values);
  jsq_options options = options_with("bytes=16B", "topk");
  options.state = state.get();
  Bytes bytes;
  EXPECT_EQ(jsq_compress(&array, 1, &options, &bytes.data, &bytes.size, nullptr), JSQ_UNREACHABLE_TARGET);
  options.target = "ratio=50";
  options.method = "dgc";
  EXPECT_EQ(jsq_compress(&array, 1, &options, &bytes.data, &bytes.size, nullptr), JSQ_USAGE);
  EXPECT_EQ(jsq_compress_file(&array, 1, &options, "no/such/folder.jsq", nullptr), JSQ_WRITE_FAILED);
  EXPECT_EQ(step(values, state.get()), step(values, other.get()));
}

TEST(Capi, FeedbackIsChosenByItsTextAndNeedsAState) {
  const std::vector<float> values = gradient();
  const KeptState none = new_state(), momentum = new_state();
  step(values, none.get(), "none");
  const std::vector<float> second = step(values, none.get(), "none");
  for (size_t i = 0; i < elements; ++i)
    ASSERT_TRUE(second[i] == 0 || second[i] == values[i]) << i << ": something was carried over";
  step(values, momentum.get(), "momentum:0.5");
  const float* array = nullptr;
  uint64_t count = 0;
  EXPECT_EQ(jsq_state_array(momentum.get(), "layer.weight", "u", &array, &count), JSQ_OK) << jsq_last_error();
  EXPECT_EQ(jsq_state_array(none.get(), "layer.weight", "e", &array, &count), JSQ_UNKNOWN_NAME);

  const jsq_array input = array_of(values);
  jsq_options options = options_with("ratio=50", "topk");
  options.feedback = "plain";
  Bytes bytes;
  EXPECT_EQ(jsq_compress(&input, 1, &options, &bytes.data, &bytes.size, nullptr), JSQ_USAGE);
  EXPECT_TRUE(last_error_says("needs a state")) << jsq_last_error();
  const KeptState state = new_state();
  options.state = state.get();
  for (const char* text : {"momentum:1", "momentum:x", "momentum:", "sometimes", ""}) {
    options.feedback = text;
    EXPECT_EQ(jsq_compress(&input, 1, &options, &bytes.data, &bytes.size, nullptr), JSQ_USAGE) << text;
  }
}

TEST(Capi, AFrameThatIsNoStateIsRefused) {
  const std::unique_ptr<Bytes> bytes = compressed();
  jsq_state* state = nullptr;
  EXPECT_EQ(jsq_state_open_memory(bytes->data, bytes->size, &state), JSQ_USAGE) << jsq_last_error();
  EXPECT_EQ(jsq_state_open_memory(nullptr, 0, &state), JSQ_DAMAGED) << jsq_last_error();
  EXPECT_EQ(jsq_state_open("no/such/file.state", &state), JSQ_NOT_FOUND) << jsq_last_error();
  EXPECT_EQ(state, nullptr);
}

TEST(Capi, TheThreadsOfAFrameDoNotChangeWhatIsRead) {
  const std::unique_ptr<Bytes> bytes = compressed();
  const Frame frame = open(bytes->view());
  std::vector<float> all(elements), one(elements);
  ASSERT_EQ(jsq_read(frame.get(), 0, 0, elements, all.data()), JSQ_OK);
  ASSERT_EQ(jsq_set_threads(frame.get(), 1), JSQ_OK);
  ASSERT_EQ(jsq_read(frame.get(), 0, 0, elements, one.data()), JSQ_OK);
  EXPECT_EQ(one, all);
  EXPECT_EQ(jsq_set_threads(nullptr, 1), JSQ_USAGE);
}

// --- Noise and bounds
// -----------------------------------------------------------------------------------------

TEST(Capi, NoiseHasTheModelsOfTheCppInterfaceBesideWhatCodingLost) {
  const std::vector<float> values = gradient();
  const jsq_array array = array_of(values);
  const jsq_options options = options_with("ratio=16");
  jsq_noise_report noise = {sizeof(jsq_noise_report)};
  ASSERT_EQ(jsq_noise(&array, 1, &options, "exact", &noise), JSQ_OK) << jsq_last_error();
  const jsq::Allocation allocation = jsq::allocate(values, jsq::WidthSet(), noise.coded_payload_bits);
  EXPECT_EQ(noise.payload_bits, allocation.payload_bits);
  EXPECT_DOUBLE_EQ(noise.hprime, jsq::analyze_noise(values, allocation).per_element);
  EXPECT_DOUBLE_EQ(noise.h_uniform, jsq::analyze_noise(values, allocation).uniform);
  EXPECT_GT(noise.exchange_gain, noise.exchange_loss) << "Eq. 9: better than uniform";

  jsq_report report = {sizeof(jsq_report)};
  Bytes bytes;
  ASSERT_EQ(jsq_compress(&array, 1, &options, &bytes.data, &bytes.size, &report), JSQ_OK);
  EXPECT_EQ(noise.file_bytes, bytes.size);
  EXPECT_EQ(noise.nmse, report.nmse);
  EXPECT_EQ(noise.coded_hprime, report.hprime);

  jsq_noise_report literal = {sizeof(jsq_noise_report)};
  ASSERT_EQ(jsq_noise(&array, 1, &options, "literal", &literal), JSQ_OK) << jsq_last_error();
  EXPECT_LE(noise.hprime, literal.hprime) << "the exact allocator is the optimum of the model";
}

TEST(Capi, NoiseIsRefusedWhereThereIsNoAllocator) {
  const std::vector<float> values = gradient();
  const jsq_array array = array_of(values);
  const KeptState state = new_state();
  jsq_options topk = options_with("ratio=16", "topk"),
              narrow = options_with("ratio=16", "jointsq:widths=024"), step = options_with("ratio=16");
  step.state = state.get();
  jsq_noise_report noise = {sizeof(jsq_noise_report)};
  EXPECT_EQ(jsq_noise(&array, 1, &topk, "exact", &noise), JSQ_USAGE);
  EXPECT_EQ(jsq_noise(&array, 1, &step, "exact", &noise), JSQ_USAGE);
  EXPECT_EQ(jsq_noise(&array, 1, &narrow, "reallocated", &noise), JSQ_USAGE) << jsq_last_error();
  EXPECT_EQ(jsq_noise(&array, 1, nullptr, "best", &noise), JSQ_UNKNOWN_NAME);
  noise.size = 8;
  EXPECT_EQ(jsq_noise(&array, 1, nullptr, "exact", &noise), JSQ_USAGE);
}

TEST(Capi, BoundsOfGaussianValuesAreTheirRateDistortionFunction) {
  std::vector<float> values(200000);
  uint64_t state = 1;
  const auto uniform = [&state] {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double(state >> 11) + 0.5) * 0x1p-53;
  };
  for (float& value : values)
    value = float(std::sqrt(-2 * std::log(uniform())) * std::cos(2 * std::acos(-1.0) * uniform()));
  const uint64_t shape[] = {values.size()};
  const jsq_array array = {values.data(), JSQ_F32, 1, shape, "g"};
  jsq_bounds* bounds = nullptr;
  ASSERT_EQ(jsq_bounds_new(&array, 1, 2, &bounds), JSQ_OK) << jsq_last_error();
  for (double bits : {0.5, 1.0, 2.0}) {
    double nmse = 0, back = 0;
    ASSERT_EQ(jsq_bounds_nmse(bounds, "pooled", bits, &nmse), JSQ_OK) << jsq_last_error();
    EXPECT_NEAR(nmse / std::exp2(-2 * bits), 1, 0.02) << "D(R) = 2^-2R";
    ASSERT_EQ(jsq_bounds_bits(bounds, "pooled", nmse, &back), JSQ_OK);
    EXPECT_NEAR(back, bits, 1e-3);
  }
  double nmse = 7;
  EXPECT_EQ(jsq_bounds_nmse(bounds, "gaussian", 1, &nmse), JSQ_UNKNOWN_NAME);
  EXPECT_EQ(jsq_bounds_nmse(bounds, "pooled", -1, &nmse), JSQ_USAGE);
  EXPECT_EQ(jsq_bounds_nmse(bounds, "pooled", std::nan(""), &nmse), JSQ_USAGE);
  EXPECT_EQ(nmse, 7);
  jsq_bounds_free(bounds);
}

}  // namespace

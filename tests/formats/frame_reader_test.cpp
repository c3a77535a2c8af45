// What a reader of frames finds and refuses besides decoding: tensors by name, ranges, files that are no
// frames.
#include "jsq/frame.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <numeric>
#include <string>

#include "jsq/compress.hpp"
#include "jsq/error.hpp"

namespace jsq {
namespace {

std::string frame_of(const std::vector<std::pair<std::string, std::string>>& paths_and_names,
                     const std::string& method = "fp32") {
  static const std::vector<float> values = [] {
    std::vector<float> ramp(4000);
    for (size_t i = 0; i < ramp.size(); ++i) ramp[i] = float(int(i * 7919 % 201) - 100) * 0.01f;
    return ramp;
  }();
  std::vector<InputDump> dumps;
  for (const auto& [path, name] : paths_and_names) {
    TensorInfo info;
    info.name = name;
    info.shape = {40, 100};
    dumps.push_back({path, source_of(info, values), {}, true});
  }
  CompressOptions options;
  options.method.name = method;
  options.target = method == "fp32" ? Target{TargetKind::native, 0} : Target{TargetKind::ratio, 6};
  MemorySink sink;
  compress(dumps, options, sink);
  return sink.bytes;
}

Error error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  return Error(Errc::internal, "nothing was thrown");
}

TEST(FrameReader, FindsTensorsByNameByPathAndByBoth) {
  const std::string bytes = frame_of({{"a.npy", "weight"}, {"b.npy", "weight"}, {"c.npy", "bias"}});
  const FrameReader frame = FrameReader::from_bytes(bytes);
  EXPECT_EQ(frame.find("bias"), 2u);
  EXPECT_EQ(frame.find("b.npy"), 1u);
  EXPECT_EQ(frame.find("b.npy::weight"), 1u);
  const Error several = error_of([&] { frame.find("weight"); });
  EXPECT_EQ(several.code(), Errc::unknown_name);
  EXPECT_NE(std::string(several.what()).find("names 2 tensors; write PATH::NAME"), std::string::npos)
      << several.what();
  const Error none = error_of([&] { frame.find("wieght"); });
  EXPECT_EQ(none.code(), Errc::unknown_name);
  EXPECT_NE(std::string(none.what()).find("jsq list"), std::string::npos) << none.what();
}

TEST(FrameReader, RefusesARangeBeyondTheTensor) {
  const std::string bytes = frame_of({{"a.npy", "weight"}});
  const FrameReader frame = FrameReader::from_bytes(bytes);
  std::vector<float> values(2);
  EXPECT_NO_THROW(frame.read(0, 3998, values));
  for (const uint64_t first : {uint64_t(3999), uint64_t(4001), UINT64_MAX - 1, UINT64_MAX}) {
    const Error error = error_of([&] { frame.read(0, first, values); });
    EXPECT_EQ(error.code(), Errc::usage) << first;
    EXPECT_NE(std::string(error.what()).find("of a tensor of 4000"), std::string::npos) << error.what();
  }
}

TEST(FrameReader, TellsWhatEachLayerTakesAsFarAsTheCodeIs) {
  const std::string plain = frame_of({{"a.npy", "weight"}}), coded = frame_of({{"a.npy", "weight"}}, "rdoq");
  EXPECT_FALSE(FrameReader::from_bytes(plain).coding_of(0).has_value());
  const FrameReader frame = FrameReader::from_bytes(coded);
  const std::optional<TensorCoding> coding = frame.coding_of(0);
  ASSERT_TRUE(coding.has_value());
  double bits = coding->table_bits;
  for (const LayerCoding& layer : coding->layers)
    bits += layer.scale_bits + layer.residual_bits + layer.factor_bits;
  const FrameSizes sizes = frame.sizes();
  // Ideal code lengths: streams add their states and lengths, and round up to bytes.
  EXPECT_NEAR(bits / 8, double(sizes.blocks + sizes.parameters),
              0.03 * double(sizes.blocks + sizes.parameters));
}

TEST(FrameReader, OfAMovedReaderReadsTheSame) {
  const std::string bytes = frame_of({{"a.npy", "weight"}});
  FrameReader first = FrameReader::from_bytes(bytes), second = FrameReader::from_bytes(bytes);
  second = std::move(first);
  std::vector<float> values(1);
  second.read(0, 0, values);
  EXPECT_EQ(values[0], -1.0f);
}

TEST(FrameReader, SaysWhyAFileIsNoFrame) {
  EXPECT_EQ(error_of([] { FrameReader::open("/nonexistent/grad.jsq"); }).code(), Errc::not_found);
  EXPECT_EQ(error_of([] { FrameReader::from_bytes(""); }).code(), Errc::damaged);
  EXPECT_EQ(
      error_of([] { FrameReader::from_bytes("\x93NUMPY and more bytes than a frame has at least"); }).code(),
      Errc::unsupported_format);
}

}  // namespace
}  // namespace jsq

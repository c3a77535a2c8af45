// The golden frames on the device: they decode to the processor's bits, whole and in slices.
#include <gtest/gtest.h>

#include <bit>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "jsq/frame.hpp"
#include "tests/gpu/device.hpp"

namespace jsq {
namespace {

class GoldenFramesOnDevice : public test::OnDevice {};

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void expect_processors_bits(const std::string& bytes, size_t t) {
  const FrameReader by_cpu = FrameReader::from_bytes(bytes);
  FrameReader by_cuda = FrameReader::from_bytes(bytes);
  by_cuda.use(Backend::cuda);
  const uint64_t elements = by_cpu.tensors()[t].info.elements();
  std::vector<float> expected(elements), found(elements, 42.0f);
  by_cpu.read(t, 0, expected);
  by_cuda.read(t, 0, found);
  for (size_t i = 0; i < elements; ++i)
    ASSERT_EQ(std::bit_cast<uint32_t>(expected[i]), std::bit_cast<uint32_t>(found[i]))
        << "tensor " << t << ", element " << i;
  const uint64_t first = elements / 3;
  found.assign(size_t(elements / 2), 42.0f);
  by_cuda.read(t, first, found);
  for (size_t i = 0; i < found.size(); ++i)
    ASSERT_EQ(std::bit_cast<uint32_t>(expected[first + i]), std::bit_cast<uint32_t>(found[i]))
        << "tensor " << t << ", element " << first + i << " of a slice";
}

TEST_F(GoldenFramesOnDevice, DecodeToTheProcessorsBitsCleanly) {
  size_t decoded = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(JSQ_SOURCE_DIR) / "tests/golden/frames")) {
    if (entry.path().extension() != ".jsq") continue;
    SCOPED_TRACE(entry.path().filename().string());
    const std::string bytes = read_file(entry.path());
    for (size_t t = 0; t < FrameReader::from_bytes(bytes).tensors().size(); ++t) {
      expect_processors_bits(bytes, t);
      ++decoded;
    }
  }
  EXPECT_GT(decoded, 100u);
}

}  // namespace
}  // namespace jsq

// The golden frames on the device: what has a decoder there decodes to the processor's bits, whole and in
// slices.
#include <gtest/gtest.h>

#include <bit>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>

#include "jsq/error.hpp"
#include "jsq/frame.hpp"
#include "tests/gpu/device.hpp"

namespace jsq {
namespace {

class GoldenFramesOnDevice : public test::OnDevice {};

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// Why the device does not decode a tensor; empty where it does.
std::string expect_processors_bits(const std::string& bytes, size_t t) {
  const FrameReader by_cpu = FrameReader::from_bytes(bytes);
  FrameReader by_cuda = FrameReader::from_bytes(bytes);
  const uint64_t elements = by_cpu.tensors()[t].info.elements();
  try {
    by_cuda.use(Backend::cuda);
    std::vector<float> expected(elements), found(elements, 42.0f);
    by_cpu.read(t, 0, expected);
    by_cuda.read(t, 0, found);
    for (size_t i = 0; i < elements; ++i)
      if (std::bit_cast<uint32_t>(expected[i]) != std::bit_cast<uint32_t>(found[i])) {
        ADD_FAILURE() << "tensor " << t << ", element " << i << ": " << found[i] << ", expected "
                      << expected[i];
        return {};
      }
    const uint64_t first = elements / 3;
    found.assign(size_t(elements / 2), 42.0f);
    by_cuda.read(t, first, found);
    EXPECT_TRUE(std::equal(found.begin(), found.end(), expected.begin() + std::ptrdiff_t(first)));
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::backend_unavailable) << error.what();
    return error.what();
  }
  return {};
}

TEST_F(GoldenFramesOnDevice, DecodeToTheProcessorsBitsCleanly) {
  std::set<std::string> refused;
  size_t decoded = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(JSQ_SOURCE_DIR) / "tests/golden/frames")) {
    if (entry.path().extension() != ".jsq") continue;
    SCOPED_TRACE(entry.path().filename().string());
    const std::string bytes = read_file(entry.path());
    for (size_t t = 0; t < FrameReader::from_bytes(bytes).tensors().size(); ++t) {
      const std::string refusal = expect_processors_bits(bytes, t);
      decoded += refusal.empty();
      if (!refusal.empty()) refused.insert(entry.path().stem().string());
    }
  }
  EXPECT_GT(decoded, 100u);
  for (const std::string& name : refused) EXPECT_NE(name.find("onebit_group"), std::string::npos) << name;
}

}  // namespace
}  // namespace jsq

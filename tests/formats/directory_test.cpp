// The directory of a frame under checksums that are right: whatever its integers claim, opening the frame
// either works or names the damage, and asks for no memory that the file does not justify. What one field at
// a time may be is in tests/golden/corrupt.
#include "formats/wire/directory.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "jsq/error.hpp"
#include "jsq/frame.hpp"
#include "tests/hostile_fields.hpp"
#include "tests/largest_allocation.hpp"

namespace jsq::wire {
namespace {

constexpr size_t most_memory = size_t(16) << 20;

/// A golden frame in parts; `directory` is empty where it is stored packed.
struct Parts {
  std::string before, directory;
};

Parts parts_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  ByteReader footer(std::string_view(bytes).substr(bytes.size() - footer_bytes), "footer");
  const size_t size = footer.u32(), begin = bytes.size() - footer_bytes - size;
  return {bytes.substr(0, begin), bytes[begin] == 0 ? bytes.substr(begin, size) : std::string()};
}

std::string sealed(const Parts& parts, const std::string& directory) {
  return parts.before + directory +
         write_footer(std::string_view(parts.before).substr(0, header_bytes), directory);
}

TEST(HostileDirectory, WithAnyIntegerSetToAnExtremeIsReadOrRefusedWithinSixteenMebibytes) {
  size_t frames = 0, refused = 0, read = 0;
  for (const auto& entry : std::filesystem::directory_iterator(JSQ_SOURCE_DIR "/tests/golden/frames")) {
    const Parts parts = parts_of(entry.path());
    if (parts.directory.empty() || parts.directory.size() > 200) continue;
    ASSERT_NO_THROW(FrameReader::from_bytes(sealed(parts, parts.directory))) << entry.path();
    ++frames;
    test::for_each_hostile_field(parts.directory, [&](const std::string& directory) {
      const std::string frame = sealed(parts, directory);
      test::largest_allocation = 0;
      try {
        FrameReader::from_bytes(frame);
        ++read;
      } catch (const Error& error) {
        EXPECT_TRUE(error.code() == Errc::damaged || error.code() == Errc::newer_format ||
                    error.code() == Errc::limit)
            << entry.path() << ": " << error.what();
        ++refused;
      }
      EXPECT_LE(test::largest_allocation, most_memory) << entry.path();
    });
    if (HasFailure()) return;
  }
  EXPECT_GT(frames, 100u);
  EXPECT_GT(refused, read);  // names, the seed and parameters may be anything here
}

}  // namespace
}  // namespace jsq::wire

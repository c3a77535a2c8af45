// Holds FrameReader to the golden frames, through the public API: each decodes bit for bit to what the
// independent decoder made of it (expected.tsv), and each corrupt frame, flipped bit, truncation and trailing
// byte is refused with its error.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "jsq/error.hpp"
#include "jsq/frame.hpp"
#include "jsq/gradients.hpp"
#include "jsq/tensor.hpp"

namespace jsq {
namespace {

const std::filesystem::path folder = std::filesystem::path(JSQ_SOURCE_DIR) / "tests" / "golden";

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << "cannot open " << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::vector<std::string>> read_table(const std::filesystem::path& path) {
  std::vector<std::vector<std::string>> rows;
  std::istringstream lines(read_file(path));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    rows.emplace_back();
    for (std::string field; std::getline(fields, field, '\t');) rows.back().push_back(field);
  }
  return rows;
}

/// FIPS 180-4. The constants are the fractional parts of the cube and square roots of the first primes, found
/// in integers.
class Sha256 {
 public:
  static std::string hex(std::string message) {
    const uint64_t bits = message.size() * 8;
    message.push_back(char(0x80));
    while (message.size() % 64 != 56) message.push_back('\0');
    for (int shift = 56; shift >= 0; shift -= 8) message.push_back(char(uint8_t(bits >> shift)));
    std::array<uint32_t, 8> state;
    for (size_t i = 0; i < 8; ++i) state[i] = root_fraction(prime(i), 2);
    std::array<uint32_t, 64> constants;
    for (size_t i = 0; i < 64; ++i) constants[i] = root_fraction(prime(i), 3);
    for (size_t at = 0; at < message.size(); at += 64) absorb(message.data() + at, constants, state);
    std::string text;
    for (uint32_t word : state) {
      char digits[9];
      std::snprintf(digits, sizeof digits, "%08x", word);
      text += digits;
    }
    return text;
  }

 private:
  static uint32_t prime(size_t index) {
    for (uint32_t candidate = 2;; ++candidate) {
      bool divisible = false;
      for (uint32_t d = 2; d * d <= candidate; ++d) divisible = divisible || candidate % d == 0;
      if (!divisible && index-- == 0) return candidate;
    }
  }
  /// The first 32 bits of the fraction of the `degree`-th root: floor(root x 2^32), bit by bit.
  static uint32_t root_fraction(uint32_t value, int degree) {
    uint64_t root = 0;
    for (int bit = 36; bit >= 0; --bit) {
      const unsigned __int128 next = root | uint64_t(1) << bit;
      const unsigned __int128 power = degree == 2 ? next * next : next * next * next;
      if (power <= static_cast<unsigned __int128>(value) << 32 * degree) root = uint64_t(next);
    }
    return uint32_t(root);
  }
  static void absorb(const char* block, const std::array<uint32_t, 64>& constants,
                     std::array<uint32_t, 8>& state) {
    std::array<uint32_t, 64> w;
    for (size_t i = 0; i < 16; ++i) {
      w[i] = 0;
      for (size_t b = 0; b < 4; ++b) w[i] = w[i] << 8 | uint8_t(block[4 * i + b]);
    }
    for (size_t i = 16; i < 64; ++i) {
      const uint32_t s0 = std::rotr(w[i - 15], 7) ^ std::rotr(w[i - 15], 18) ^ w[i - 15] >> 3;
      const uint32_t s1 = std::rotr(w[i - 2], 17) ^ std::rotr(w[i - 2], 19) ^ w[i - 2] >> 10;
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    auto [a, b, c, d, e, f, g, h] = state;
    for (size_t i = 0; i < 64; ++i) {
      const uint32_t s1 = std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25);
      const uint32_t t1 = h + s1 + ((e & f) ^ (~e & g)) + constants[i] + w[i];
      const uint32_t s0 = std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22);
      const uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
      h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
    }
    const std::array<uint32_t, 8> add = {a, b, c, d, e, f, g, h};
    for (size_t i = 0; i < 8; ++i) state[i] += add[i];
  }
};

std::string stored_elements(const FrameReader& frame, size_t t) {
  const TensorInfo& info = frame.tensors()[t].info;
  std::string bytes(size_t(info.stored_bytes()), '\0');
  frame.read_stored(t, 0, info.elements(), std::as_writable_bytes(std::span(bytes)));
  return bytes;
}

/// The error with which a frame in memory is refused when everything in it is read, block by block; none if
/// it is not.
std::optional<Errc> refusal(const std::string& bytes) {
  try {
    const FrameReader frame = FrameReader::from_bytes(bytes);
    for (size_t t = 0; t < frame.tensors().size(); ++t) {
      const TensorInfo& info = frame.tensors()[t].info;
      const uint64_t length = uint64_t(1) << frame.tensors()[t].block_log2, elements = info.elements();
      for (uint64_t first = 0; first < elements; first += length) {
        const uint64_t count = std::min(length, elements - first);
        std::vector<std::byte> out(size_t(count) * dtype_bytes(info.dtype));
        frame.read_stored(t, first, count, out);
      }
    }
    return std::nullopt;
  } catch (const Error& error) {
    return error.code();
  }
}

std::string describe(std::optional<Errc> code) {
  return code ? error_name(*code) : "decoded";
}

/// Two frames of less than 2 KiB: a raw map in one block; entropy-coded blocks in five tensors.
const std::vector<std::string> small_frames = {"spec_example", "several_tensors"};

std::string small_frame(const std::string& name) {
  return read_file(folder / "frames" / (name + ".jsq"));
}

TEST(GoldenFrame, TheDigestsOfThisTestAreSha256) {
  // FIPS 180-4, examples B.1 and B.2.
  EXPECT_EQ(Sha256::hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Sha256::hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

TEST(GoldenFrame, DecodesToTheBitsOfTheIndependentDecoder) {
  const auto rows = read_table(folder / "expected.tsv");
  ASSERT_GT(rows.size(), 100u);
  std::map<std::string, std::vector<std::vector<std::string>>> frames;
  for (const auto& row : rows) frames[row[0]].push_back(row);
  for (const auto& [name, tensors] : frames) {
    SCOPED_TRACE(name);
    const std::string bytes = read_file(folder / name);
    const FrameReader frame = FrameReader::from_bytes(bytes, name);
    ASSERT_EQ(frame.tensors().size(), tensors[0][1] == "none" ? 0u : tensors.size());
    EXPECT_TRUE(frame.test(false).empty());
    for (size_t t = 0; t < frame.tensors().size(); ++t) {
      const TensorInfo& info = frame.tensors()[t].info;
      std::string shape;
      for (uint64_t extent : info.shape) shape += (shape.empty() ? "" : ",") + std::to_string(extent);
      constexpr std::array<const char*, 5> types = {"", "f2", "V2", "f4", "f8"};
      EXPECT_EQ(std::to_string(t), tensors[t][1]);
      EXPECT_EQ((info.big_endian ? ">" : "<") + std::string(types[size_t(info.dtype)]), tensors[t][2]);
      EXPECT_EQ(shape.empty() ? "scalar" : shape, tensors[t][3]);
      EXPECT_EQ(info.fortran_order ? "F" : "C", tensors[t][4]);
      EXPECT_EQ(Sha256::hex(stored_elements(frame, t)), tensors[t][5]) << "tensor " << t;
    }
  }
}

TEST(GoldenFrame, EveryFrameHasAnExpectationAndEveryCorruptFrameAnError) {
  std::vector<std::string> listed, present;
  for (const auto& row : read_table(folder / "expected.tsv")) listed.push_back(row[0]);
  for (const auto& row : read_table(folder / "corrupt" / "errors.tsv")) listed.push_back("corrupt/" + row[0]);
  for (const std::string part : {"frames", "synthetic", "corrupt"})
    for (const auto& entry : std::filesystem::directory_iterator(folder / part))
      if (entry.path().extension() == ".jsq")
        present.push_back(part + "/" + entry.path().filename().string());
  std::sort(listed.begin(), listed.end());
  listed.erase(std::unique(listed.begin(), listed.end()), listed.end());
  std::sort(present.begin(), present.end());
  EXPECT_EQ(listed, present);
}

TEST(GoldenFrame, ComesBackAsTheNpyFileThatItWas) {
  const std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("jsq-golden-test-" + std::to_string(getpid()) + ".npy");
  size_t dumps = 0;
  for (const auto& row : read_table(folder / "expected.tsv")) {
    if (row[1] != "0") continue;
    const FrameReader frame = FrameReader::open((folder / row[0]).string());
    if (frame.dumps().size() != 1 || frame.dumps()[0].tensor_count != 1) continue;
    const FrameDump& dump = frame.dumps()[0];
    if (dump.dump.format != DumpFormat::npy || !frame.tensors()[0].info.attachment.empty()) continue;
    SCOPED_TRACE(row[0]);
    const auto sink = create_gradients(path.string(), dump.dump, {frame.tensors()[0].info});
    frame.write_dump(0, *sink, 1);
    sink->finish();
    EXPECT_EQ(Sha256::hex(read_file(path)), row[6]);
    ++dumps;
  }
  std::filesystem::remove(path);
  EXPECT_GT(dumps, 80u);
}

TEST(CorruptFrame, IsRefusedWithItsError) {
  const auto rows = read_table(folder / "corrupt" / "errors.tsv");
  ASSERT_GT(rows.size(), 200u);
  for (const auto& row : rows)
    EXPECT_EQ(describe(refusal(read_file(folder / "corrupt" / row[0]))), row[1]) << row[0] << ": " << row[2];
}

TEST(CorruptFrame, EveryFlippedBitIsDetected) {
  for (const std::string& name : small_frames) {
    std::string frame = small_frame(name);
    ASSERT_LT(frame.size(), 2048u);
    for (size_t bit = 0; bit < frame.size() * 8; ++bit) {
      frame[bit / 8] = char(frame[bit / 8] ^ (1 << bit % 8));
      const std::optional<Errc> code = refusal(frame);
      EXPECT_TRUE(code == Errc::damaged || code == Errc::newer_format || code == Errc::unsupported_format)
          << name << ", bit " << bit << ": " << describe(code);
      frame[bit / 8] = char(frame[bit / 8] ^ (1 << bit % 8));
    }
    EXPECT_EQ(describe(refusal(frame)), "decoded");
  }
}

TEST(CorruptFrame, EveryTruncationIsDamage) {
  for (const std::string& name : small_frames) {
    const std::string frame = small_frame(name);
    for (size_t length = 0; length < frame.size(); ++length)
      EXPECT_EQ(describe(refusal(frame.substr(0, length))), "damaged") << name << ", " << length << " bytes";
  }
}

TEST(CorruptFrame, OneTo64TrailingBytesAreDamage) {
  for (const std::string& name : small_frames) {
    const std::string frame = small_frame(name);
    for (size_t count = 1; count <= 64; ++count)
      for (const std::string& trailing :
           {std::string(count, '\0'), std::string(count, '\xff'), frame.substr(frame.size() - count)})
        EXPECT_EQ(describe(refusal(frame + trailing)), "damaged") << name << ", " << count << " bytes";
  }
}

}  // namespace
}  // namespace jsq

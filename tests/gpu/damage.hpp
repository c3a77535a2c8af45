// Frames with damage that no checksum tells of, and the promise that both processors say the same of them.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <string>

#include "formats/wire/directory.hpp"
#include "jsq/frame.hpp"
#include "tests/gpu/frame_parity.hpp"

namespace jsq::test {

/// The frame with one byte of its first block changed, and a checksum that hides it.
inline std::string damaged_block(std::string frame, uint64_t at, uint8_t flip) {
  constexpr size_t header = 8;
  const auto size = size_t(FrameReader::from_bytes(frame).tensors()[0].block_bytes[0]);
  frame[header + sizeof(uint32_t) + at % size] ^= char(flip);
  const uint32_t checksum =
      wire::block_checksum(std::string_view(frame).substr(header + sizeof(uint32_t), size), 0, 0);
  std::memcpy(frame.data() + header, &checksum, sizeof checksum);
  return frame;
}

/// A frame that may be damaged: both processors say the same of it, or decode the same values.
inline void expect_same_verdict(const std::string& frame, size_t elements) {
  FrameReader cpu = FrameReader::from_bytes(frame), cuda = FrameReader::from_bytes(frame);
  cuda.use(Backend::cuda);
  const auto expected = cpu.test(false), found = cuda.test(false);
  ASSERT_EQ(found.size(), expected.size());
  if (!expected.empty()) {
    EXPECT_EQ(found[0].message, expected[0].message);
    return;
  }
  const auto by_cpu = decoded(frame, Backend::cpu, 0, elements),
             by_cuda = decoded(frame, Backend::cuda, 0, elements);
  for (size_t i = 0; i < by_cpu.size(); ++i)
    ASSERT_EQ(std::bit_cast<uint32_t>(by_cpu[i]), std::bit_cast<uint32_t>(by_cuda[i]));
}

}  // namespace jsq::test

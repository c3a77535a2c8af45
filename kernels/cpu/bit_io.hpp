// Bit streams, most significant bit of a byte first, as the published packings of JointSQ are. The last byte
// is padded with zero bits, and the reader checks that.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace jsq::cpu {

class BitWriter {
 public:
  /// Appends to `out`, which must outlive the writer.
  explicit BitWriter(std::string& out) : out_(out) {}

  /// Writes the low `count` bits of `value`, most significant first.  \pre count <= 32, value < 2^count.
  void put(uint32_t value, uint32_t count) {
    pending_ = (pending_ << count) | value;
    filled_ += count;
    if (filled_ >= 32) flush_word();
  }
  /// `ones` one bits and a zero bit.
  void put_unary(uint64_t ones) {
    for (; ones >= 24; ones -= 24) put(0xffffffu, 24);
    put(((1u << ones) - 1) << 1, uint32_t(ones) + 1);
  }
  /// Pads to a whole byte with zeros and hands everything to `out`.
  void align() {
    const uint32_t padding = (8 - filled_ % 8) % 8;
    pending_ <<= padding;
    filled_ += padding;
    while (filled_ > 0) {
      filled_ -= 8;
      out_.push_back(char(uint8_t(pending_ >> filled_)));
    }
    pending_ = 0;
  }

 private:
  void flush_word() {
    filled_ -= 32;
    const uint32_t word = __builtin_bswap32(uint32_t(pending_ >> filled_));
    char bytes[4];
    std::memcpy(bytes, &word, 4);
    out_.append(bytes, 4);
  }
  std::string& out_;
  uint64_t pending_ = 0;
  uint32_t filled_ = 0;
};

/// Reads what BitWriter wrote. Reading past the end gives zeros and sets overrun(), which callers check once
/// at the end.
class BitReader {
 public:
  explicit BitReader(std::string_view bytes)
      : next_(bytes.data()), begin_(bytes.data()), end_(bytes.data() + bytes.size()) {}

  /// The next `count` bits.  \pre count <= 32
  uint32_t get(uint32_t count) {
    if (available_ < count) refill();
    available_ -= count;
    return uint32_t(window_ >> available_) & uint32_t((1ull << count) - 1);
  }
  uint32_t bit() { return get(1); }

  /// Number of one bits before the next zero bit, at most `limit` (then overrun() is set).
  uint64_t get_unary(uint64_t limit) {
    uint64_t ones = 0;
    while (get(1)) {
      if (++ones > limit) {
        overrun_ = true;
        return 0;
      }
    }
    return ones;
  }

  /// Skips to the next byte; false when the skipped bits are not zero.
  bool align() {
    const uint32_t padding = available_ % 8;
    return get(padding) == 0;
  }
  bool overrun() const { return overrun_; }
  /// Whole bytes consumed so far.  \pre aligned
  size_t consumed() const { return size_t(next_ - begin_) - available_ / 8 + virtual_bytes_; }

 private:
  void refill() {
    if (end_ - next_ >= 4) {
      uint32_t word;
      std::memcpy(&word, next_, 4);
      window_ = (window_ << 32) | __builtin_bswap32(word);
      next_ += 4;
      available_ += 32;
      return;
    }
    for (int i = 0; i < 4; ++i) {
      uint8_t byte = 0;
      if (next_ < end_) {
        byte = uint8_t(*next_++);
      } else {
        ++virtual_bytes_;
      }
      window_ = (window_ << 8) | byte;
      available_ += 8;
    }
    if (virtual_bytes_ > 8) overrun_ = true;
  }
  const char* next_;
  const char* begin_;
  const char* end_;
  uint64_t window_ = 0;
  uint32_t available_ = 0;
  size_t virtual_bytes_ = 0;  ///< zero bytes handed out beyond the end
  bool overrun_ = false;
};

}  // namespace jsq::cpu

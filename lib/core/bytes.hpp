// ByteReader and ByteWriter: the only code of jsq that parses or builds untrusted bytes.
// Little-endian fixed-width integers, canonical LEB128 integers (uvarint), length-prefixed strings.
// Every read is bounds-checked; a length is checked against what is left and against a limit before it is
// used.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "jsq/error.hpp"

namespace jsq {

class ByteWriter {
 public:
  void u8(uint8_t value) { bytes_.push_back(char(value)); }
  void u16(uint16_t value) { fixed(value); }
  void u32(uint32_t value) { fixed(value); }
  void u64(uint64_t value) { fixed(value); }
  void f32(float value) { fixed(std::bit_cast<uint32_t>(value)); }

  /// LEB128: seven bits a byte, least significant first, shortest form.
  void uvarint(uint64_t value) {
    while (value >= 0x80) {
      u8(uint8_t(value | 0x80));
      value >>= 7;
    }
    u8(uint8_t(value));
  }

  /// uvarint length, then the bytes.
  void string(std::string_view text) {
    uvarint(text.size());
    raw(text);
  }

  void raw(std::string_view bytes) { bytes_.append(bytes); }
  void raw(std::span<const std::byte> bytes) {
    bytes_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }

  size_t size() const { return bytes_.size(); }
  const std::string& bytes() const { return bytes_; }
  std::string take() { return std::move(bytes_); }

 private:
  template <class T>
  void fixed(T value) {
    char raw_bytes[sizeof(T)];
    std::memcpy(raw_bytes, &value, sizeof(T));
    bytes_.append(raw_bytes, sizeof(T));
  }
  std::string bytes_;
};

class ByteReader {
 public:
  /// `what` names the structure in error messages ("directory", "block 3 of 'conv1'"); it must outlive the
  /// reader.
  ByteReader(std::string_view bytes, std::string_view what) : bytes_(bytes), what_(what) {}

  uint8_t u8() { return fixed<uint8_t>("a byte"); }
  uint16_t u16() { return fixed<uint16_t>("a 16-bit integer"); }
  uint32_t u32() { return fixed<uint32_t>("a 32-bit integer"); }
  uint64_t u64() { return fixed<uint64_t>("a 64-bit integer"); }
  float f32() { return std::bit_cast<float>(u32()); }
  /// A finite f32 of 0 or more, its sign bit clear; `name` for the message.
  float magnitude(const char* name) {
    const uint32_t bits = u32();
    if (bits >= 0x7f800000u) damaged(std::string(name) + " is negative or not finite");
    return std::bit_cast<float>(bits);
  }

  /// A canonical uvarint of at most `limit`.
  uint64_t uvarint(uint64_t limit = UINT64_MAX) {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const uint8_t byte = u8();
      if (shift == 63 && byte > 1) damaged("integer of more than 64 bits");
      value |= uint64_t(byte & 0x7f) << shift;
      if (byte < 0x80) {
        if (byte == 0 && shift > 0) damaged("integer not in its shortest form");
        if (value > limit)
          damaged("value " + std::to_string(value) + " exceeds the limit " + std::to_string(limit));
        return value;
      }
    }
    damaged("integer of more than 64 bits");
  }

  /// A uvarint length of at most `limit`, then that many bytes; the view points into the input.
  std::string_view string(uint64_t limit = UINT64_MAX) {
    const uint64_t length = uvarint(limit);
    return raw(length);
  }

  std::string_view raw(uint64_t length) {
    if (length > remaining())
      damaged("expected " + std::to_string(length) + " more bytes, found " + std::to_string(remaining()));
    const std::string_view view = bytes_.substr(at_, size_t(length));
    at_ += size_t(length);
    return view;
  }

  size_t position() const { return at_; }
  size_t remaining() const { return bytes_.size() - at_; }

  /// Refuses bytes after the end of the structure.
  void expect_end() {
    if (remaining() != 0) damaged(std::to_string(remaining()) + " bytes follow the end");
  }

  /// Throws Error damaged, naming the structure and the offset in it.
  [[noreturn]] void damaged(const std::string& found) const {
    throw Error(Errc::damaged,
                std::string(what_) + " is damaged at offset " + std::to_string(at_) + ": " + found);
  }

 private:
  template <class T>
  T fixed(const char* expected) {
    if (remaining() < sizeof(T)) damaged(std::string("expected ") + expected + ", found the end");
    T value;
    std::memcpy(&value, bytes_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return value;
  }
  std::string_view bytes_;
  std::string_view what_;
  size_t at_ = 0;
};

}  // namespace jsq

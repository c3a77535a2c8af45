// Files as bytes in memory: a read-only map of a file, and an unnamed temporary file ("spool") for bytes that
// come from a stream or must be kept somewhere other than memory. Knows nothing of what the bytes mean.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "jsq/error.hpp"

namespace jsq {

/// Owns a file descriptor; -1 is none.
class FileDescriptor {
 public:
  explicit FileDescriptor(int fd = -1) noexcept : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~FileDescriptor();

  int get() const noexcept { return fd_; }
  int release() noexcept { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

/// A whole file, mapped read-only and private. An empty file has no bytes and no map.
class MappedFile {
 public:
  /// Maps a regular file; a pipe or socket is spooled first.
  /// \throws Error not_found (cannot be opened), read_failed, unsupported_format (a directory or device),
  ///         write_failed (the spool's folder is full).
  static MappedFile open(const std::string& path);

  /// Standard input: mapped when it is a regular file read from its start, spooled otherwise.
  static MappedFile standard_input();

  /// Maps the first `size` bytes of an open file; `name` is for messages. The descriptor may be closed
  /// afterwards.
  static MappedFile of_descriptor(int fd, uint64_t size, const std::string& name);

  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  MappedFile& operator=(MappedFile&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~MappedFile();

  size_t size() const noexcept { return size_; }
  std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }
  std::string_view text() const noexcept { return {reinterpret_cast<const char*>(data_), size_}; }
  /// Tells the system that these bytes are not needed now, so that they stop counting as memory of this
  /// process. They stay valid, and come back from the file when they are read.
  void let_go(size_t first, size_t count) const noexcept;

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

/// A temporary file without a name in $TMPDIR (or the system's default folder); it vanishes with this object.
/// Appending is for one thread at a time; read() of what has been appended is thread-safe.
class SpoolFile {
 public:
  /// \throws Error write_failed.
  SpoolFile();

  /// \throws Error write_failed, naming the folder.
  void append(std::span<const std::byte> bytes);
  /// Reads [offset, offset + out.size()).  \pre the range has been appended.  \throws Error read_failed.
  void read(uint64_t offset, std::span<std::byte> out) const;

  uint64_t size() const noexcept { return size_; }
  int descriptor() const noexcept { return file_.get(); }

 private:
  std::string folder_;
  FileDescriptor file_;
  uint64_t size_ = 0;
};

/// Writes all of `bytes` at the descriptor's position, or at `offset` for the second form, through short
/// writes and interruptions. Returns 0 or an errno value.
int write_fully(int fd, std::span<const std::byte> bytes) noexcept;
int write_fully_at(int fd, std::span<const std::byte> bytes, uint64_t offset) noexcept;

}  // namespace jsq

// A place for compressed bytes until their total is known: memory first, an unnamed temporary file beyond a
// limit.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string_view>
#include <vector>

#include "jsq/compress.hpp"

namespace jsq {

class Spool {
 public:
  explicit Spool(size_t memory_limit = size_t(64) << 20) : memory_limit_(memory_limit) {}
  /// Hands everything to `out` at once from now on; there is nothing to copy then.  \pre empty
  void forward_to(ByteSink& out) { forward_ = &out; }
  /// \throws Error write_failed when the temporary file cannot take the bytes.
  void append(std::string_view bytes);
  uint64_t size() const { return size_; }
  /// Forgets everything behind the first `size` bytes.  \pre forward_to was not called, size <= size()
  /// \throws Error write_failed as append() does.
  void shrink(uint64_t size);
  /// Writes everything to `out`, in order.
  void copy_to(ByteSink& out);
  void copy_to(Spool& out);

 private:
  struct CloseFile {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  struct Free {
    void operator()(char* bytes) const;
  };
  void keep(std::string_view bytes);
  ByteSink* forward_ = nullptr;
  size_t memory_limit_;
  std::vector<std::unique_ptr<char, Free>> pieces_;  ///< full but for the last
  size_t kept_ = 0;                                  ///< bytes in them
  std::unique_ptr<std::FILE, CloseFile> file_;
  uint64_t size_ = 0;
};

}  // namespace jsq

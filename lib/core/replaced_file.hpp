// A file that appears, or replaces another, only when it is complete: written beside its name under another
// one, flushed to the disk and renamed.
#pragma once

#include <string>

namespace jsq {

class ReplacedFile {
 public:
  /// Creates the temporary file, with the mode that the umask leaves.  \throws Error write_failed.
  explicit ReplacedFile(const std::string& path);
  ReplacedFile(const ReplacedFile&) = delete;
  ReplacedFile& operator=(const ReplacedFile&) = delete;
  /// Without commit() the temporary file goes and what was at `path` stays.
  ~ReplacedFile();

  int descriptor() const noexcept { return descriptor_; }
  /// Once, after the last byte.  \throws Error write_failed.
  void commit();

 private:
  std::string path_, temporary_;
  int descriptor_ = -1;
};

}  // namespace jsq

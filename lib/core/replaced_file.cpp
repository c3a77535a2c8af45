#include "lib/core/replaced_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "jsq/error.hpp"

namespace jsq {
namespace {

constexpr unsigned name_attempts = 1000;

/// Threads of one process write beside each other.
std::atomic<unsigned> next_number{0};

[[noreturn]] void failed(const std::string& path, const char* action) {
  throw Error(Errc::write_failed, path + ": cannot " + action + ": " + std::strerror(errno) +
                                      "; name a place with space that you may write to");
}

/// A name in the same folder that a listing hides.
std::string temporary_name(const std::string& path) {
  constexpr size_t kept_bytes = 200;  // names are limited to 255 bytes
  const size_t slash = path.find_last_of('/'), base = slash == std::string::npos ? 0 : slash + 1;
  return path.substr(0, base) + "." + path.substr(base, kept_bytes) + "." + std::to_string(::getpid()) + "-" +
         std::to_string(next_number++) + ".tmp";
}

}  // namespace

ReplacedFile::ReplacedFile(const std::string& path) : path_(path) {
  for (unsigned attempt = 0; attempt < name_attempts; ++attempt) {
    temporary_ = temporary_name(path);
    descriptor_ = ::open(temporary_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor_ >= 0) return;
    if (errno != EEXIST) break;
  }
  failed(path_, "create");
}

ReplacedFile::~ReplacedFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
}

void ReplacedFile::commit() {
  if (::fsync(descriptor_) != 0 && errno != EINVAL && errno != EROFS) failed(path_, "flush");
  if (::rename(temporary_.c_str(), path_.c_str()) != 0)
    failed(path_, "rename the finished output to this name");
  ::close(descriptor_);
  descriptor_ = -1;
}

}  // namespace jsq

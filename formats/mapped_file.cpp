// Read-only maps and unnamed temporary files over POSIX calls.
#include "formats/mapped_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace jsq {
namespace {

constexpr size_t copy_piece_bytes = size_t(1) << 20;

std::string spool_folder() {
  const char* chosen = std::getenv("TMPDIR");
  return chosen != nullptr && *chosen != '\0' ? chosen : P_tmpdir;
}

[[noreturn]] void spool_failed(const std::string& folder, int error) {
  throw Error(Errc::write_failed,
              fmt::format("{}: cannot keep temporary data here: {}; set TMPDIR to a folder with enough room",
                          folder, std::strerror(error)));
}

/// A temporary file that never had a name where the file system can do that, else one whose name is removed
/// at once.
int open_unnamed(const std::string& folder) {
  const int fd = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd >= 0) return fd;
  std::string name = folder + "/jsq-spool-XXXXXX";
  const int named = ::mkostemp(name.data(), O_CLOEXEC);
  if (named >= 0) ::unlink(name.c_str());
  return named;
}

MappedFile spool_stream(int fd, const std::string& name) {
  SpoolFile spool;
  std::vector<std::byte> piece(copy_piece_bytes);
  for (;;) {
    const ssize_t got = ::read(fd, piece.data(), piece.size());
    if (got == 0) break;
    if (got < 0 && errno == EINTR) continue;
    if (got < 0)
      throw Error(Errc::read_failed, fmt::format("{}: cannot read: {}", name, std::strerror(errno)));
    spool.append({piece.data(), size_t(got)});
  }
  return MappedFile::of_descriptor(spool.descriptor(), spool.size(), name);
}

struct stat status_of(int fd, const std::string& name) {
  struct stat status = {};
  if (::fstat(fd, &status) != 0)
    throw Error(Errc::read_failed, fmt::format("{}: cannot inspect: {}", name, std::strerror(errno)));
  return status;
}

/// One loop for write and pwrite: `put` writes some bytes at a count already written.
template <class Put>
int write_all(std::span<const std::byte> bytes, Put put) noexcept {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t wrote = put(bytes.subspan(done), done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return errno;
    if (wrote == 0) return EIO;
    done += size_t(wrote);
  }
  return 0;
}

}  // namespace

FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) ::close(fd_);
}

MappedFile MappedFile::open(const std::string& path) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0)
    throw Error(Errc::not_found, fmt::format("{}: cannot open: {}", path, std::strerror(errno)));
  const struct stat status = status_of(file.get(), path);
  if (S_ISDIR(status.st_mode))
    throw Error(Errc::unsupported_format, fmt::format("{}: is a directory; expected a dump file", path));
  if (S_ISCHR(status.st_mode) || S_ISBLK(status.st_mode))
    throw Error(Errc::unsupported_format,
                fmt::format("{}: is a device; expected a dump file (use - for standard input)", path));
  if (!S_ISREG(status.st_mode)) return spool_stream(file.get(), path);
  return of_descriptor(file.get(), uint64_t(status.st_size), path);
}

MappedFile MappedFile::standard_input() {
  const std::string name = "standard input";
  const struct stat status = status_of(STDIN_FILENO, name);
  if (S_ISDIR(status.st_mode))
    throw Error(Errc::unsupported_format, "standard input is a directory; expected an npy or npz stream");
  if (S_ISREG(status.st_mode) && ::lseek(STDIN_FILENO, 0, SEEK_CUR) == 0)
    return of_descriptor(STDIN_FILENO, uint64_t(status.st_size), name);
  return spool_stream(STDIN_FILENO, name);
}

MappedFile MappedFile::of_descriptor(int fd, uint64_t size, const std::string& name) {
  MappedFile file;
  if (size == 0) return file;
  void* const address = ::mmap(nullptr, size_t(size), PROT_READ, MAP_PRIVATE, fd, 0);
  if (address == MAP_FAILED)
    throw Error(Errc::read_failed,
                fmt::format("{}: cannot map {} bytes: {}", name, size, std::strerror(errno)));
  ::madvise(address, size_t(size), MADV_SEQUENTIAL);  // advice only: a refusal changes nothing
  file.data_ = static_cast<const std::byte*>(address);
  file.size_ = size_t(size);
  return file;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::let_go(size_t first, size_t count) const noexcept {
  const size_t page = size_t(::sysconf(_SC_PAGESIZE));
  const size_t from = (first + page - 1) / page * page, to = (first + count) / page * page;
  if (to > from) ::madvise(const_cast<std::byte*>(data_) + from, to - from, MADV_DONTNEED);
}

SpoolFile::SpoolFile() : folder_(spool_folder()), file_(open_unnamed(folder_)) {
  if (file_.get() < 0) spool_failed(folder_, errno);
}

void SpoolFile::append(std::span<const std::byte> bytes) {
  const int error = write_fully_at(file_.get(), bytes, size_);
  if (error != 0) spool_failed(folder_, error);
  size_ += bytes.size();
}

void SpoolFile::read(uint64_t offset, std::span<std::byte> out) const {
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t got = ::pread(file_.get(), out.data() + done, out.size() - done, off_t(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0)
      throw Error(Errc::read_failed, fmt::format("{}: cannot read temporary data back: {}", folder_,
                                                 got < 0 ? std::strerror(errno) : "it ended early"));
    done += size_t(got);
  }
}

int write_fully(int fd, std::span<const std::byte> bytes) noexcept {
  return write_all(
      bytes, [fd](std::span<const std::byte> rest, size_t) { return ::write(fd, rest.data(), rest.size()); });
}

int write_fully_at(int fd, std::span<const std::byte> bytes, uint64_t offset) noexcept {
  return write_all(bytes, [fd, offset](std::span<const std::byte> rest, size_t done) {
    return ::pwrite(fd, rest.data(), rest.size(), off_t(offset + done));
  });
}

}  // namespace jsq

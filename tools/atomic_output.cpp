// Temporary names, renames and flushes.
#include "atomic_output.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string_view>

#include "jsq/error.hpp"
#include "report.hpp"

namespace jsq::tools {
namespace {

namespace fs = std::filesystem;

std::string reason(int error) {
  return std::strerror(error);
}

[[noreturn]] void fail_write(const std::string& path, const std::string& action, int error,
                             const std::string& option = "-o") {
  std::string advice;
  if (error == ENOENT || error == ENOTDIR) advice = "; make the folder first or name another with " + option;
  if (error == EACCES || error == EPERM || error == EROFS)
    advice = "; name a folder that you may write to with " + option;
  if (error == ENOSPC || error == EDQUOT) advice = "; free some space or name another place with " + option;
  throw Error(Errc::write_failed, path + ": cannot " + action + ": " + reason(error) + advice);
}

/// The place a name stands for: links followed as far as they lead to something.
std::string resolved(const std::string& path) {
  std::error_code error;
  const fs::path real = fs::canonical(path, error);
  return error ? path : real.string();
}

/// A name beside `target` that a listing hides. The counter steps over leftovers of a killed run with the
/// same id.
std::string temporary_name(const std::string& target, unsigned counter) {
  constexpr size_t kept_bytes = 200;  // names are limited to 255 bytes
  return folder_of(target) + "/." + base_name(target).substr(0, kept_bytes) + "." +
         std::to_string(::getpid()) + "-" + std::to_string(counter) + ".tmp";
}

constexpr unsigned name_attempts = 1000;

void flush_path(const std::string& path, int flags, const std::string& shown) {
  const Descriptor file(::open(path.c_str(), flags | O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) fail_write(shown, "flush", errno);
  // Some file systems cannot flush folders and say EINVAL.
  if (::fsync(file.get()) != 0 && errno != EINVAL && errno != EROFS) fail_write(shown, "flush", errno);
}

/// Renames, and unless `replace` refuses a target that exists.
void rename_to(const std::string& from, const std::string& to, bool replace, const std::string& shown) {
  if (!replace) {
    if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return;
    if (errno == EEXIST)
      throw Error(Errc::refused, shown + ": appeared while it was being written; nothing was replaced");
    if (errno != EINVAL && errno != ENOSYS)
      fail_write(shown, "rename the finished output to this name", errno);
    // The file system knows no such flag: the check at the start has to do.
  }
  if (::rename(from.c_str(), to.c_str()) != 0)
    fail_write(shown, "rename the finished output to this name", errno);
}

bool same_file(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

bool stat_input(const std::string& path, struct stat& status) {
  return path == "-" ? ::fstat(STDIN_FILENO, &status) == 0 : ::stat(path.c_str(), &status) == 0;
}

}  // namespace

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  if (this != &other) {
    if (descriptor_ >= 0) ::close(descriptor_);
    descriptor_ = other.release();
  }
  return *this;
}

Descriptor::~Descriptor() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

int Descriptor::release() noexcept {
  const int descriptor = descriptor_;
  descriptor_ = -1;
  return descriptor;
}

std::string base_name(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

std::string folder_of(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

void refuse_terminal(const std::string& what) {
  if (::isatty(STDOUT_FILENO) == 1)
    throw Error(Errc::refused,
                what + " is binary and standard output is a terminal; redirect it or name a file with -o");
}

void check_target(const std::string& target, const OutputRules& rules) {
  struct stat status = {};
  if (::stat(target.c_str(), &status) != 0) return;
  if (S_ISDIR(status.st_mode))
    throw Error(Errc::refused, target + ": is a folder; name a file with " + rules.option);
  if (!S_ISREG(status.st_mode)) return;
  for (const std::string& input : rules.inputs) {
    struct stat source = {};
    if (stat_input(input, source) && same_file(status, source))
      throw Error(Errc::refused, target + ": is the input itself; name another output with " + rules.option);
  }
  if (!rules.force)
    throw Error(Errc::refused,
                target + ": exists; replace it with -f or name another output with " + rules.option);
}

AtomicOutput::AtomicOutput(const std::string& target, const OutputRules& rules)
    : target_(resolved(target)), shown_(target), option_(rules.option), force_(rules.force) {
  check_target(target, rules);
  struct stat status = {};
  if (::stat(target_.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
    file_ = Descriptor(::open(target_.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY));
    if (file_.get() < 0) fail_write(shown_, "open for writing", errno, option_);
    if (::isatty(file_.get()) == 1)
      throw Error(Errc::refused, shown_ + ": is a terminal, and the output is binary; name a file with -o");
    return;
  }
  for (unsigned counter = 0; counter < name_attempts; ++counter) {
    const std::string name = temporary_name(target_, counter);
    const auto lock =
        no_interrupts();  // between creating the file and listing it nothing may end the program
    file_ = Descriptor(::open(name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    if (file_.get() >= 0) {
      temporary_.emplace(name, lock);
      return;
    }
    if (errno != EEXIST) break;
  }
  fail_write(shown_, "create", errno, option_);
}

void AtomicOutput::commit() {
  if (!temporary_) return;
  // By path: a writer may have put another file under the temporary name.
  flush_path(temporary_->path(), 0, shown_);
  {
    const auto lock = no_interrupts();
    rename_to(temporary_->path(), target_, force_, shown_);
    temporary_->release(lock);
  }
  flush_path(folder_of(target_), O_DIRECTORY, shown_);
}

AtomicFolder::AtomicFolder(const std::string& target) : target_(target) {
  while (target_.size() > 1 && target_.ends_with('/')) target_.pop_back();
  struct stat status = {};
  if (::lstat(target_.c_str(), &status) == 0)
    throw Error(Errc::refused, target_ + ": exists, and several dumps need a new folder; name one with -o");
  for (unsigned counter = 0; counter < name_attempts; ++counter) {
    const std::string name = temporary_name(target_, counter);
    const auto lock = no_interrupts();
    if (::mkdir(name.c_str(), 0777) == 0) {
      temporary_.emplace(name, lock);
      return;
    }
    if (errno != EEXIST) break;
  }
  fail_write(target_, "create", errno);
}

void AtomicFolder::commit() {
  flush_path(path(), O_DIRECTORY, target_);
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(path()))
    flush_path(entry.path().string(), entry.is_directory() ? O_DIRECTORY : 0, target_);
  {
    const auto lock = no_interrupts();
    rename_to(path(), target_, false, target_);
    temporary_->release(lock);
  }
  flush_path(folder_of(target_), O_DIRECTORY, target_);
}

Spool::Spool() {
  const char* folder = std::getenv("TMPDIR");
  const std::string place = folder != nullptr && *folder != '\0' ? folder : "/tmp";
  file_ = Descriptor(::open(place.c_str(), O_RDWR | O_TMPFILE | O_CLOEXEC, 0600));
  if (file_.get() >= 0) return;
  std::string name = place + "/jsq-XXXXXX";
  file_ = Descriptor(::mkostemp(name.data(), O_CLOEXEC));
  if (file_.get() < 0)
    fail_write(place, "create a temporary file here (set TMPDIR to another folder)", errno);
  ::unlink(name.c_str());
}

std::string Spool::path() const {
  return "/proc/self/fd/" + std::to_string(file_.get());
}

void Spool::copy_to_stdout() const {
  std::array<char, size_t(1) << 16> buffer;
  for (off_t at = 0;;) {
    const ssize_t got = ::pread(file_.get(), buffer.data(), buffer.size(), at);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw Error(Errc::read_failed, "cannot read a temporary file back: " + reason(errno));
    if (got == 0) return;
    print(Stream::out, std::string_view(buffer.data(), size_t(got)));
    at += got;
  }
}

}  // namespace jsq::tools

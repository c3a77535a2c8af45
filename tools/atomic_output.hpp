// Output that is there completely or not at all: written beside the target under another name, flushed to the
// disk and renamed. The rules of what may be overwritten live here; what is written does not.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "interrupt.hpp"
#include "jsq/error.hpp"

namespace jsq::tools {

/// An open descriptor, closed at the end.
class Descriptor {
 public:
  explicit Descriptor(int descriptor = -1) noexcept : descriptor_(descriptor) {}
  Descriptor(Descriptor&& other) noexcept : descriptor_(other.release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept;
  ~Descriptor();
  int get() const noexcept { return descriptor_; }
  int release() noexcept;

 private:
  int descriptor_;
};

struct OutputRules {
  bool force = false;  ///< an existing file may be replaced
  std::vector<std::string>
      inputs;                 ///< files being read ("-": standard input): the target may be none of them
  std::string option = "-o";  ///< what names the output, for messages
};

/// One output file. A target that is a device or a pipe is written directly: there is nothing to rename.
class AtomicOutput {
 public:
  /// Checks the target and creates the temporary file, with the mode that the umask leaves.
  /// \throws Error refused (exists, is an input, is a folder), write_failed (the folder is missing or
  /// read-only).
  AtomicOutput(const std::string& target, const OutputRules& rules);

  /// Where to write. The file exists and is empty.
  const std::string& path() const noexcept { return temporary_ ? temporary_->path() : target_; }
  /// True for a device or pipe, which cannot be read back.
  bool is_direct() const noexcept { return !temporary_.has_value(); }
  /// The open file, for writers that take a descriptor.
  int descriptor() const noexcept { return file_.get(); }
  /// Flushes the file to the disk, gives it its name and flushes the folder. Once, after the last byte.
  /// \throws Error write_failed, refused (the target appeared in the meantime).
  void commit();

 private:
  std::string target_, shown_;  ///< with links resolved; as the user wrote it
  std::string option_;
  bool force_;
  std::optional<Temporary> temporary_;
  Descriptor file_;
};

/// One output folder that must not exist yet.
class AtomicFolder {
 public:
  /// \throws Error refused (exists), write_failed.
  explicit AtomicFolder(const std::string& target);
  const std::string& path() const noexcept { return temporary_->path(); }
  /// Flushes every file and folder in it and gives it its name.  \throws Error write_failed, refused.
  void commit();

 private:
  std::string target_;
  std::optional<Temporary> temporary_;
};

/// A file without a name in the folder for temporary files (TMPDIR), for what must be seekable on its way to
/// a stream.
class Spool {
 public:
  /// \throws Error write_failed.
  Spool();
  int descriptor() const noexcept { return file_.get(); }
  /// A path that opens the same file while this object lives.
  std::string path() const;
  /// Copies everything to standard output.  \throws BrokenPipe, Error write_failed.
  void copy_to_stdout() const;

 private:
  Descriptor file_;
};

/// \throws Error refused when standard output is a terminal: `what` is binary.
void refuse_terminal(const std::string& what);

/// \throws Error refused when `target` exists and is one of the rules' inputs, or exists and may not be
/// replaced.
void check_target(const std::string& target, const OutputRules& rules);

/// Runs `write`, which writes to `path`; an error that names that path names `shown` instead.
template <class Write>
void write_as(const std::string& path, const std::string& shown, const Write& write) {
  try {
    write();
  } catch (const Error& error) {
    std::string message = error.what();
    for (size_t at = message.find(path); at != std::string::npos; at = message.find(path, at + shown.size()))
      message.replace(at, path.size(), shown);
    throw Error(error.code(), message);
  }
}

/// Base name and folder of a path: "a/b.npy" -> "b.npy", "a"; "b.npy" -> "b.npy", ".".
std::string base_name(const std::string& path);
std::string folder_of(const std::string& path);

}  // namespace jsq::tools

// What the npy and npz readers and writers offer to open.cpp and share with each other. Internal to formats/.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "formats/mapped_file.hpp"
#include "jsq/gradients.hpp"

namespace jsq {

/// Opens an npy or npz whose bytes are at hand; `name` is for messages. `member` ("" = all) limits an npz to
/// one member, named with or without ".npy". \throws Error damaged, unsupported_format, unsupported_dtype,
/// unknown_name, limit.
std::unique_ptr<GradientSource> open_npy(MappedFile file, const std::string& name);
std::unique_ptr<GradientSource> open_npz(MappedFile file, const std::string& name, const std::string& member);

/// Creates an npy or npz at `path`, '-' being standard output.
/// \throws Error write_failed, unsupported_format, damaged (an attachment that does not parse).
std::unique_ptr<GradientSink> create_npy(const std::string& path, const std::vector<TensorInfo>& tensors);
std::unique_ptr<GradientSink> create_npz(const std::string& path, const DumpInfo& dump,
                                         const std::vector<TensorInfo>& tensors);

/// GradientSource::read and read_stored for a tensor whose stored elements lie in memory from `data` on.
std::span<const float> elements_in_memory(const TensorInfo& tensor, const std::byte* data, uint64_t first,
                                          size_t count, std::vector<float>& scratch);
void stored_elements_in_memory(const TensorInfo& tensor, const std::byte* data, uint64_t first, size_t count,
                               std::byte* out);

/// Refuses a range of elements outside the tensor.  \throws Error internal.
void check_element_range(const TensorInfo& tensor, uint64_t first, size_t count);

/// Holds a sink's caller to the order of GradientSink: tensors ascending, each covered whole.
class WriteOrder {
 public:
  explicit WriteOrder(const std::vector<TensorInfo>& tensors);
  /// Accounts for `bytes` more of tensor `tensor`.  \throws Error internal.
  void advance(size_t tensor, size_t bytes);
  /// \throws Error internal when something is missing.
  void finish() const;

 private:
  std::vector<uint64_t> sizes_;
  size_t tensor_ = 0;
  uint64_t written_ = 0;
};

/// A file written from front to back through a buffer of 1 MiB; '-' is standard output, which stays open.
class OutputFile {
 public:
  /// Creates or truncates.  \throws Error write_failed.
  explicit OutputFile(const std::string& path);
  /// \throws Error write_failed, naming the path and the reason.
  void append(std::span<const std::byte> bytes);
  /// Writes what is buffered and closes.  \throws Error write_failed.
  void close();

  /// True for a regular file, which can be written at any position.
  bool seekable() const noexcept { return seekable_; }
  int descriptor() const noexcept { return fd_; }
  [[noreturn]] void fail(int error) const;

 private:
  void flush();

  std::string path_;
  FileDescriptor owned_;
  int fd_ = -1;
  bool seekable_ = false;
  std::vector<std::byte> buffer_;
};

}  // namespace jsq

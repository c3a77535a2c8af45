// Writing a plain npy, and the two helpers every sink of this folder uses: the buffered output file and the
// check of the order of writes.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "formats/npy/npy.hpp"
#include "formats/npy/npy_header.hpp"
#include "jsq/error.hpp"

namespace jsq {
namespace {

constexpr size_t buffer_bytes = size_t(1) << 20;
constexpr size_t swap_piece_bytes = size_t(64) << 10;  // a multiple of every element size

class NpySink final : public GradientSink {
 public:
  NpySink(const std::string& path, const std::vector<TensorInfo>& tensors, const std::string& header)
      : tensor_(tensors.front()), order_(tensors), out_(path) {
    out_.append(std::as_bytes(std::span(header)));
  }

  void write(size_t tensor, std::span<const std::byte> stored_le) override {
    order_.advance(tensor, stored_le.size());
    if (!tensor_.big_endian) return out_.append(stored_le);
    while (!stored_le.empty()) {
      const auto piece = stored_le.first(std::min(stored_le.size(), swap_piece_bytes));
      swapped_.assign(piece.begin(), piece.end());
      swap_element_bytes(swapped_, dtype_bytes(tensor_.dtype));
      out_.append(swapped_);
      stored_le = stored_le.subspan(piece.size());
    }
  }

  void finish() override {
    order_.finish();
    out_.close();
  }

 private:
  TensorInfo tensor_;
  WriteOrder order_;
  OutputFile out_;
  std::vector<std::byte> swapped_;
};

}  // namespace

std::unique_ptr<GradientSink> create_npy(const std::string& path, const std::vector<TensorInfo>& tensors) {
  if (tensors.size() != 1)
    throw Error(
        Errc::unsupported_format,
        fmt::format("{}: an npy holds exactly one tensor, found {}; use npz or h5", path, tensors.size()));
  // The header is built before the file is touched, so that a refusal leaves what was there.
  const std::string header = npy_header_to_write(tensors.front(), tensors.front().attachment);
  return std::make_unique<NpySink>(path, tensors, header);
}

WriteOrder::WriteOrder(const std::vector<TensorInfo>& tensors) {
  sizes_.reserve(tensors.size());
  for (const TensorInfo& tensor : tensors) sizes_.push_back(tensor.stored_bytes());
}

void WriteOrder::advance(size_t tensor, size_t bytes) {
  while (tensor_ < tensor && tensor_ < sizes_.size() && written_ == sizes_[tensor_]) {
    ++tensor_;
    written_ = 0;
  }
  if (tensor != tensor_ || tensor_ >= sizes_.size() || bytes > sizes_[tensor_] - written_)
    throw Error(Errc::internal,
                fmt::format("{} bytes written to tensor {} out of order: tensor {} stands at byte {}", bytes,
                            tensor, tensor_, written_));
  written_ += bytes;
}

void WriteOrder::finish() const {
  for (size_t i = tensor_; i < sizes_.size(); ++i) {
    const uint64_t written = i == tensor_ ? written_ : 0;
    if (written != sizes_[i])
      throw Error(Errc::internal, fmt::format("tensor {} ends at byte {} of {}", i, written, sizes_[i]));
  }
}

OutputFile::OutputFile(const std::string& path) : path_(path) {
  if (path_ == "-") {
    path_ = "standard output";
    fd_ = STDOUT_FILENO;
  } else {
    owned_ = FileDescriptor(::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
    fd_ = owned_.get();
    struct stat status = {};
    if (fd_ < 0 || ::fstat(fd_, &status) != 0) fail(errno);
    seekable_ = S_ISREG(status.st_mode);
  }
  buffer_.reserve(buffer_bytes);
}

void OutputFile::append(std::span<const std::byte> bytes) {
  if (buffer_.size() + bytes.size() > buffer_bytes) flush();
  if (bytes.size() < buffer_bytes) {
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
    return;
  }
  if (const int error = write_fully(fd_, bytes)) fail(error);
}

void OutputFile::flush() {
  const int error = write_fully(fd_, buffer_);
  if (error != 0) fail(error);
  buffer_.clear();
}

void OutputFile::close() {
  flush();
  // Some file systems report a full disk only here.
  if (owned_.get() >= 0 && ::close(owned_.release()) != 0) fail(errno);
  fd_ = -1;
}

void OutputFile::fail(int error) const {
  throw Error(Errc::write_failed, fmt::format("{}: cannot write: {}", path_, std::strerror(error)));
}

}  // namespace jsq

#include "lib/core/spool.hpp"

#include <cerrno>
#include <cstring>
#include <vector>

#include "jsq/error.hpp"

namespace jsq {
namespace {

[[noreturn]] void failed(const char* what) {
  throw Error(Errc::write_failed, std::string("temporary file for compressed blocks: ") + what + ": " +
                                      std::strerror(errno) + "; free space in the folder that TMPDIR names");
}

}  // namespace

void Spool::append(std::string_view bytes) {
  size_ += bytes.size();
  if (forward_ != nullptr) {
    forward_->write(std::as_bytes(std::span(bytes)));
    return;
  }
  if (!file_ && memory_.size() + bytes.size() <= memory_limit_) {
    memory_.append(bytes);
    return;
  }
  if (!file_) {
    file_.reset(std::tmpfile());
    if (!file_) failed("cannot create it");
  }
  if (std::fwrite(bytes.data(), 1, bytes.size(), file_.get()) != bytes.size()) failed("cannot write");
}

void Spool::shrink(uint64_t size) {
  if (size < memory_.size()) memory_.resize(size_t(size));
  size_ = size;
  // What the file has beyond is not read again, or written over.
  if (file_ && std::fseek(file_.get(), long(size - memory_.size()), SEEK_SET) != 0) failed("cannot go back");
}

void Spool::copy_to(Spool& out) {
  struct Sink final : ByteSink {
    explicit Sink(Spool& spool) : to(spool) {}
    void write(std::span<const std::byte> bytes) override {
      to.append({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    }
    Spool& to;
  };
  Sink sink(out);
  copy_to(sink);
}

void Spool::copy_to(ByteSink& out) {
  if (forward_ != nullptr) return;
  out.write(std::as_bytes(std::span(memory_)));
  if (!file_) return;
  if (std::fflush(file_.get()) != 0 || std::fseek(file_.get(), 0, SEEK_SET) != 0) failed("cannot read back");
  std::vector<char> buffer(size_t(1) << 20);
  for (uint64_t left = size_ - memory_.size(); left > 0;) {
    const size_t n =
        std::fread(buffer.data(), 1, size_t(std::min<uint64_t>(left, buffer.size())), file_.get());
    if (n == 0) failed("cannot read back");
    out.write(std::as_bytes(std::span(buffer.data(), n)));
    left -= n;
  }
}

}  // namespace jsq

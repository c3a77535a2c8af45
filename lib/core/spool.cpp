#include "lib/core/spool.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>

#include "jsq/error.hpp"

namespace jsq {
namespace {

/// Nothing is moved when more is appended. The first piece is enough for most frames; the others are as large
/// as a large page, which is one fault instead of hundreds.
constexpr size_t first_bytes = size_t(64) << 10, piece_bytes = size_t(2) << 20;

size_t bytes_of_piece(size_t piece) {
  return piece == 0 ? first_bytes : piece_bytes;
}
size_t begin_of_piece(size_t piece) {
  return piece == 0 ? 0 : first_bytes + (piece - 1) * piece_bytes;
}

char* allocate_piece(size_t piece) {
  void* const memory = piece == 0 ? std::malloc(first_bytes) : std::aligned_alloc(piece_bytes, piece_bytes);
  if (memory == nullptr) throw std::bad_alloc();
  if (piece > 0) madvise(memory, piece_bytes, MADV_HUGEPAGE);  // a wish, no more
  return static_cast<char*>(memory);
}

[[noreturn]] void failed(const char* what) {
  throw Error(Errc::write_failed, std::string("temporary file for compressed blocks: ") + what + ": " +
                                      std::strerror(errno) + "; free space in the folder that TMPDIR names");
}

}  // namespace

void Spool::Free::operator()(char* bytes) const {
  std::free(bytes);
}

void Spool::keep(std::string_view bytes) {
  while (!bytes.empty()) {
    if (kept_ == begin_of_piece(pieces_.size()))
      pieces_.push_back(std::unique_ptr<char, Free>(allocate_piece(pieces_.size())));
    const size_t last = pieces_.size() - 1, in_last = kept_ - begin_of_piece(last);
    const size_t n = std::min(bytes.size(), bytes_of_piece(last) - in_last);
    std::memcpy(pieces_[last].get() + in_last, bytes.data(), n);
    kept_ += n;
    bytes.remove_prefix(n);
  }
}

void Spool::append(std::string_view bytes) {
  size_ += bytes.size();
  if (forward_ != nullptr) {
    forward_->write(std::as_bytes(std::span(bytes)));
    return;
  }
  if (!file_ && kept_ + bytes.size() <= memory_limit_) return keep(bytes);
  if (!file_) {
    file_.reset(std::tmpfile());
    if (!file_) failed("cannot create it");
  }
  if (std::fwrite(bytes.data(), 1, bytes.size(), file_.get()) != bytes.size()) failed("cannot write");
}

void Spool::shrink(uint64_t size) {
  if (size < kept_) {
    kept_ = size_t(size);
    while (!pieces_.empty() && begin_of_piece(pieces_.size() - 1) >= kept_) pieces_.pop_back();
  }
  size_ = size;
  // What the file has beyond is not read again, or written over.
  if (file_ && std::fseek(file_.get(), long(size - kept_), SEEK_SET) != 0) failed("cannot go back");
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
  for (size_t i = 0; i < pieces_.size(); ++i) {
    const size_t size = std::min(bytes_of_piece(i), kept_ - begin_of_piece(i));
    out.write(std::as_bytes(std::span(pieces_[i].get(), size)));
  }
  if (!file_) return;
  if (std::fflush(file_.get()) != 0 || std::fseek(file_.get(), 0, SEEK_SET) != 0) failed("cannot read back");
  std::vector<char> buffer(size_t(1) << 20);
  for (uint64_t left = size_ - kept_; left > 0;) {
    const size_t n =
        std::fread(buffer.data(), 1, size_t(std::min<uint64_t>(left, buffer.size())), file_.get());
    if (n == 0) failed("cannot read back");
    out.write(std::as_bytes(std::span(buffer.data(), n)));
    left -= n;
  }
}

}  // namespace jsq

// Where frames go: memory or a file descriptor.
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "jsq/compress.hpp"
#include "jsq/error.hpp"

namespace jsq {

void MemorySink::write(std::span<const std::byte> data) {
  bytes.append(reinterpret_cast<const char*>(data.data()), data.size());
}

void FileSink::write(std::span<const std::byte> data) {
  size_t done = 0;
  while (done < data.size()) {
    const ssize_t n = ::write(descriptor_, data.data() + done, data.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0)
      throw Error(Errc::write_failed, name_ + ": write failed after " + std::to_string(done) + " of " +
                                          std::to_string(data.size()) + " bytes: " + std::strerror(errno) +
                                          "; nothing was replaced");
    done += size_t(n);
  }
}

}  // namespace jsq

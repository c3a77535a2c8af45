// Hashing of a file in pieces.
#include "file_hash.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <vector>

#include "atomic_output.hpp"
#include "jsq/error.hpp"

namespace jsq::tools {

std::string xxh64_of_file(const std::string& path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) throw Error(Errc::not_found, path + ": cannot open: " + std::strerror(errno));
  const std::unique_ptr<XXH64_state_t, decltype(&XXH64_freeState)> state(XXH64_createState(),
                                                                         XXH64_freeState);
  XXH64_reset(state.get(), 0);
  std::vector<char> buffer(size_t(1) << 20);
  for (;;) {
    const ssize_t got = ::read(file.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw Error(Errc::read_failed, path + ": cannot read: " + std::strerror(errno));
    if (got == 0) return fmt::format("{:016x}", XXH64_digest(state.get()));
    XXH64_update(state.get(), buffer.data(), size_t(got));
  }
}

}  // namespace jsq::tools

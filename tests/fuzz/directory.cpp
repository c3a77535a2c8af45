// The directory of a frame, without what is around it; what is read is written and read again to the same,
// for inputs of some lengths: looking for the shortest code takes a hundred times as long as reading it.
#include "formats/wire/directory.hpp"
#include "input.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace jsq;
  fuzz::Input in(data, size);
  const uint64_t offset = in.u16() | uint64_t(in.u16()) << 16;  // where the directory would lie
  const std::string_view stored = in.rest();
  fuzz::only_errors([&] {
    const wire::Directory directory = wire::read_directory(stored, offset, "frame");
    if (size % 8 != 0) return;
    const std::string written = wire::write_directory(directory);
    const wire::Directory again = wire::read_directory(written, offset, "frame");
    fuzz::expect(again.tensors.size() == directory.tensors.size() && again.metadata == directory.metadata &&
                     again.seed == directory.seed && wire::write_directory(again) == written,
                 "a directory that was read can be written and read");
  });
  return 0;
}

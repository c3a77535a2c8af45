// npz files: the zip's directory, its members, and the elements of a few.
#include "formats/npy/npy.hpp"
#include "input.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace jsq;
  constexpr uint64_t most_elements = uint64_t(1) << 16;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  fuzz::only_errors([&] {
    const fuzz::MemoryFile file(bytes);
    const auto source =
        open_npz(MappedFile::of_descriptor(file.descriptor(), size, "dump.npz"), "dump.npz", "");
    for (size_t t = 0; t < source->tensors().size() && t < 16; ++t)
      fuzz::only_errors([&] {
        std::vector<float> scratch;
        source->read(t, 0, size_t(std::min(source->tensors()[t].elements(), most_elements)), scratch);
      });
  });
  return 0;
}

// A whole frame: opening, testing, describing and reading it, and what its codes take. Built for fuzzing,
// checksums pass (input reaches what lies behind them).
#include <vector>

#include "input.hpp"
#include "jsq/frame.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace jsq;
  constexpr uint64_t most_elements = uint64_t(1)
                                     << 20;  // of a read; more is what the input declares, at no cost
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  fuzz::only_errors([&] {
    const FrameReader frame = FrameReader::from_bytes(bytes);
    const FrameSizes sizes = frame.sizes();
    fuzz::expect(sizes.file == size, "the frame's size is the file's");
    uint64_t declared = 0;
    for (const FrameTensor& tensor : frame.tensors())
      declared += std::min(tensor.info.elements(), 2 * most_elements);
    const bool small = declared <= most_elements;
    if (small) frame.test(false, 1);
    for (size_t t = 0; t < frame.tensors().size() && t < 64; ++t) {
      const uint64_t elements = frame.tensors()[t].info.elements();
      fuzz::only_errors([&] { frame.method_of(t); });
      if (small) fuzz::only_errors([&] { frame.coding_of(t); });
      const uint64_t count = std::min<uint64_t>(elements, 1000);
      std::vector<float> values(count);
      fuzz::only_errors([&] { frame.read(t, elements - count, values, 1); });
      std::vector<std::byte> stored(size_t(count) * dtype_bytes(frame.tensors()[t].info.dtype));
      fuzz::only_errors([&] { frame.read_stored(t, 0, count, stored, 1); });
    }
  });
  return 0;
}

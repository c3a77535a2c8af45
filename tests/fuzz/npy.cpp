// npy files: header and elements. What is read is written to the same header.
#include "formats/npy/npy.hpp"

#include "formats/npy/npy_header.hpp"
#include "input.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace jsq;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  fuzz::only_errors([&] {
    const fuzz::MemoryFile file(bytes);
    const auto source = open_npy(MappedFile::of_descriptor(file.descriptor(), size, "dump.npy"), "dump.npy");
    for (size_t t = 0; t < source->tensors().size(); ++t) {
      const TensorInfo& info = source->tensors()[t];
      fuzz::expect(info.elements() * dtype_bytes(info.dtype) <= size, "no more elements than the file holds");
      std::vector<float> scratch;
      source->read(t, 0, size_t(info.elements()), scratch);
      const std::string header = npy_header_to_write(info, "");
      const NpyHeader again = parse_npy_header(header, "header");
      fuzz::expect(again.shape == info.shape && again.dtype == info.dtype,
                   "the canonical header says what was read");
    }
  });
  return 0;
}

// The record of non-finite elements beside a tensor's blocks.
#include "formats/wire/exceptions.hpp"
#include "input.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace jsq;
  fuzz::Input in(data, size);
  const DType dtype = DType(1 + in.byte() % 4);
  const uint64_t count = in.u16(), elements = uint64_t(in.u16()) << in.byte() % 47;
  const std::string_view stored = in.rest();
  fuzz::only_errors([&] {
    const wire::Exceptions found =
        wire::read_exceptions(stored, dtype, count, elements, "non-finite elements");
    fuzz::expect(found.index.size() == count && found.bits.size() == count * dtype_bytes(dtype),
                 "as many as were announced");
    for (size_t i = 0; i < found.index.size(); ++i)
      fuzz::expect(found.index[i] < elements && (i == 0 || found.index[i] > found.index[i - 1]),
                   "ascending, inside the tensor");
    fuzz::expect(wire::write_exceptions(found, dtype) == stored, "only what the writer writes is read");
  });
  return 0;
}

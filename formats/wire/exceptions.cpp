#include "formats/wire/exceptions.hpp"

#include "lib/core/bytes.hpp"

namespace jsq::wire {

std::string write_exceptions(const Exceptions& exceptions, DType dtype) {
  ByteWriter out;
  uint64_t expected = 0;
  const size_t size = dtype_bytes(dtype);
  for (size_t i = 0; i < exceptions.index.size(); ++i) {
    out.uvarint(exceptions.index[i] - expected);
    out.raw(std::string_view(exceptions.bits).substr(i * size, size));
    expected = exceptions.index[i] + 1;
  }
  return out.take();
}

Exceptions read_exceptions(std::string_view bytes, DType dtype, uint64_t count, uint64_t elements,
                           std::string_view what) {
  Exceptions exceptions;
  ByteReader in(bytes, what);
  uint64_t expected = 0;
  for (uint64_t i = 0; i < count; ++i) {
    if (expected >= elements) in.damaged("more kept elements than the tensor has");
    expected += in.uvarint(elements - expected - 1);
    exceptions.index.push_back(expected++);
    exceptions.bits.append(in.raw(dtype_bytes(dtype)));
  }
  in.expect_end();
  return exceptions;
}

}  // namespace jsq::wire

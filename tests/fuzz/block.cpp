// The unpackers of every method: its wire id, any parameter set, then any block of any tensor with it.
#include <memory>
#include <vector>

#include "input.hpp"
#include "lib/methods/method.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace jsq;
  fuzz::Input in(data, size);
  const uint32_t method_id = in.byte() % 32;
  const TensorInfo info = fuzz::tensor_of(in);
  const uint64_t elements = info.elements();
  const uint64_t block = uint64_t(1) << 16;
  const uint64_t first = elements == 0 ? 0 : in.byte() % ((elements + block - 1) / block) * block;
  const BlockPlace place{in.byte(), first, &info, 7};
  const std::string_view parameters = in.text(in.u16());
  const std::string_view stored = in.rest();
  fuzz::only_errors([&] {
    const auto decoder = method_with_id(method_id).make_decoder(parameters, "parameter set 0");
    const BlockPlace whole{place.tensor, 0, &info, place.seed};
    decoder->bind({&whole, 1});
    decoder->describe();
    std::vector<float> values(size_t(std::min(block, elements - first)));
    if (values.empty()) return;
    if (stored.empty())
      decoder->decode_empty(place, values);
    else
      decoder->decode_block(place, stored, values, "block 1 of 1");
  });
  return 0;
}

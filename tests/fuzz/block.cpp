// The unpackers of every method: its wire id, any parameter set, then any block of any tensor with it, alone
// and beside others, which gives the same.
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "input.hpp"
#include "lib/methods/method.hpp"

namespace {

using namespace jsq;

/// What the block decodes to; nothing where it is damaged.
std::optional<std::vector<float>> decoded(const MethodDecoder& decoder, StoredBlock block) {
  std::vector<float> values(block.values.size());
  try {
    decoder.decode_block(block.place, block.bytes, values, block.what);
  } catch (const Error& error) {
    if (error.code() == Errc::internal) throw;
    return {};
  }
  return values;
}

void decode_together(const MethodDecoder& decoder, const BlockPlace& place, std::string_view stored,
                     size_t elements) {
  const size_t most = decoder.blocks_together();
  if (most < 2) return;
  std::vector<float> values(most * elements);
  std::vector<StoredBlock> blocks;
  std::vector<std::optional<std::vector<float>>> alone;
  bool sound = true;
  for (size_t i = 0; i < most; ++i) {
    const std::string_view bytes = i % 2 == 0 ? stored : stored.substr(0, stored.size() - i);
    blocks.push_back({place, bytes, std::span(values).subspan(i * elements, elements), "one of several"});
    alone.push_back(decoded(decoder, blocks.back()));
    sound = sound && alone.back();
  }
  bool together = true;
  try {
    decoder.decode_together(blocks);
  } catch (const Error& error) {
    if (error.code() == Errc::internal) throw;
    together = false;
  }
  fuzz::expect(together == sound, "blocks together are damaged where one of them is");
  for (size_t i = 0; sound && i < most; ++i)
    fuzz::expect(std::memcmp(alone[i]->data(), blocks[i].values.data(), elements * sizeof(float)) == 0,
                 "blocks together decode to what they do alone");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
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
    if (stored.size() > 8) decode_together(*decoder, place, stored, values.size());
    if (stored.empty())
      decoder->decode_empty(place, values);
    else
      decoder->decode_block(place, stored, values, "block 1 of 1");
  });
  return 0;
}

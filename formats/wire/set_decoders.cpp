#include "formats/wire/set_decoders.hpp"

#include <algorithm>
#include <string>

namespace jsq::wire {

SetDecoders::SetDecoders(const Directory& directory)
    : directory_(directory), users_(directory.sets.size()), decoders_(directory.sets.size()) {
  for (size_t t = 0; t < directory.tensors.size(); ++t)
    users_[directory.tensors[t].parameter_set].push_back(uint32_t(t));
}

const MethodDecoder& SetDecoders::of(uint32_t set) const {
  const std::lock_guard lock(mutex_);
  if (!decoders_[set]) {
    auto decoder = method_with_id(directory_.sets[set].method_id)
                       .make_decoder(directory_.sets[set].bytes, "parameter set " + std::to_string(set));
    std::vector<BlockPlace> users;
    for (const uint32_t t : users_[set])
      users.push_back({t, 0, &directory_.tensors[t].info, directory_.seed});
    decoder->bind(users);
    decoders_[set] = std::move(decoder);
  }
  return *decoders_[set];
}

bool SetDecoders::empty_is_zero(const FrameTensor& tensor) const {
  return !method_packs(directory_.sets[tensor.parameter_set].method_id);
}

void SetDecoders::decode(size_t t, size_t b, std::string_view payload, std::span<float> values,
                         std::string_view what) const {
  const FrameTensor& tensor = directory_.tensors[t];
  if (!payload.empty()) return of(tensor.parameter_set).decode_block(place(t, b), payload, values, what);
  if (empty_is_zero(tensor))
    std::fill(values.begin(), values.end(), 0.0f);
  else
    of(tensor.parameter_set).decode_empty(place(t, b), values);
}

void SetDecoders::decode(std::span<const Block> blocks) const {
  std::vector<StoredBlock> together;
  uint32_t set = 0;
  const auto decode_together = [&] {
    if (!together.empty()) of(set).decode_together(together);
    together.clear();
  };
  for (const Block& block : blocks) {
    if (block.payload.empty()) {
      decode(block.tensor, block.index, block.payload, block.values, block.what);
      continue;
    }
    const uint32_t own = directory_.tensors[block.tensor].parameter_set;
    if (own != set || together.size() == of(own).blocks_together()) decode_together();
    set = own;
    together.push_back({place(block.tensor, block.index), block.payload, block.values, block.what});
  }
  decode_together();
}

size_t SetDecoders::blocks_together(size_t t) const {
  const FrameTensor& tensor = directory_.tensors[t];
  // Nobody asks for the method of blocks without bytes, which need not be known.
  const auto has_bytes = [](uint64_t bytes) { return bytes > 0; };
  if (std::none_of(tensor.block_bytes.begin(), tensor.block_bytes.end(), has_bytes)) return 1;
  return of(tensor.parameter_set).blocks_together();
}

BlockPlace SetDecoders::place(size_t t, size_t b) const {
  const FrameTensor& tensor = directory_.tensors[t];
  return {uint32_t(t), uint64_t(b) << tensor.block_log2, &tensor.info, directory_.seed};
}

}  // namespace jsq::wire

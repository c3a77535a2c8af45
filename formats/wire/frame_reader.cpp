// FrameReader: directory, blocks, tensors and slices of a frame; whole dumps through a bounded pipeline.
#include "jsq/frame.hpp"

#include <fmt/format.h>
#include <tbb/parallel_for.h>
#include <tbb/parallel_pipeline.h>
#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>

#include "formats/mapped_file.hpp"
#include "formats/wire/device_decoders.hpp"
#include "formats/wire/directory.hpp"
#include "formats/wire/exceptions.hpp"
#include "formats/wire/set_decoders.hpp"
#include "jsq/device.hpp"
#include "jsq/error.hpp"
#include "kernels/cuda/user_memory.hpp"
#include "lib/core/bytes.hpp"
#include "lib/core/device.hpp"
#include "lib/core/threads.hpp"
#include "lib/methods/method.hpp"

namespace jsq {

struct FrameReader::State {
  std::string name;
  MappedFile map;
  std::string_view bytes;
  wire::Directory directory;
  uint64_t directory_stored = 0;
  std::unique_ptr<wire::SetDecoders> decoders;  // of the directory, which stays where it is
  Backend backend = Backend::cpu;
  std::unique_ptr<wire::DeviceDecoders> device_decoders;

  std::string block_name(size_t t, size_t b) const {
    const FrameTensor& tensor = directory.tensors[t];
    return name + ": tensor " + std::to_string(t) + " '" + tensor.info.name + "', block " +
           std::to_string(b + 1) + " of " + std::to_string(tensor.block_bytes.size());
  }

  /// File offset of block b's checksum.
  uint64_t block_offset(const FrameTensor& tensor, size_t b) const {
    uint64_t at = tensor.first_byte;
    for (size_t i = 0; i < b; ++i)
      if (tensor.block_bytes[i]) at += tensor.block_bytes[i] + wire::checksum_bytes;
    return at;
  }

  /// The payload at `offset`, its checksum verified.
  std::string_view payload(uint64_t offset, uint64_t size, size_t t, size_t b,
                           const std::string& what) const {
    ByteReader in(bytes.substr(size_t(offset), size_t(size) + wire::checksum_bytes), what);
    const uint32_t expected = in.u32();
    const std::string_view found = in.raw(size);
    if (wire::checksums_count && wire::block_checksum(found, t, b) != expected)
      throw Error(Errc::damaged, what + ": checksum mismatch at byte " + std::to_string(offset));
    return found;
  }

  /// Decodes the whole block b.
  void decode_block(size_t t, size_t b, uint64_t offset, std::span<float> values) const {
    const FrameTensor& tensor = directory.tensors[t];
    const std::string what = block_name(t, b);
    const bool empty = tensor.block_bytes[b] == 0;
    decoders->decode(t, b, empty ? std::string_view() : payload(offset, tensor.block_bytes[b], t, b, what),
                     values, what);
  }

  /// Decodes the neighbouring whole blocks at `offsets`, from b on.
  void decode_blocks(size_t t, size_t b, std::span<const uint64_t> offsets, std::span<float> values) const {
    if (offsets.size() == 1) return decode_block(t, b, offsets[0], values);
    const size_t length = size_t(1) << directory.tensors[t].block_log2;
    std::vector<BlockOfFile> blocks;
    for (size_t i = 0; i < offsets.size(); ++i)
      blocks.push_back(
          {t, b + i, offsets[i], values.subspan(i * length, std::min(length, values.size() - i * length))});
    decode_blocks(blocks);
  }

  /// A whole block, the file's offset of its checksum and where its values go.
  struct BlockOfFile {
    size_t tensor, index;
    uint64_t offset;
    std::span<float> values;
  };
  void decode_blocks(std::span<const BlockOfFile> blocks) const {
    std::vector<std::string> whats;
    whats.reserve(blocks.size());
    std::vector<wire::SetDecoders::Block> payloads;
    for (const auto& [t, b, offset, values] : blocks) {
      whats.push_back(block_name(t, b));
      const uint64_t size = directory.tensors[t].block_bytes[b];
      payloads.push_back({t, b, size == 0 ? std::string_view() : payload(offset, size, t, b, whats.back()),
                          values, whats.back()});
    }
    decoders->decode(payloads);
  }

  /// Whether tensor t is one short block, which is decoded beside others.
  bool is_short(size_t t) const {
    const FrameTensor& tensor = directory.tensors[t];
    return tensor.block_bytes.size() == 1 && tensor.info.elements() <= wire::short_tensor_elements &&
           !on_device(t);
  }
  /// How many of the tensors [first, end) from the first on are short, at most short_tensors_together.
  size_t short_from(size_t first, size_t end) const {
    size_t count = 0;
    while (count < wire::short_tensors_together && first + count < end && is_short(first + count)) ++count;
    return count;
  }
  /// The values of short tensors [first, first + count), one after the other.
  void decode_short(size_t first, size_t count, std::span<float> values) const {
    std::vector<BlockOfFile> blocks;
    for (size_t t = first; t < first + count; ++t) {
      const auto elements = size_t(directory.tensors[t].info.elements());
      blocks.push_back({t, 0, directory.tensors[t].first_byte, values.first(elements)});
      values = values.subspan(elements);
    }
    decode_blocks(blocks);
  }

  /// Whether tensor t's blocks are decoded on the device.
  bool on_device(size_t t) const {
    if (backend == Backend::cpu) return false;
    const MethodInfo& method =
        method_with_id(directory.sets[directory.tensors[t].parameter_set].method_id).info;
    return decodes_on_device(backend, method.name, method.backends);
  }

  bool has_device_decoder(size_t t) const {
    return bool(device_decoders->take(directory.tensors[t].parameter_set));
  }

  /// A block of a group and where it lies in the file.
  struct GroupBlock {
    size_t index = 0;
    uint64_t offset = 0;
    size_t first = 0;  ///< of its values in the group
    size_t count = 0;
  };
  /// Decodes neighbouring blocks of tensor t on the device into `values`, in host memory or the device's;
  /// decode(block) does it for those that the device does not take for sound, and failed(block, error) is
  /// called for what is damaged.
  template <class Decode, class Failed>
  void decode_group(size_t t, std::span<const GroupBlock> group, std::span<float> values, Decode decode,
                    Failed failed) const {
    const FrameTensor& tensor = directory.tensors[t];
    const uint64_t begin = group.front().offset;
    uint64_t end = begin;
    std::vector<DeviceBlockDecoder::Block> blocks;
    std::vector<uint8_t> intact(group.size(), 1), sound(group.size());
    for (size_t i = 0; i < group.size(); ++i) {
      const auto& [b, offset, first, count] = group[i];
      const uint64_t size = tensor.block_bytes[b];
      try {
        if (size > 0) payload(offset, size, t, b, block_name(t, b));
      } catch (const Error& error) {
        intact[i] = 0;
        failed(b, error);
      }
      blocks.push_back(
          {offset + wire::checksum_bytes - begin, intact[i] ? size : 0, first, count, decoders->place(t, b)});
      if (size > 0) end = offset + wire::checksum_bytes + size;
    }
    {
      const wire::DeviceDecoders::Taken coder = device_decoders->take(tensor.parameter_set);
      if (!coder)
        throw Error(Errc::backend_unavailable,
                    "backend 'cuda' cannot be used: " + decoders->of(tensor.parameter_set).describe() +
                        " is cpu only; use --backend cpu or auto");
      coder->decode(bytes.substr(size_t(begin), size_t(end - begin)), blocks, values, sound);
    }
    for (size_t i = 0; i < group.size(); ++i) {
      if (sound[i] || !intact[i]) continue;
      try {
        decode(group[i]);  // the processor's decoder knows what is wrong
      } catch (const Error& error) {
        failed(group[i].index, error);
      }
    }
  }
  template <class Failed>
  void decode_group(size_t t, std::span<const GroupBlock> group, std::span<float> values,
                    Failed failed) const {
    decode_group(
        t, group, values,
        [&](const GroupBlock& block) {
          decode_block(t, block.index, block.offset, values.subspan(block.first, block.count));
        },
        failed);
  }
  /// Decoded on the device together: two blocks of 2^18 for each of 128 processors, since a block's entropy
  /// decoder is one chain. Where the host needs memory of its own for the values, fewer.
  static constexpr uint64_t group_elements = uint64_t(1) << 26, piece_elements = uint64_t(1) << 24;

  /// Block b of tensor t, at `offset`, and those behind it that lie in [first, first + count) whole, as it
  /// does, about `most` elements of them; or it alone. `b` and `offset` go on to the next one.
  std::vector<GroupBlock> group_from(size_t t, size_t& b, uint64_t& offset, uint64_t first, uint64_t count,
                                     uint64_t most) const {
    const FrameTensor& tensor = directory.tensors[t];
    const uint64_t length = uint64_t(1) << tensor.block_log2, elements = tensor.info.elements();
    std::vector<GroupBlock> group;
    size_t held = 0;
    for (bool more = true; more;) {
      const uint64_t begin = uint64_t(b) * length, end = std::min(begin + length, elements);
      const bool whole = begin >= first && end <= first + count;
      if (!whole && !group.empty()) break;
      group.push_back({b, offset, held, size_t(end - begin)});
      held += size_t(end - begin);
      if (tensor.block_bytes[b]) offset += tensor.block_bytes[b] + wire::checksum_bytes;
      ++b;
      more = whole && end < elements && held < most;
    }
    return group;
  }

  /// Elements [first, first + count) of tensor t, which the device decodes, in its memory at `device`. Blocks
  /// that lie in the range whole are decoded there, the others beside it.
  void decode_to_device(size_t t, uint64_t first, uint64_t count, float* device, void* stream) const {
    const FrameTensor& tensor = directory.tensors[t];
    const uint64_t length = uint64_t(1) << tensor.block_log2, elements = tensor.info.elements();
    const auto place_of = [&](size_t b) {
      return std::pair(uint64_t(b) * length, std::min((uint64_t(b) + 1) * length, elements));
    };
    const auto is_whole = [&](size_t b) {
      return place_of(b).first >= first && place_of(b).second <= first + count;
    };
    const size_t end = size_t((first + count - 1) >> tensor.block_log2) + 1;
    size_t b = size_t(first >> tensor.block_log2);
    uint64_t offset = block_offset(tensor, b);
    cuda::wait_for(stream);
    while (b < end) {
      const bool whole = is_whole(b);
      const uint64_t start = place_of(b).first;
      const std::vector<GroupBlock> group = group_from(t, b, offset, first, count, group_elements);
      const size_t held = group.back().first + group.back().count;
      std::shared_ptr<void> room;
      if (!whole) room = cuda::allocate_for_user(held * sizeof(float));
      float* values = whole ? device + (start - first) : static_cast<float*>(room.get());
      decode_group(
          t, group, {values, held},
          [&](const GroupBlock& block) {
            std::vector<float> decoded(block.count);
            decode_block(t, block.index, block.offset, decoded);
            cuda::copy_to_user(values + block.first, decoded.data(), decoded.size() * sizeof(float), stream);
          },
          [](size_t, const Error& error) { throw error; });
      if (whole) continue;
      const uint64_t from = std::max(first, start), to = std::min(first + count, start + held);
      cuda::copy_within(device + (from - first), values + (from - start), (to - from) * sizeof(float),
                        stream);
    }
  }

  wire::Exceptions exceptions(size_t t) const {
    const FrameTensor& tensor = directory.tensors[t];
    if (tensor.exception_bytes == 0) return {};
    const size_t blocks = tensor.block_bytes.size();
    const std::string what =
        name + ": tensor " + std::to_string(t) + " '" + tensor.info.name + "', non-finite elements";
    const std::string_view stored =
        payload(block_offset(tensor, blocks), tensor.exception_bytes, t, blocks, what);
    return wire::read_exceptions(stored, tensor.info.dtype, tensor.nonfinite_count, tensor.info.elements(),
                                 what);
  }

  /// What a reader gets of decoded values of tensor t, from its element `first` on: what the dump will hold,
  /// and the elements that were kept as they are.
  void make_stored(size_t t, uint64_t first, std::span<float> values) const {
    const TensorInfo& info = directory.tensors[t].info;
    if (info.dtype == DType::f16 || info.dtype == DType::bf16) {
      std::vector<std::byte> stored(values.size() * dtype_bytes(info.dtype));
      encode_elements(info.dtype, values, stored.data());
      decode_elements(info.dtype, false, stored.data(), values);
    }
    const wire::Exceptions kept = exceptions(t);
    for (size_t i = 0; i < kept.index.size(); ++i) {
      if (kept.index[i] < first || kept.index[i] >= first + values.size()) continue;
      const size_t size = dtype_bytes(info.dtype);
      decode_elements(info.dtype, false, reinterpret_cast<const std::byte*>(kept.bits.data()) + i * size,
                      values.subspan(size_t(kept.index[i] - first), 1));
    }
  }

  /// Puts the elements that were kept among the stored bytes of `count` elements of tensor t from `first` on.
  void restore_kept(size_t t, uint64_t first, uint64_t count, std::span<std::byte> stored) const {
    const wire::Exceptions kept = exceptions(t);
    const size_t size = dtype_bytes(directory.tensors[t].info.dtype);
    for (size_t i = 0; i < kept.index.size(); ++i)
      if (kept.index[i] >= first && kept.index[i] < first + count)
        std::memcpy(stored.data() + (kept.index[i] - first) * size, kept.bits.data() + i * size, size);
  }

  /// FrameReader::read_stored() of short tensors [first, first + count), one after the other.
  void read_short_stored(size_t first, size_t count, std::span<std::byte> out) const {
    static thread_local std::vector<float> decoded;
    uint64_t elements = 0;
    for (size_t t = first; t < first + count; ++t) elements += directory.tensors[t].info.elements();
    decoded.resize(size_t(elements));
    decode_short(first, count, decoded);
    std::span<const float> values = decoded;
    for (size_t t = first; t < first + count; ++t) {
      const TensorInfo& info = directory.tensors[t].info;
      const std::span<std::byte> own = out.first(size_t(info.stored_bytes()));
      encode_elements(info.dtype, values.first(size_t(info.elements())), own.data());
      restore_kept(t, 0, info.elements(), own);
      values = values.subspan(size_t(info.elements()));
      out = out.subspan(own.size());
    }
  }

  /// \throws Error usage for elements beyond tensor t.
  void check_range(size_t t, uint64_t first, uint64_t count) const {
    const uint64_t elements = directory.tensors[t].info.elements();
    if (first > elements || count > elements - first)
      throw Error(Errc::usage, name + ": elements " + std::to_string(first) + " to " +
                                   std::to_string(first + count) + " were asked of a tensor of " +
                                   std::to_string(elements));
  }

  /// How many blocks of tensor t are decoded at once where all their values wait in memory.
  size_t held_together(size_t t) const {
    constexpr size_t most = size_t(1) << 20;
    return std::clamp<size_t>(most >> directory.tensors[t].block_log2, 1, decoders->blocks_together(t));
  }

  /// Calls use(first element, count, fetch) for the blocks that hold [first, first + count), or for up to
  /// `together` neighbours that lie in it whole; fetch(values) decodes them.
  template <class Use>
  void for_blocks(size_t t, uint64_t first, uint64_t count, unsigned threads, size_t together,
                  Use use) const {
    const FrameTensor& tensor = directory.tensors[t];
    const uint64_t elements = tensor.info.elements();
    check_range(t, first, count);
    if (count == 0) return;
    const uint64_t length = uint64_t(1) << tensor.block_log2;
    const size_t begin = size_t(first >> tensor.block_log2),
                 end = size_t((first + count - 1) >> tensor.block_log2) + 1;
    std::vector<uint64_t> offsets(end - begin);
    uint64_t at = block_offset(tensor, begin);
    for (size_t b = begin; b < end; ++b) {
      offsets[b - begin] = at;
      if (tensor.block_bytes[b]) at += tensor.block_bytes[b] + wire::checksum_bytes;
    }
    const auto is_whole = [&](size_t b) {
      return uint64_t(b) * length >= first && std::min((uint64_t(b) + 1) * length, elements) <= first + count;
    };
    if (on_device(t)) {
      const unsigned decoding = threads == 1 ? 1 : wire::DeviceDecoders::most_taken;
      uint64_t offset = offsets.front();
      std::vector<std::vector<GroupBlock>> groups;
      for (size_t b = begin; b < end;)
        groups.push_back(group_from(t, b, offset, first, count, group_elements / decoding));
      for_each_piece(groups.size(), decoding, [&](size_t g) {
        const std::vector<GroupBlock>& group = groups[g];
        use(group.front().index * length, group.back().first + group.back().count, [&](std::span<float> out) {
          decode_group(t, group, out, [](size_t, const Error& error) { throw error; });
        });
      });
      return;
    }
    const size_t workers =
        threads == 1 ? 1
                     : size_t(std::max(1, arena_threads(threads) > 0 ? arena_threads(threads)
                                                                     : tbb::info::default_concurrency()));
    together = std::clamp<size_t>((end - begin) / workers, 1, together);
    std::vector<size_t> starts;  // of the pieces
    for (size_t b = begin; b < end;) {
      starts.push_back(b);
      const size_t most = std::min(end, b + together);
      for (const bool whole = is_whole(b++); whole && b < most && is_whole(b);) ++b;
    }
    starts.push_back(end);
    const auto one = [&](size_t piece) {
      const size_t b = starts[piece], n = starts[piece + 1] - b;
      const uint64_t start = uint64_t(b) * length;
      use(start, size_t(std::min(n * length, elements - start)),
          [&](std::span<float> out) { decode_blocks(t, b, std::span(offsets).subspan(b - begin, n), out); });
    };
    for_each_piece(starts.size() - 1, threads, one);
  }
  /// Calls use(i) for all i < count, on so many threads.
  template <class Use>
  static void for_each_piece(size_t count, unsigned threads, Use use) {
    if (threads == 1 || count == 1) {
      for (size_t i = 0; i < count; ++i) use(i);
    } else if (threads == 0) {
      tbb::parallel_for(size_t(0), count, use);
    } else {
      on_threads(threads, [&] { tbb::parallel_for(size_t(0), count, use); });
    }
  }
};

FrameReader::FrameReader(std::unique_ptr<State> state) : state_(std::move(state)) {}
FrameReader::FrameReader(FrameReader&&) noexcept = default;
FrameReader& FrameReader::operator=(FrameReader&&) noexcept = default;
FrameReader::~FrameReader() = default;

FrameReader FrameReader::from_bytes(std::string_view bytes, std::string name) {
  auto state = std::make_unique<State>();
  state->name = std::move(name);
  state->bytes = bytes;
  wire::check_header(bytes, state->name);
  ByteReader footer(bytes.substr(bytes.size() - wire::footer_bytes), state->name);
  const uint64_t stored = footer.u32();
  if (stored > bytes.size() - wire::footer_bytes - wire::header_bytes)
    throw Error(Errc::damaged, state->name + ": truncated or damaged: the footer announces a directory of " +
                                   std::to_string(stored) + " bytes in a file of " +
                                   std::to_string(bytes.size()));
  const uint64_t offset = bytes.size() - wire::footer_bytes - stored;
  const std::string_view directory = bytes.substr(size_t(offset), size_t(stored));
  if (wire::checksums_count && wire::write_footer(bytes.substr(0, wire::header_bytes), directory) !=
                                   bytes.substr(bytes.size() - wire::footer_bytes))
    throw Error(Errc::damaged, state->name + ": directory checksum mismatch at byte " +
                                   std::to_string(bytes.size() - 8) +
                                   " (truncated, or damaged in the directory)");
  state->directory_stored = stored;
  state->directory = wire::read_directory(directory, offset, state->name);
  state->decoders = std::make_unique<wire::SetDecoders>(state->directory);
  state->device_decoders =
      std::make_unique<wire::DeviceDecoders>(*state->decoders, state->directory.sets.size());
  return FrameReader(std::move(state));
}

FrameReader FrameReader::open(const std::string& path) {
  MappedFile map = path == "-" ? MappedFile::standard_input() : MappedFile::open(path);
  FrameReader reader = from_bytes(map.text(), path == "-" ? "standard input" : path);
  reader.state_->map = std::move(map);
  reader.state_->bytes = reader.state_->map.text();
  return reader;
}

void FrameReader::use(Backend backend) {
  if (backend == Backend::cuda) {
    require_backend("cuda");
    state_->device_decoders->device();  // this thread's
  }
  state_->backend = backend;
}

const std::vector<FrameDump>& FrameReader::dumps() const {
  return state_->directory.dumps;
}
const std::vector<FrameTensor>& FrameReader::tensors() const {
  return state_->directory.tensors;
}
const std::vector<std::pair<std::string, std::string>>& FrameReader::metadata() const {
  return state_->directory.metadata;
}
uint64_t FrameReader::seed() const {
  return state_->directory.seed;
}

FrameSizes FrameReader::sizes() const {
  FrameSizes sizes;
  sizes.file = state_->bytes.size();
  sizes.header = wire::header_bytes;
  sizes.footer = wire::footer_bytes;
  for (const FrameTensor& tensor : tensors()) {
    for (uint64_t bytes : tensor.block_bytes) {
      sizes.blocks += bytes;
      sizes.checksums += bytes ? wire::checksum_bytes : 0;
    }
    sizes.exceptions += tensor.exception_bytes;
    sizes.checksums += tensor.exception_bytes ? wire::checksum_bytes : 0;
  }
  for (const wire::ParameterSet& set : state_->directory.sets) sizes.parameters += set.bytes.size();
  // Parameter sets lie in the directory; where it is packed, their share is what they would take unpacked, at
  // most.
  sizes.parameters = std::min(sizes.parameters, state_->directory_stored);
  sizes.directory = state_->directory_stored - sizes.parameters;
  return sizes;
}

size_t FrameReader::find(std::string_view wanted) const {
  std::vector<size_t> found;
  for (size_t t = 0; t < tensors().size(); ++t) {
    const FrameTensor& tensor = tensors()[t];
    const std::string& path = dumps()[tensor.dump].path;
    if (tensor.info.name == wanted || path + "::" + tensor.info.name == wanted || path == wanted)
      found.push_back(t);
  }
  if (found.size() == 1) return found[0];
  if (found.empty())
    throw Error(Errc::unknown_name, state_->name + ": no tensor is named '" + std::string(wanted) +
                                        "'; 'jsq list' shows the names");
  throw Error(Errc::unknown_name, state_->name + ": '" + std::string(wanted) + "' names " +
                                      std::to_string(found.size()) + " tensors; write PATH::NAME");
}

std::string FrameReader::method_of(size_t tensor) const {
  return state_->decoders->of(tensors()[tensor].parameter_set).describe();
}

std::optional<TensorCoding> FrameReader::coding_of(size_t t) const {
  const FrameTensor& tensor = tensors()[t];
  const MethodDecoder& decoder = state_->decoders->of(tensor.parameter_set);
  if (!decoder.tells_coding()) return {};
  std::vector<std::string_view> blocks;
  uint64_t offset = tensor.first_byte;
  for (size_t b = 0; b < tensor.block_bytes.size(); ++b) {
    const uint64_t size = tensor.block_bytes[b];
    blocks.push_back(size ? state_->payload(offset, size, t, b, state_->block_name(t, b))
                          : std::string_view());
    if (size) offset += size + wire::checksum_bytes;
  }
  const std::string what = state_->name + ": tensor " + std::to_string(t) + " '" + tensor.info.name + "'";
  return decoder.coding({uint32_t(t), 0, &tensor.info, seed()}, tensor.block_log2, blocks, what);
}

void FrameReader::read(size_t t, uint64_t first, std::span<float> values, unsigned threads) const {
  const State& state = *state_;
  const size_t together = state.decoders->blocks_together(t);
  state.for_blocks(
      t, first, values.size(), threads, together, [&](uint64_t start, size_t count, const auto& fetch) {
        if (start >= first && start + count <= first + values.size()) {
          fetch(values.subspan(size_t(start - first), count));
          return;
        }
        std::vector<float> block(count);
        fetch(block);
        const uint64_t from = std::max(first, start), to = std::min(first + values.size(), start + count);
        std::copy(block.begin() + std::ptrdiff_t(from - start), block.begin() + std::ptrdiff_t(to - start),
                  values.begin() + std::ptrdiff_t(from - first));
      });
  state.make_stored(t, first, values);
}

void FrameReader::read_tensors(size_t first, size_t count, std::span<float> values, unsigned threads) const {
  const State& state = *state_;
  const std::vector<FrameTensor>& all = tensors();
  uint64_t elements = 0;
  for (size_t t = first; t < std::min(first + count, all.size()); ++t) elements += all[t].info.elements();
  if (first > all.size() || count > all.size() - first || elements != values.size())
    throw Error(Errc::usage,
                fmt::format("{}: {} tensors from {} on were asked for as {} values, of {} tensors "
                            "that have {} there",
                            state.name, count, first, values.size(), all.size(), elements));
  struct Piece {
    size_t tensor, count;
    std::span<float> values;
  };
  std::vector<Piece> of_short;
  for (size_t t = first; t < first + count;) {
    const size_t together = state.short_from(t, first + count);
    uint64_t size = 0;
    for (size_t i = t; i < t + std::max<size_t>(together, 1); ++i) size += all[i].info.elements();
    const std::span<float> own = values.first(size_t(size));
    values = values.subspan(size_t(size));
    if (together > 0)
      of_short.push_back({t, together, own});
    else
      read(t, 0, own, threads);
    t += std::max<size_t>(together, 1);
  }
  State::for_each_piece(of_short.size(), threads, [&](size_t i) {
    auto [t, together, own] = of_short[i];
    state.decode_short(t, together, own);
    for (const size_t end = t + together; t < end; ++t) {
      const auto size = size_t(all[t].info.elements());
      state.make_stored(t, 0, own.first(size));
      own = own.subspan(size);
    }
  });
}

void read_to_device(const FrameReader& reader, size_t tensor, uint64_t first, uint64_t count, float* device,
                    void* stream) {
  const FrameReader::State& state = *reader.state_;
  const FrameTensor& coded = reader.tensors()[tensor];
  state.check_range(tensor, first, count);
  const bool as_decoded =
      (coded.info.dtype == DType::f32 || coded.info.dtype == DType::f64) && coded.exception_bytes == 0;
  if (count > 0 && as_decoded && state.has_device_decoder(tensor)) {
    on_device([&] { state.decode_to_device(tensor, first, count, device, stream); });
    return;
  }
  std::vector<float> values(count);
  reader.read(tensor, first, values);
  on_device([&] { cuda::copy_to_user(device, values.data(), values.size() * sizeof(float), stream); });
}

void FrameReader::read_stored(size_t t, uint64_t first, uint64_t count, std::span<std::byte> out,
                              unsigned threads) const {
  const State& state = *state_;
  const DType dtype = tensors()[t].info.dtype;
  const size_t size = dtype_bytes(dtype);
  state.for_blocks(
      t, first, count, threads, state.held_together(t), [&](uint64_t start, size_t n, const auto& fetch) {
        static thread_local std::vector<float> block;
        block.resize(n);
        fetch(block);
        const uint64_t from = std::max(first, start), to = std::min(first + count, start + n);
        encode_elements(dtype, std::span<const float>(block).subspan(size_t(from - start), size_t(to - from)),
                        out.data() + (from - first) * size);
      });
  state.restore_kept(t, first, count, out);
}

uint64_t FrameReader::elements_together(size_t tensor, size_t workers) const {
  const FrameTensor& coded = tensors()[tensor];
  const uint64_t block = uint64_t(1) << coded.block_log2;
  if (coded.block_bytes.empty()) return block;
  if (state_->on_device(tensor)) return std::max(State::piece_elements / block, uint64_t(1)) * block;
  const size_t blocks = coded.block_bytes.size() / std::max<size_t>(workers, 1);
  return std::clamp<uint64_t>(blocks, 1, state_->held_together(tensor)) * block;
}

void FrameReader::write_dump(size_t d, GradientSink& sink, unsigned threads) const {
  const FrameDump& dump = dumps()[d];
  const KeptArena arena(threads);
  struct Piece {
    size_t tensor = 0;
    uint64_t first = 0, count = 0;  ///< elements, unless these are short tensors
    size_t short_tensors = 0;       ///< from `tensor` on
    std::vector<std::byte> stored;
  };
  // The pipeline only points at pieces, which go round: one that fails forgets what is on its way.
  std::mutex mutex;
  std::deque<Piece> pieces;
  std::vector<Piece*> unused;
  const auto fresh_piece = [&] {
    const std::lock_guard lock(mutex);
    if (unused.empty()) return &pieces.emplace_back();
    Piece* const piece = unused.back();
    unused.pop_back();
    return piece;
  };
  size_t t = dump.first_tensor;
  uint64_t at = 0;
  arena->execute([&] {
    tbb::parallel_pipeline(
        size_t(arena->max_concurrency()) * 2,
        tbb::make_filter<
            void, Piece*>(tbb::filter_mode::serial_in_order, [&](tbb::flow_control& control) -> Piece* {
          while (t < dump.first_tensor + dump.tensor_count && at >= tensors()[t].info.elements()) {
            ++t;
            at = 0;
          }
          if (t >= dump.first_tensor + dump.tensor_count) {
            control.stop();
            return nullptr;
          }
          Piece* const piece = fresh_piece();
          piece->tensor = t;
          piece->short_tensors = at > 0 ? 0 : state_->short_from(t, dump.first_tensor + dump.tensor_count);
          if (piece->short_tensors > 0) {
            t += piece->short_tensors;
            return piece;
          }
          const uint64_t length = elements_together(t, size_t(arena->max_concurrency()));
          piece->first = at;
          piece->count = std::min(length, tensors()[t].info.elements() - at);
          at += piece->count;
          return piece;
        }) & tbb::make_filter<Piece*, Piece*>(tbb::filter_mode::parallel, [&](Piece* piece) {
          if (piece->short_tensors > 0) {
            uint64_t bytes = 0;
            for (size_t i = 0; i < piece->short_tensors; ++i)
              bytes += tensors()[piece->tensor + i].info.stored_bytes();
            piece->stored.resize(size_t(bytes));
            state_->read_short_stored(piece->tensor, piece->short_tensors, piece->stored);
          } else {
            piece->stored.resize(size_t(piece->count) * dtype_bytes(tensors()[piece->tensor].info.dtype));
            read_stored(piece->tensor, piece->first, piece->count, piece->stored, 1);
          }
          return piece;
        }) & tbb::make_filter<Piece*, void>(tbb::filter_mode::serial_in_order, [&](Piece* piece) {
          std::span<const std::byte> left = piece->stored;
          for (size_t i = 0; i < std::max<size_t>(piece->short_tensors, 1); ++i) {
            const size_t own = piece->short_tensors > 0
                                   ? size_t(tensors()[piece->tensor + i].info.stored_bytes())
                                   : left.size();
            sink.write(piece->tensor + i - dump.first_tensor, left.first(own));
            left = left.subspan(own);
          }
          const std::lock_guard lock(mutex);
          unused.push_back(piece);
        }));
  });
}

std::vector<BlockDamage> FrameReader::test(bool quick, unsigned threads) const {
  const State& state = *state_;
  struct Job {
    size_t tensor, block;
    uint64_t offset, bytes;
    size_t elements;
  };
  std::vector<Job> jobs;
  for (size_t t = 0; t < tensors().size(); ++t) {
    const FrameTensor& tensor = tensors()[t];
    uint64_t at = tensor.first_byte;
    const uint64_t length = uint64_t(1) << tensor.block_log2;
    for (size_t b = 0; b < tensor.block_bytes.size(); ++b) {
      if (tensor.block_bytes[b] == 0 && state.decoders->empty_is_zero(tensor)) continue;
      jobs.push_back(
          {t, b, at, tensor.block_bytes[b], size_t(std::min(length, tensor.info.elements() - b * length))});
      if (tensor.block_bytes[b]) at += tensor.block_bytes[b] + wire::checksum_bytes;
    }
    if (tensor.exception_bytes) jobs.push_back({t, tensor.block_bytes.size(), at, tensor.exception_bytes, 0});
  }
  std::vector<std::string> messages(jobs.size());
  // Groups of neighbouring blocks that the device decodes; the rest is for the processor.
  std::vector<uint8_t> taken(jobs.size());
  for (size_t i = 0; i < jobs.size() && !quick; ++i) {
    if (jobs[i].elements == 0 || !state.on_device(jobs[i].tensor)) continue;
    std::vector<State::GroupBlock> group;
    const size_t begin = i;
    size_t held = 0;
    for (; i < jobs.size() && jobs[i].tensor == jobs[begin].tensor && jobs[i].elements > 0 &&
           held < State::piece_elements;
         ++i) {
      group.push_back({jobs[i].block, jobs[i].offset, held, jobs[i].elements});
      held += jobs[i].elements;
      taken[i] = 1;
    }
    --i;
    std::vector<float> values(held);
    state.decode_group(jobs[begin].tensor, group, values, [&](size_t block, const Error& error) {
      for (size_t k = begin; k <= i; ++k)
        if (jobs[k].block == block) messages[k] = error.what();
    });
  }
  on_threads(threads, [&] {
    tbb::parallel_for(size_t(0), jobs.size(), [&](size_t i) {
      const Job& job = jobs[i];
      if (taken[i]) return;
      try {
        if (job.elements == 0) {
          state.exceptions(job.tensor);
        } else if (quick) {
          if (job.bytes > 0)
            state.payload(job.offset, job.bytes, job.tensor, job.block,
                          state.block_name(job.tensor, job.block));
        } else {
          static thread_local std::vector<float> values;
          values.resize(job.elements);
          state.decode_block(job.tensor, job.block, job.offset, values);
        }
      } catch (const Error& error) {
        messages[i] = error.what();
      }
    });
  });
  std::vector<BlockDamage> damage;
  for (size_t i = 0; i < jobs.size(); ++i)
    if (!messages[i].empty()) damage.push_back({jobs[i].tensor, jobs[i].block, jobs[i].offset, messages[i]});
  return damage;
}

}  // namespace jsq

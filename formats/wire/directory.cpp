#include "formats/wire/directory.hpp"

#include <xxhash.h>
#include <zstd.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "formats/wire/mixing_coder.hpp"
#include "jsq/error.hpp"
#include "lib/core/bytes.hpp"

namespace jsq::wire {
namespace {

constexpr uint8_t flag_big_endian = 0x10, flag_fortran = 0x20, flag_attachment = 0x40, flag_nonfinite = 0x80;
constexpr uint64_t max_metadata = 4096;
constexpr size_t least_mixed_bytes =
    256;  // of smaller directories too little is gained for the milliseconds that it takes
constexpr uint64_t smallest_bomb = uint64_t(32) << 20;  // directories up to this size are taken at their word

void write_tensor(ByteWriter& out, const FrameTensor& tensor) {
  const TensorInfo& info = tensor.info;
  out.string(info.name);
  out.u8(uint8_t(uint8_t(info.dtype) | (info.big_endian ? flag_big_endian : 0) |
                 (info.fortran_order ? flag_fortran : 0) | (info.attachment.empty() ? 0 : flag_attachment) |
                 (tensor.nonfinite_policy ? flag_nonfinite : 0)));
  out.uvarint(info.shape.size());
  for (uint64_t extent : info.shape) out.uvarint(extent);
  if (!info.attachment.empty()) out.string(info.attachment);
  out.uvarint(tensor.parameter_set);
  if (info.elements() > 0) {
    out.u8(tensor.block_log2);
    for (uint64_t bytes : tensor.block_bytes) out.uvarint(bytes);
  }
  if (tensor.nonfinite_policy) {
    out.u8(tensor.nonfinite_policy);
    out.uvarint(tensor.nonfinite_count);
    if (tensor.nonfinite_policy == 2) out.uvarint(tensor.exception_bytes);
  }
}

FrameTensor read_tensor(ByteReader& in, size_t sets) {
  FrameTensor tensor;
  TensorInfo& info = tensor.info;
  info.name = in.string(max_name_bytes);
  const uint8_t kind = in.u8();
  if ((kind & 15) < 1 || (kind & 15) > 4) in.damaged("unknown element type " + std::to_string(kind & 15));
  info.dtype = DType(kind & 15);
  info.big_endian = kind & flag_big_endian;
  info.fortran_order = kind & flag_fortran;
  const uint64_t rank = in.uvarint(max_rank);
  uint64_t elements = 1;
  for (uint64_t i = 0; i < rank; ++i) {
    const uint64_t extent = in.uvarint(max_elements);
    // The limit holds for the product of the non-zero extents, so that [0, 2^62, 2^62] is refused too.
    if (extent > 0 && elements > max_elements / extent) in.damaged("a shape of more than 2^62 elements");
    elements *= std::max<uint64_t>(extent, 1);
    info.shape.push_back(extent);
  }
  if (kind & flag_attachment) {
    info.attachment = in.string();
    if (info.attachment.empty()) in.damaged("an attachment that is announced and empty");
  }
  tensor.parameter_set = uint32_t(in.uvarint(UINT32_MAX));
  if (tensor.parameter_set >= sets) in.damaged("a parameter set that does not exist");
  if (info.elements() > 0) {
    tensor.block_log2 = in.u8();
    if (tensor.block_log2 < min_block_log2 || tensor.block_log2 > max_block_log2)
      in.damaged("block size 2^" + std::to_string(tensor.block_log2) + " is not within 2^16..2^20");
    const uint64_t blocks = block_count(info.elements(), tensor.block_log2);
    if (blocks > in.remaining()) in.damaged("more blocks than the directory can list");
    tensor.block_bytes.reserve(size_t(blocks));
    for (uint64_t b = 0; b < blocks; ++b) tensor.block_bytes.push_back(in.uvarint(uint64_t(1) << 32));
  }
  if (kind & flag_nonfinite) {
    tensor.nonfinite_policy = in.u8();
    if (tensor.nonfinite_policy < 1 || tensor.nonfinite_policy > 2)
      in.damaged("unknown treatment of non-finite elements");
    tensor.nonfinite_count = in.uvarint(info.elements());
    if (tensor.nonfinite_count == 0) in.damaged("non-finite elements announced and none counted");
    if (tensor.nonfinite_policy == 2) {
      tensor.exception_bytes = in.uvarint();
      if (tensor.exception_bytes == 0) in.damaged("kept non-finite elements announced and none stored");
    }
  }
  return tensor;
}

/// The directory, and beside it the parameters of the sets where they are stored apart.
struct Unpacked {
  std::string directory;
  std::optional<std::string_view> parameters;
};

Unpacked unpack(std::string_view stored, std::string_view what) {
  ByteReader in(stored, what);
  const uint8_t coding = in.u8();
  if (coding == 0) return {std::string(in.raw(in.remaining())), {}};
  if (coding > 3) in.damaged("unknown coding of the directory " + std::to_string(coding));
  const uint64_t size = in.uvarint(coding == 3 ? most_mixed_bytes : UINT64_MAX);
  if (coding == 3) {
    std::optional<std::string> text =
        decode_mixed(directory_primer(), in.string(in.remaining()), size_t(size));
    if (!text) in.damaged("the directory does not unpack");
    return {*std::move(text), in.raw(in.remaining())};
  }
  const std::string_view packed = coding == 2 ? in.string(in.remaining()) : in.raw(in.remaining());
  Unpacked unpacked;
  if (coding == 2) unpacked.parameters = in.raw(in.remaining());
  if (size > std::max<uint64_t>(smallest_bomb, 64 * packed.size()))
    throw Error(Errc::limit, std::string(what) + ": the directory claims to unpack to " +
                                 std::to_string(size) + " bytes from " + std::to_string(packed.size()) +
                                 "; this is not a plausible frame");
  // Exactly one frame, of zstd's own kind, that states this size.
  if (packed.size() < 4 || packed.substr(0, 4) != "\x28\xb5\x2f\xfd" ||
      ZSTD_findFrameCompressedSize(packed.data(), packed.size()) != packed.size())
    in.damaged("not a single zstd frame");
  if (ZSTD_getFrameContentSize(packed.data(), packed.size()) != size)
    in.damaged("the directory's size is not what it says");
  std::string raw(size_t(size), '\0');
  const size_t got = ZSTD_decompress(raw.data(), raw.size(), packed.data(), packed.size());
  if (ZSTD_isError(got) || got != size) in.damaged("the directory does not unpack");
  unpacked.directory = std::move(raw);
  return unpacked;
}

std::string write_entries(const Directory& directory, bool parameters_apart) {
  ByteWriter out;
  out.uvarint(directory.seed);
  out.uvarint(directory.metadata.size());
  for (const auto& [key, value] : directory.metadata) {
    out.string(key);
    out.string(value);
  }
  out.uvarint(directory.sets.size());
  for (const ParameterSet& set : directory.sets) {
    out.uvarint(set.method_id);
    if (parameters_apart)
      out.uvarint(set.bytes.size());
    else
      out.string(set.bytes);
  }
  out.uvarint(directory.dumps.size());
  for (const FrameDump& dump : directory.dumps) {
    out.string(dump.path);
    out.u8(uint8_t(dump.dump.format));
    out.string(dump.dump.attachment);
    out.uvarint(dump.tensor_count);
    for (size_t t = 0; t < dump.tensor_count; ++t)
      write_tensor(out, directory.tensors[dump.first_tensor + t]);
  }
  return out.take();
}

/// Whether bytes of the directory are worth a microsecond each: not where it takes longer than the elements
/// do, as that of a thousand tensors of a thousand elements.
bool worth_time(const Directory& directory, size_t bytes) {
  uint64_t elements = 0;
  for (const FrameTensor& tensor : directory.tensors) elements += tensor.info.elements();
  return bytes <= 4096 || bytes <= elements / 64;
}

/// Whether entries that took `bytes` so far are part enough of the frame for the mixing coder, which takes a
/// fifth off at best: not where that is less than what block sizes are decided by.
bool worth_mixing(const Directory& directory, size_t bytes) {
  uint64_t others = 0;
  for (const ParameterSet& set : directory.sets) others += set.bytes.size();
  for (const FrameTensor& tensor : directory.tensors)
    for (uint64_t block : tensor.block_bytes) others += block;
  return bytes >= others / 1024;
}

constexpr size_t many_bytes = size_t(64) << 10;  ///< of a directory that little effort goes into

struct FreeContext {
  void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
};

std::optional<std::string> zstd_frame(const std::string& raw, int level) {
  // Tables of zstd are far larger than a small directory, and touching new ones takes longer than coding it.
  static thread_local std::unique_ptr<ZSTD_CCtx, FreeContext> kept;
  std::unique_ptr<ZSTD_CCtx, FreeContext> own;
  if (raw.size() > many_bytes)
    own.reset(ZSTD_createCCtx());
  else if (!kept)
    kept.reset(ZSTD_createCCtx());
  ZSTD_CCtx* const context = own ? own.get() : kept.get();
  std::string packed(ZSTD_compressBound(raw.size()), '\0');
  if (context == nullptr) return {};
  const size_t size = ZSTD_compressCCtx(context, packed.data(), packed.size(), raw.data(), raw.size(), level);
  if (ZSTD_isError(size)) return {};
  packed.resize(size);
  return packed;
}

/// Names and lengths repay effort; a large directory is mostly factors of matrices, which hardly shrink:
/// patience with 18 KiB of them took as long as the products with 2 million elements.
std::optional<std::string> zstd_frame(const std::string& raw, bool worth_time) {
  constexpr int quick = 1, fair = 3, thorough = 9, patient = 19;
  constexpr size_t few = 4096;
  if (raw.size() > many_bytes) return zstd_frame(raw, fair);
  if (raw.size() > few) {
    std::optional<std::string> tried = zstd_frame(raw, quick);
    if (tried && tried->size() > raw.size() / 16 * 15) return tried;
    if (tried && tried->size() > raw.size() / 8 * 7) return zstd_frame(raw, thorough);
  }
  return zstd_frame(raw, worth_time ? patient : thorough);
}

}  // namespace

uint64_t block_count(uint64_t elements, uint8_t block_log2) {
  return (elements >> block_log2) + ((elements & ((uint64_t(1) << block_log2) - 1)) != 0);
}

std::string write_directory(const Directory& directory) {
  const std::string raw = write_entries(directory, false);
  const bool patient = worth_time(directory, raw.size());
  ByteWriter best;
  best.u8(0);
  best.raw(raw);
  if (const std::optional<std::string> packed = zstd_frame(raw, patient)) {
    ByteWriter whole;
    whole.u8(1);
    whole.uvarint(raw.size());
    whole.raw(*packed);
    if (whole.size() < best.size()) best = std::move(whole);
  }
  // Entropy-coded parameters would spoil the statistics of names and lengths.
  const std::string entries = write_entries(directory, true);
  size_t of_entries = entries.size();
  if (const std::optional<std::string> packed = zstd_frame(entries, patient)) {
    of_entries = std::min(of_entries, packed->size());
    ByteWriter apart;
    apart.u8(2);
    apart.uvarint(entries.size());
    apart.string(*packed);
    for (const ParameterSet& set : directory.sets) apart.raw(set.bytes);
    if (apart.size() < best.size()) best = std::move(apart);
  }
  if (patient && entries.size() >= least_mixed_bytes && entries.size() <= most_mixed_bytes &&
      worth_mixing(directory, of_entries)) {
    ByteWriter mixed;
    mixed.u8(3);
    mixed.uvarint(entries.size());
    mixed.string(encode_mixed(directory_primer(), entries));
    for (const ParameterSet& set : directory.sets) mixed.raw(set.bytes);
    if (mixed.size() < best.size()) best = std::move(mixed);
  }
  return best.take();
}

Directory read_directory(std::string_view stored, uint64_t directory_offset, std::string_view what) {
  const Unpacked unpacked = unpack(stored, what);
  ByteReader in(unpacked.directory, what), apart(unpacked.parameters.value_or(std::string_view()), what);
  Directory directory;
  directory.seed = in.uvarint();
  const uint64_t metadata = in.uvarint(max_metadata);
  for (uint64_t i = 0; i < metadata; ++i) {
    std::string key(in.string());
    directory.metadata.emplace_back(std::move(key), in.string());
  }
  const uint64_t sets = in.uvarint(in.remaining());
  for (uint64_t i = 0; i < sets; ++i) {
    const auto id = uint32_t(in.uvarint(UINT32_MAX));
    directory.sets.push_back({id, std::string(unpacked.parameters ? apart.raw(in.uvarint()) : in.string())});
  }
  apart.expect_end();
  const uint64_t dumps = in.uvarint(in.remaining());
  uint64_t at = header_bytes;
  for (uint64_t d = 0; d < dumps; ++d) {
    FrameDump dump;
    dump.path = in.string(max_name_bytes);
    const uint8_t format = in.u8();
    if (format < 1 || format > 3) in.damaged("unknown dump format " + std::to_string(format));
    dump.dump.format = DumpFormat(format);
    dump.dump.attachment = in.string();
    dump.first_tensor = directory.tensors.size();
    dump.tensor_count = size_t(in.uvarint(in.remaining()));
    for (size_t t = 0; t < dump.tensor_count; ++t) {
      FrameTensor tensor = read_tensor(in, directory.sets.size());
      tensor.dump = uint32_t(d);
      tensor.method_id = directory.sets[tensor.parameter_set].method_id;
      tensor.first_byte = at;
      const auto place = [&](uint64_t bytes) {
        if (bytes == 0) return;
        if (bytes + checksum_bytes > directory_offset - at)
          in.damaged("blocks reach beyond the start of the directory");
        at += bytes + checksum_bytes;
      };
      for (uint64_t bytes : tensor.block_bytes) place(bytes);
      if (tensor.exception_bytes > directory_offset)
        in.damaged("blocks reach beyond the start of the directory");
      place(tensor.exception_bytes);
      directory.tensors.push_back(std::move(tensor));
    }
    directory.dumps.push_back(std::move(dump));
  }
  in.expect_end();
  if (at != directory_offset)
    throw Error(Errc::damaged, std::string(what) + ": the blocks end at byte " + std::to_string(at) +
                                   ", but the directory begins at byte " + std::to_string(directory_offset));
  return directory;
}

std::string write_header() {
  ByteWriter out;
  out.raw(frame_magic);
  out.u8(format_version);
  out.u8(0);
  out.u16(uint16_t(XXH3_64bits(out.bytes().data(), out.size())));
  return out.take();
}

void check_header(std::string_view file, std::string_view what) {
  if (file.empty()) throw Error(Errc::damaged, std::string(what) + ": empty file; expected a jsq frame");
  const std::string_view begin = file.substr(0, std::min(file.size(), frame_magic.size()));
  if (begin != frame_magic.substr(0, begin.size()))
    throw Error(Errc::unsupported_format,
                std::string(what) + ": not a jsq frame (it does not begin with JSQ and 0x1a)");
  if (file.size() < header_bytes + footer_bytes)
    throw Error(Errc::damaged, std::string(what) + ": truncated: " + std::to_string(file.size()) +
                                   " bytes, a frame has at least " +
                                   std::to_string(header_bytes + footer_bytes));
  ByteReader in(file.substr(4, 4), what);
  const uint8_t version = in.u8(), features = in.u8();
  const uint16_t checksum = in.u16();
  if (checksums_count && checksum != uint16_t(XXH3_64bits(file.data(), 6)))
    throw Error(Errc::damaged, std::string(what) + ": header checksum mismatch at byte 6");
  if (version != format_version || (features & ~known_features))
    throw Error(Errc::newer_format, std::string(what) + ": frame version " + std::to_string(version) +
                                        " with features " + std::to_string(features) +
                                        "; this jsq reads version " + std::to_string(format_version) +
                                        " without features; use a newer jsq");
}

std::string write_footer(std::string_view header, std::string_view stored_directory) {
  ByteWriter out;
  out.u32(uint32_t(stored_directory.size()));
  XXH3_state_t* state = XXH3_createState();
  XXH3_64bits_reset(state);
  XXH3_64bits_update(state, header.data(), header.size());
  XXH3_64bits_update(state, stored_directory.data(), stored_directory.size());
  XXH3_64bits_update(state, out.bytes().data(), 4);
  out.u64(XXH3_64bits_digest(state));
  XXH3_freeState(state);
  return out.take();
}

uint32_t block_checksum(std::string_view payload, size_t tensor, size_t block) {
  return uint32_t(
      XXH3_64bits_withSeed(payload.data(), payload.size(), uint64_t(tensor) << 32 | uint64_t(block)));
}

}  // namespace jsq::wire

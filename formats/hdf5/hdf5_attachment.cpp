// The outer form of DumpInfo.attachment; see hdf5_attachment.hpp.
#include "formats/hdf5/hdf5_attachment.hpp"

#include <algorithm>

#include "formats/hdf5/hdf5.hpp"
#include "formats/hdf5/hdf5_type.hpp"

namespace jsq {

namespace hdf5 {

namespace {

constexpr uint64_t longest_path = uint64_t(1) << 20;

size_t shared_prefix(std::string_view a, std::string_view b) {
  return size_t(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

}  // namespace

void AttachmentWriter::add(RecordKind kind, std::string_view path, std::string_view body) {
  const size_t shared = shared_prefix(last_path_, path);
  records_.u8(uint8_t(kind));
  records_.uvarint(shared);
  records_.string(path.substr(shared));
  records_.string(body);
  last_path_ = path;
}

std::string AttachmentWriter::finish(Generation generation) {
  if (generation == Generation::earliest && records_.size() == 0) return {};
  std::string bytes(1, char(generation));
  bytes += records_.bytes();
  return bytes;
}

Attachment parse_attachment(std::string_view bytes) {
  Attachment attachment;
  if (bytes.empty()) return attachment;
  ByteReader in(bytes, "the HDF5 attachment of the dump");
  const uint8_t generation = in.u8();
  if (generation > uint8_t(Generation::v110))
    in.damaged("unknown file generation " + std::to_string(generation));
  attachment.generation = Generation(generation);
  std::string path;
  while (in.remaining() > 0) {
    const uint8_t kind = in.u8();
    if (kind < uint8_t(RecordKind::group) || kind > uint8_t(RecordKind::skipped))
      in.damaged("unknown record kind " + std::to_string(kind));
    path.resize(in.uvarint(path.size()));
    path += in.string(longest_path - path.size());
    attachment.records.push_back({RecordKind(kind), path, in.string()});
  }
  return attachment;
}

}  // namespace hdf5

std::vector<std::string> skipped_in_hdf5(const DumpInfo& dump) {
  std::vector<std::string> lines;
  for (const hdf5::Record& record : hdf5::parse_attachment(dump.attachment).records) {
    if (record.kind != hdf5::RecordKind::skipped) continue;
    ByteReader in(record.body, "a skipped record of the HDF5 attachment");
    const uint8_t reason = in.u8();
    in.expect_end();
    lines.push_back((record.path.empty() ? "/" : record.path) + ": " +
                    std::string(hdf5::skip_text(hdf5::Skip(reason))));
  }
  return lines;
}

}  // namespace jsq

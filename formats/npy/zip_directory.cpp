// The structures of APPNOTE.TXT 4.3 (PKWARE), read backwards from the end record.
#include "formats/npy/zip_directory.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "formats/npy/npy_header.hpp"
#include "jsq/error.hpp"
#include "lib/core/bytes.hpp"

namespace jsq {
namespace {

constexpr uint32_t local_signature = 0x04034b50;
constexpr uint32_t central_signature = 0x02014b50;
constexpr uint32_t end_signature = 0x06054b50;
constexpr uint32_t end64_signature = 0x06064b50;
constexpr uint32_t locator64_signature = 0x07064b50;
constexpr size_t local_bytes = 30, central_bytes = 46, end_bytes = 22, end64_bytes = 56, locator64_bytes = 20;

constexpr uint64_t member_limit_bytes = uint64_t(1) << 40;
constexpr uint64_t deflate_best_ratio = 1032;  // 258 bytes from two bits
constexpr uint16_t encrypted_flag = 1, strong_encryption_flag = 64, utf8_flag = 0x800;

[[noreturn]] void damaged(const std::string& where, const std::string& why) {
  throw Error(Errc::damaged, where + ": damaged zip archive: " + why);
}

uint32_t word_at(std::string_view file, size_t at) {
  return ByteReader(file.substr(at), "zip signature").u32();
}

/// The end record is the one whose comment ends with the file.
size_t find_end_record(std::string_view file, const std::string& where) {
  if (file.size() >= end_bytes) {
    const size_t last = file.size() - end_bytes;
    const size_t first = last - std::min<size_t>(last, 65535);
    for (size_t at = last + 1; at-- > first;) {
      if (word_at(file, at) != end_signature) continue;
      const size_t comment_bytes = ByteReader(file.substr(at + end_bytes - 2), "zip comment length").u16();
      if (at + end_bytes + comment_bytes == file.size()) return at;
    }
  }
  damaged(where, "no end record at the end of the file; the file was cut or has bytes appended");
}

/// Where the central directory lies, from whichever end record says it.
struct DirectoryPlace {
  uint64_t entries, bytes, offset;
  uint64_t next;  ///< offset of the record that must follow the directory
};

void refuse_several_disks(bool several, const std::string& where) {
  if (several)
    throw Error(Errc::unsupported_format,
                where + ": the zip archive spans several disks; expected a single file");
}

DirectoryPlace read_end64(std::string_view file, size_t locator_at, const std::string& where) {
  const std::string what = where + ": zip64 end record";
  ByteReader locator(file.substr(locator_at, locator64_bytes), what);
  locator.u32();
  const uint32_t disk = locator.u32();
  const uint64_t at = locator.u64();
  refuse_several_disks(disk != 0 || locator.u32() > 1, where);
  if (at > locator_at || locator_at - at < end64_bytes || word_at(file, size_t(at)) != end64_signature)
    damaged(where, "the zip64 locator points to no end record");
  ByteReader end(file.substr(size_t(at) + 4, locator_at - size_t(at) - 4), what);
  if (end.u64() != locator_at - at - 12) damaged(where, "the zip64 end record has a wrong size");
  end.u32();  // versions
  const uint32_t this_disk = end.u32(), directory_disk = end.u32();
  refuse_several_disks(this_disk != 0 || directory_disk != 0, where);
  DirectoryPlace place{};
  const uint64_t entries_here = end.u64();
  place.entries = end.u64();
  place.bytes = end.u64();
  place.offset = end.u64();
  place.next = at;
  refuse_several_disks(entries_here != place.entries, where);
  return place;
}

DirectoryPlace find_directory(std::string_view file, size_t end_at, const std::string& where) {
  if (end_at >= locator64_bytes && word_at(file, end_at - locator64_bytes) == locator64_signature)
    return read_end64(file, end_at - locator64_bytes, where);
  const std::string what = where + ": zip end record";
  ByteReader end(file.substr(end_at, end_bytes), what);
  end.u32();
  const uint16_t this_disk = end.u16(), directory_disk = end.u16(), entries_here = end.u16();
  DirectoryPlace place{};
  place.entries = end.u16();
  place.bytes = end.u32();
  place.offset = end.u32();
  place.next = end_at;
  refuse_several_disks(this_disk != 0 || directory_disk != 0 || entries_here != place.entries, where);
  return place;
}

/// An entry with what only its checks need.
struct Placed {
  ZipEntry entry;
  uint16_t method = 0;
  uint64_t local_offset = 0;
};

/// Replaces 32-bit fields that hold all ones by those of the zip64 extra field, which lists them in this
/// order.
void read_zip64_extra(std::string_view extra, Placed& placed, const std::string& what) {
  uint64_t* const fields[] = {&placed.entry.bytes, &placed.entry.compressed_bytes, &placed.local_offset};
  if (std::none_of(std::begin(fields), std::end(fields), [](auto* field) { return *field == UINT32_MAX; }))
    return;
  ByteReader in(extra, what);
  while (in.remaining() >= 4) {
    const uint16_t id = in.u16();
    const std::string_view body = in.raw(in.u16());
    if (id != 1) continue;
    ByteReader values(body, what);
    for (uint64_t* const field : fields)
      if (*field == UINT32_MAX) *field = values.u64();
    return;
  }
  in.damaged("expected a zip64 extra field, found none");
}

Placed read_central(ByteReader& in, const std::string& where, const std::string& what) {
  if (in.u32() != central_signature) in.damaged("expected the signature of a directory entry");
  Placed placed;
  ZipEntry& entry = placed.entry;
  entry.host = uint8_t(in.u16() >> 8);
  in.u16();  // version needed
  const uint16_t flags = in.u16();
  placed.method = in.u16();
  entry.dos_time = in.u16();
  entry.dos_date = in.u16();
  in.u32();  // CRC: libzip checks it while reading
  entry.compressed_bytes = in.u32();
  entry.bytes = in.u32();
  const uint16_t name_bytes = in.u16(), extra_bytes = in.u16(), comment_bytes = in.u16();
  refuse_several_disks(in.u16() != 0, where);
  in.u16();  // internal attributes
  entry.attributes = in.u32();
  placed.local_offset = in.u32();
  entry.raw_name = in.raw(name_bytes);
  read_zip64_extra(in.raw(extra_bytes), placed, what);
  in.raw(comment_bytes);

  const std::string member = where + ": member '" + printable(entry.raw_name) + "'";
  if (entry.raw_name.empty() || entry.raw_name.find('\0') != std::string_view::npos)
    damaged(where, "a member's name is empty or holds a NUL");
  const auto control = [](char c) { return uint8_t(c) < 0x20 && c != '\t' && c != '\n' && c != '\r'; };
  if ((flags & utf8_flag) != 0 && std::any_of(entry.raw_name.begin(), entry.raw_name.end(), control))
    throw Error(Errc::unsupported_format,
                member + " has control characters in a UTF-8 name; rename it first");
  if ((flags & (encrypted_flag | strong_encryption_flag)) != 0)
    throw Error(Errc::unsupported_format, member + " is encrypted; decrypt the archive first");
  if (placed.method != 0 && placed.method != 8)
    throw Error(Errc::unsupported_format,
                fmt::format("{} uses zip compression method {}; expected 0 (stored) or 8 (deflated)", member,
                            placed.method));
  entry.deflated = placed.method == 8;
  if (entry.bytes > member_limit_bytes)
    throw Error(Errc::limit, fmt::format("{} declares {} bytes; the limit is {}", member, entry.bytes,
                                         member_limit_bytes));
  if (!entry.deflated && entry.bytes != entry.compressed_bytes)
    damaged(where, fmt::format("stored member '{}' declares two sizes, {} and {}", printable(entry.raw_name),
                               entry.bytes, entry.compressed_bytes));
  if (entry.deflated && entry.bytes / deflate_best_ratio > entry.compressed_bytes)
    damaged(where, fmt::format("member '{}' declares {} bytes from {}, more than deflate can give",
                               printable(entry.raw_name), entry.bytes, entry.compressed_bytes));
  return placed;
}

/// Finds the member's bytes behind its local header, all of it before the directory.
void locate_data(std::string_view file, uint64_t directory_offset, Placed& placed, const std::string& where) {
  const std::string member = "member '" + printable(placed.entry.raw_name) + "'";
  if (placed.local_offset > directory_offset || directory_offset - placed.local_offset < local_bytes)
    damaged(where, member + " lies outside the file");
  const std::string what = where + ": zip header of a member";
  ByteReader in(file.substr(size_t(placed.local_offset), size_t(directory_offset - placed.local_offset)),
                what);
  if (in.u32() != local_signature) damaged(where, member + " has no header where the directory says");
  in.u32();  // version needed, flags
  const uint16_t method = in.u16();
  in.raw(16);  // time, date, CRC and sizes: the directory's count
  const uint16_t name_bytes = in.u16(), extra_bytes = in.u16();
  if (in.raw(name_bytes) != placed.entry.raw_name || method != placed.method)
    damaged(where, member + " has another name or method in its header than in the directory");
  in.raw(extra_bytes);
  placed.entry.data_offset = placed.local_offset + in.position();
  if (placed.entry.compressed_bytes > in.remaining())
    damaged(where, fmt::format("{}: expected {} bytes, found {}", member, placed.entry.compressed_bytes,
                               in.remaining()));
}

void refuse_overlaps(std::vector<Placed>& placed, const std::string& where) {
  std::sort(placed.begin(), placed.end(),
            [](const Placed& a, const Placed& b) { return a.local_offset < b.local_offset; });
  for (size_t i = 1; i < placed.size(); ++i) {
    const ZipEntry& before = placed[i - 1].entry;
    if (before.data_offset + before.compressed_bytes > placed[i].local_offset)
      damaged(where, "members '" + printable(before.raw_name) + "' and '" +
                         printable(placed[i].entry.raw_name) + "' overlap");
  }
}

}  // namespace

ZipDirectory read_zip_directory(std::string_view file, const std::string& where) {
  const size_t end_at = find_end_record(file, where);
  const DirectoryPlace place = find_directory(file, end_at, where);
  if (place.offset > place.next || place.next - place.offset != place.bytes)
    damaged(where,
            fmt::format("the directory of {} bytes at offset {} does not end at its end record, offset {}",
                        place.bytes, place.offset, place.next));
  if (place.entries > place.bytes / central_bytes)
    damaged(where, fmt::format("{} entries do not fit a directory of {} bytes", place.entries, place.bytes));

  const std::string what = where + ": zip directory";
  ByteReader in(file.substr(size_t(place.offset), size_t(place.bytes)), what);
  std::vector<Placed> placed;
  placed.reserve(size_t(place.entries));
  ZipDirectory directory;
  directory.comment = file.substr(end_at + end_bytes);
  for (uint64_t i = 0; i < place.entries; ++i) {
    placed.push_back(read_central(in, where, what));
    locate_data(file, place.offset, placed.back(), where);
    directory.entries.push_back(placed.back().entry);
  }
  in.expect_end();
  refuse_overlaps(placed, where);
  return directory;
}

}  // namespace jsq

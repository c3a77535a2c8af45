// Where the members of a zip archive lie: a strict reader of the end record, the central directory and the
// local headers. It inflates nothing and checks no contents; libzip does. What it adds to libzip: the
// position of each member's bytes in the file, and refusal of everything that two readers could understand
// differently.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace jsq {

struct ZipEntry {
  std::string_view raw_name;  ///< as stored, in the map
  bool deflated = false;      ///< else stored
  uint16_t dos_time = 0;
  uint16_t dos_date = 0;
  uint8_t host = 0;
  uint32_t attributes = 0;
  uint64_t compressed_bytes = 0;
  uint64_t bytes = 0;        ///< uncompressed, as declared
  uint64_t data_offset = 0;  ///< of the compressed bytes in the file
};

struct ZipDirectory {
  std::vector<ZipEntry> entries;  ///< in the order of the central directory
  std::string_view comment;       ///< of the archive, raw
};

/// The members of a whole archive, in the order of its central directory. Each is stored or deflated,
/// unencrypted, inside the file and apart from the others; its size is at most 2^40 bytes and one that
/// deflate can reach (1032 : 1). \throws Error damaged, unsupported_format (encrypted, other methods, several
/// disks), limit. O(entries log entries) time; memory in proportion to the directory's true size.
ZipDirectory read_zip_directory(std::string_view file, const std::string& where);

}  // namespace jsq

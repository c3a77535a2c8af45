// DumpInfo.attachment of an HDF5 dump: the file's generation and a list of records, one for each object that
// is not a gradient and not a plain group on the way to one. Only the outer form lives here ("HDF5
// attachments" in formats/SPEC.md); the bodies are built by hdf5_listing.cpp and taken apart by hdf5_tree.cpp
// and hdf5_sink.cpp.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lib/core/bytes.hpp"

namespace jsq::hdf5 {

/// Generation of the file format, as the superblock tells it. The numbers are those of the wire format.
enum class Generation : uint8_t {
  earliest = 0,  ///< superblock 0 or 1
  v18 = 1,       ///< superblock 2
  v110 = 2,      ///< superblock 3
};

enum class RecordKind : uint8_t {
  group = 1,    ///< a group with attributes, an order of creation, or nothing in it
  dataset = 2,  ///< a dataset that is not a gradient
  soft_link = 3,
  hard_link = 4,   ///< a further name of an object met before
  named_type = 5,  ///< a committed datatype
  skipped = 6,     ///< something that could not be carried, for the report only
};

// Flags in the body of a group and, for attributes, of a named type.
constexpr uint8_t links_tracked = 1;
constexpr uint8_t links_indexed = 2;
constexpr uint8_t attributes_tracked = 4;
constexpr uint8_t attributes_indexed = 8;
constexpr uint8_t with_attributes = 16;
constexpr uint8_t with_link_order = 32;

struct Record {
  RecordKind kind;
  std::string path;       ///< without the leading '/'; "" is the root group
  std::string_view body;  ///< points into the attachment
};

class AttachmentWriter {
 public:
  void add(RecordKind kind, std::string_view path, std::string_view body);
  /// The attachment: "" for an earliest file without records.
  std::string finish(Generation generation);

 private:
  ByteWriter records_;
  std::string last_path_;
};

struct Attachment {
  Generation generation = Generation::earliest;
  std::vector<Record> records;
};
/// \throws Error damaged. The records' bodies are views of `bytes`.
Attachment parse_attachment(std::string_view bytes);

}  // namespace jsq::hdf5

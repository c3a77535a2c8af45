// The contents of an HDF5 file as jsq sees it: its gradients in order, and everything else as attachments.
// Walks the links itself and follows hard links only, each object once. Reads no gradient values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "formats/hdf5/hdf5_handle.hpp"
#include "formats/hdf5/hdf5_type.hpp"
#include "jsq/gradients.hpp"

namespace jsq::hdf5 {

/// How the file stores one gradient.
struct Storage {
  TensorType type;
  std::vector<uint64_t> chunk;  ///< one per dimension; all ones where there are no chunks
  std::optional<uint64_t>
      file_offset;  ///< of the first element where all lie in order in the file, else nothing
};

struct Listing {
  DumpInfo dump;
  std::vector<TensorInfo> tensors;
  std::vector<Storage> storage;  ///< parallel to `tensors`
};

/// Lists `file` (named `path` in messages), or only what lies at or below `member`.  \throws Error as
/// open_hdf5 does.
Listing list_file(hid_t file, const std::string& path, const std::string& member);

}  // namespace jsq::hdf5

// Opening an HDF5 file for reading.
#pragma once

#include <string>

#include "formats/hdf5/hdf5_handle.hpp"

namespace jsq::hdf5 {

/// Refuses what is not there or not a file, before HDF5 opens it.  \throws Error not_found,
/// unsupported_format.
void check_file(const std::string& path);
/// \pre a Session lives.  \throws Error unsupported_format, not_found, damaged.
Handle open_file(const std::string& path);

}  // namespace jsq::hdf5

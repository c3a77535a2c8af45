// A name for a file's contents, to tell whether two runs had the same inputs.
#pragma once

#include <string>

namespace jsq::tools {

/// XXH64 of all bytes of the file, in the 16 digits that `xxh64sum` prints.  \throws Error not_found,
/// read_failed.
std::string xxh64_of_file(const std::string& path);

}  // namespace jsq::tools

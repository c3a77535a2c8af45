// Shapes of the layers that a flat dump joins, from a .layers.json file: {"layers": [{"shape": [16, 3, 3, 3],
// "offset": 0}, ..]}.
#pragma once

#include <string>
#include <vector>

#include "inputs.hpp"

namespace jsq::tools {

struct Layer {
  std::string name;  ///< its number where the file has none
  std::vector<uint64_t> shape;
};
/// The layers of a flat tensor of so many elements, in order: of a JSON file, or of a table in an HDF5 file
/// (FILE.h5, FILE.h5::/layers). Offsets, where they are given, are checked.  \throws Error not_found, usage,
/// and as read_layer_table does.
std::vector<Layer> read_layers(const std::string& file, uint64_t elements);

/// Gives the one-dimensional tensor of an npy dump its layers. `choice` is a file, "none", or empty: then
/// FILE.layers.json beside FILE.npy, if it is there and fits. Returns what was found by itself, for a notice:
/// the file, or what is wrong with it. \throws Error not_found, read_failed, usage (of a named file).
std::string attach_layers(InputDump& dump, const InputFile& input, const std::string& choice);

}  // namespace jsq::tools

// HDF5 dumps: opening one as a GradientSource and writing one back as a GradientSink. The rest of jsq reaches
// these functions through the table hdf5_functions(): HDF5 and the thirty libraries behind it are loaded when
// the first one is opened. What is kept beside the gradients, and how, is in formats/SPEC.md ("HDF5
// attachments"). Links that leave the file, virtual datasets, external raw storage, plugins and filters other
// than deflate, shuffle and fletcher32 are refused.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "jsq/doctor.hpp"
#include "jsq/gradients.hpp"
#include "jsq/layers.hpp"

namespace jsq {

/// Opens an HDF5 file; its tensors are the f16, bf16, f32 and f64 datasets (either byte order) in the order
/// of their names, depth first. Everything else goes into `dump().attachment` (at most 64 MiB of values), so
/// that create_hdf5 restores it.
///
/// `member`: "" for the whole file, "/group" for one subtree, "/group/dataset" for one dataset; names stay
/// full paths, and only what lies at or below the member is kept.
///
/// Reads are thread-safe; those of contiguous datasets take no lock, and those of aligned little-endian f32
/// copy nothing. Memory: names, shapes and attachments; for chunked or compact datasets slabs of 12 MiB
/// in all, or two of at most 32 MiB where chunk rows are large; and where they are larger than that a chunk
/// cache of 64 MiB or one chunk.
///
/// \throws Error not_found (no such file), read_failed, unsupported_format (not HDF5; a filter, link or
/// layout that jsq does not follow, named), unsupported_dtype (no floating dataset, or the member is not
/// one), unknown_name (no such member; the message lists near names), damaged, limit.
std::unique_ptr<GradientSource> open_hdf5(const std::string& path, const std::string& member);

/// Creates an HDF5 file at `path`, truncating what is there, with every group, link, attribute and other
/// dataset of the attachments; empty attachments give contiguous datasets in groups named by the '/' of their
/// names. One tensor with an empty name becomes the dataset "data". Hard links whose target is not among the
/// tensors written are left out. Tensors in Fortran order are transposed to HDF5's C order.
///
/// The same input gives the same bytes: no times are stored. Memory: the attachments and at most three slabs
/// of 32 MiB, and the chunk cache of open_hdf5.
///
/// \throws Error write_failed, damaged (names that clash or could not be HDF5 paths, inconsistent
/// attachments), unsupported_format (more than 32 dimensions), limit (chunks that would write gigabytes of
/// padding).
std::unique_ptr<GradientSink> create_hdf5(const std::string& path, const DumpInfo& dump,
                                          const std::vector<TensorInfo>& tensors);

/// What of an HDF5 file could not be carried (object references, sequences of variable length, ...): one line
/// each, "path: reason" or "path@attribute: reason", in file order; empty when everything comes back.
/// \throws Error damaged.
std::vector<std::string> skipped_in_hdf5(const DumpInfo& dump);

/// Reads the table of layers of an HDF5 file: read_layer_table() of jsq/layers.hpp.
std::vector<LayerRow> read_hdf5_layers(const std::string& path);

/// The library and the filters that jsq accepts in dumps, with what is usable here.
std::vector<DoctorLine> examine_hdf5();

/// The functions above, as a module of its own offers them.
struct Hdf5Functions {
  const char* version;  ///< jsq's; another version's table may look different behind it
  decltype(&open_hdf5) open;
  decltype(&create_hdf5) create;
  decltype(&read_hdf5_layers) layers;
  decltype(&examine_hdf5) examine;
};
/// In libjsq it loads the module at the first call; thread-safe.  \throws Error backend_unavailable when it
/// cannot be loaded.
const Hdf5Functions& hdf5_functions();

}  // namespace jsq

// Dumps as jsq sees them: a source that lists tensors and reads elements, and a sink that writes them back.
// npy, npz and HDF5 implement both; nothing else of jsq knows those formats.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "jsq/export.hpp"
#include "jsq/tensor.hpp"

namespace jsq {

/// Format of a dump. The numbers are those of the wire format.
enum class DumpFormat : uint8_t { npy = 1, npz = 2, hdf5 = 3 };
/// "npy", "npz", "h5".
JSQ_API std::string_view dump_format_name(DumpFormat format) noexcept;

/// One dump file: its format and what is needed beside the tensors to write it back.
struct DumpInfo {
  DumpFormat format = DumpFormat::npy;
  std::string attachment;  ///< bytes private to the format (HDF5 groups, attributes, non-floating datasets)
};

/// An open dump. Tensors are listed in the dump's own order; reading is random access and thread-safe.
class JSQ_API GradientSource {
 public:
  virtual ~GradientSource() = default;
  virtual const DumpInfo& dump() const = 0;
  virtual const std::vector<TensorInfo>& tensors() const = 0;

  /// Elements [first, first + count) of a tensor, storage order, as f32. The result points either into the
  /// mapped file (little-endian f32) or into `scratch`, and stays valid until `scratch` changes or the source
  /// is closed. \pre first + count <= elements.  \throws Error read_failed, damaged.
  virtual std::span<const float> read(size_t tensor, uint64_t first, size_t count,
                                      std::vector<float>& scratch) const = 0;

  /// The same elements as little-endian stored bytes (every bit kept) into `out`, count x dtype_bytes bytes.
  virtual void read_stored(size_t tensor, uint64_t first, size_t count, std::byte* out) const = 0;
};

/// Writes one dump. Call order: construct, then for every tensor in order write() ascending runs that cover
/// it (tensors without elements get none), then finish(). A sink destroyed before finish() leaves an
/// incomplete file: callers write to a temporary name and rename.
class JSQ_API GradientSink {
 public:
  virtual ~GradientSink() = default;
  /// `stored_le`: whole elements of tensor `tensor`, little-endian, stored dtype, continuing where the last
  /// write ended. \throws Error write_failed.
  virtual void write(size_t tensor, std::span<const std::byte> stored_le) = 0;
  /// Completes and closes the file.  \throws Error write_failed.
  virtual void finish() = 0;
};

/// Opens a dump by its magic bytes first and its extension second. `path` may end in `::member` (npz: member
/// name with or without `.npy`; HDF5: dataset or group path), which limits the tensors to that member or
/// subtree, and may be '-' for an npy or npz stream on standard input (spooled to an unnamed temporary file,
/// since compress reads twice). \throws Error not_found, read_failed, unsupported_format, unsupported_dtype,
/// damaged, unknown_name (no such member).
JSQ_API std::unique_ptr<GradientSource> open_gradients(const std::string& path);

/// Creates a dump at `path` ('-' streams an npy to standard output), truncating what is there.
/// \throws Error write_failed, unsupported_format (a format that cannot hold these tensors, e.g. npy with
/// two).
JSQ_API std::unique_ptr<GradientSink> create_gradients(const std::string& path, const DumpInfo& dump,
                                                       const std::vector<TensorInfo>& tensors);

}  // namespace jsq

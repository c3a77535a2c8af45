// What decompress takes out of a frame and in which form: whole dumps, named tensors, a slice, another dtype
// or format. Decoded values go to a sink; where the file lies is not decided here.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "jsq/frame.hpp"
#include "jsq/gradients.hpp"

namespace jsq::tools {

struct ExtractionOptions {
  std::vector<std::string> tensors;  ///< names; empty: all
  std::string slice;                 ///< "A:B"; empty: everything
  std::optional<DumpFormat> format;  ///< none: as stored
  std::optional<DType> dtype;        ///< none: as stored

  /// True when something of the frame may be left out.
  bool partial() const noexcept { return !tensors.empty() || !slice.empty(); }
};

/// Elements [first, first + count) of a tensor, in C order, written as `info`.
struct ExtractedTensor {
  size_t tensor = 0;
  TensorInfo info;
  uint64_t first = 0, count = 0;
  bool sliced = false;
};

/// One dump to write.
struct ExtractedDump {
  size_t dump = 0;
  std::string path;  ///< as stored, with the ending of the format it is written in; checked, relative
  DumpInfo info;
  std::vector<ExtractedTensor> tensors;
  bool as_stored = true;  ///< nothing is left out and nothing converted

  uint64_t stored_bytes() const;  ///< of the elements; UINT64_MAX when they are more
};

/// \throws Error unknown_name, usage (a slice of several tensors, or beyond the end), damaged (a stored path
/// that could leave the output, or two that collide).
std::vector<ExtractedDump> plan_extraction(const FrameReader& frame, const ExtractionOptions& options);

/// Called with the bytes handed to the sink so far.
using ByteProgress = std::function<void(uint64_t done)>;

/// Creates the dump at `path` ('-': standard output) and writes it. Memory: a few blocks, and for a slice of
/// a tensor in Fortran order the slice. \throws Error damaged, write_failed, unsupported_format.
void write_extraction(const FrameReader& frame, const ExtractedDump& dump, const std::string& path,
                      unsigned threads, const ByteProgress& progress);

/// \throws Error damaged, unless `path` is relative, without '.', '..', empty parts and control characters.
void check_stored_path(const std::string& path);

/// True for a name that ends as files of the format do.
bool has_ending_of(const std::string& name, DumpFormat format);
/// The name with its dump ending, if any, exchanged for the format's.
std::string with_ending_of(const std::string& name, DumpFormat format);

}  // namespace jsq::tools

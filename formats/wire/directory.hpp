// The directory of a frame (SPEC.md, "Directory"): what is in the archive and where. In memory and as bytes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "jsq/frame.hpp"

namespace jsq::wire {

constexpr uint8_t format_version = 1;
constexpr uint8_t known_features = 0;  ///< bits of the header's feature byte this reader understands
constexpr size_t header_bytes = 8;
constexpr size_t checksum_bytes = 4;  ///< before each block
/// Tensors of at most so many elements, which are many where there are any, are coded and decoded several at
/// once.
constexpr uint64_t short_tensor_elements = uint64_t(1) << 13;
constexpr size_t short_tensors_together = 16;
constexpr size_t footer_bytes = 12;
constexpr uint8_t min_block_log2 = 16, max_block_log2 = 20;
constexpr uint64_t max_rank = 32;
constexpr uint64_t max_name_bytes = 65535;
constexpr uint64_t max_elements = uint64_t(1) << 62;

/// Builds for fuzzing take every checksum as right: otherwise no input would reach what lies behind one.
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
constexpr bool checksums_count = false;
#else
constexpr bool checksums_count = true;
#endif

struct ParameterSet {
  uint32_t method_id = 0;
  std::string bytes;
};

struct Directory {
  uint64_t seed = 0;
  std::vector<std::pair<std::string, std::string>> metadata;
  std::vector<FrameDump> dumps;
  std::vector<ParameterSet> sets;
  std::vector<FrameTensor> tensors;
};

/// Number of blocks of a tensor.
uint64_t block_count(uint64_t elements, uint8_t block_log2);

/// Directory -> the bytes that are stored (zstd where that is smaller).
std::string write_directory(const Directory& directory);
/// Stored bytes -> directory; computes first_byte of every tensor and checks that blocks end where the
/// directory begins. \throws Error damaged, newer_format, limit.
Directory read_directory(std::string_view stored, uint64_t directory_offset, std::string_view what);

/// "JSQ\x1a", version, features, 16 bits of checksum.
std::string write_header();
/// \throws Error damaged, newer_format, unsupported_format.
void check_header(std::string_view file, std::string_view what);

/// Stored size, checksum of header, stored directory and that size.
std::string write_footer(std::string_view header, std::string_view stored_directory);

/// Low 32 bits of XXH3 with seed (tensor << 32 | block): a block in another's place does not pass.
uint32_t block_checksum(std::string_view payload, size_t tensor, size_t block);

}  // namespace jsq::wire

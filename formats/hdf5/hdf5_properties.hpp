// Creation properties of a dataset: layout, filters, maximal shape, fill value, times of allocation and
// filling. Read from and turned into HDF5 property lists; encoded as the "properties" table of
// formats/SPEC.md, in one zero byte where everything is as HDF5 does by default. Refuses what jsq does not
// follow (filters, virtual and external storage).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "formats/hdf5/hdf5_handle.hpp"
#include "lib/core/bytes.hpp"

namespace jsq::hdf5 {

enum class Layout : uint8_t { contiguous, chunked, compact };
enum class FillTime : uint8_t { on_allocation = 0, never = 1, if_set = 2 };  // HDF5's own numbers
enum class FillState : uint8_t { library_default, undefined, given };

/// A filter of a chunk pipeline, in the order of application on writing.
struct Filter {
  enum class Kind : uint8_t { deflate = 1, shuffle = 2, fletcher32 = 3 };  // HDF5's own numbers
  Kind kind;
  uint8_t level = 0;  ///< deflate only: 0..9
  bool operator==(const Filter&) const = default;
};

/// Whether creation order is kept for links or attributes; the bits are HDF5's.
struct CreationOrder {
  bool tracked = false;
  bool indexed = false;
};

constexpr uint64_t unlimited = UINT64_MAX;
constexpr uint64_t largest_chunk_bytes = UINT32_MAX;       ///< HDF5's own limit
constexpr uint64_t free_chunk_bytes = uint64_t(64) << 20;  ///< a chunk may be larger only in a larger dataset

struct Properties {
  Layout layout = Layout::contiguous;
  std::vector<uint64_t> chunk;  ///< one per dimension when chunked, else empty
  std::vector<Filter> filters;  ///< only when chunked
  std::vector<uint64_t>
      max_shape;  ///< one per dimension, `unlimited` where there is no limit; empty: equal to shape
  FillState fill = FillState::library_default;
  std::string fill_value;                  ///< one element as the file stores it, when given
  std::optional<uint8_t> allocation_time;  ///< H5D_alloc_time_t where it is not the layout's default
  FillTime fill_time = FillTime::if_set;
  CreationOrder attribute_order;
};

/// Bytes of one chunk, at most largest_chunk_bytes, or nothing where they are more.
std::optional<uint64_t> chunk_bytes(std::span<const uint64_t> chunk, uint64_t element_bytes);

/// The properties of a dataset with creation list `list` and dataspace `space`, whose type has
/// `element_bytes`; the fill value is read only where `with_fill` (it is an address for variable-length
/// strings). \throws Error unsupported_format (filter, virtual or external storage), limit (a chunk too
/// large), damaged.
Properties read_properties(hid_t list, hid_t space, hid_t type, bool with_fill, const Place& place);

/// The creation list of a dataset of `type`.  \throws Error as `place` says.
Handle make_creation_list(const Properties& properties, hid_t type, const Place& place);
/// The dataspace of that shape with the properties' maximal shape.
Handle make_space(std::span<const uint64_t> shape, const Properties& properties, const Place& place);

/// An access list whose chunk cache suits slabs: none where slabs cover whole chunks (a cache would only copy
/// them), and room for the chunks being crossed where they do not.
Handle make_access_list(std::span<const uint64_t> shape, std::span<const uint64_t> chunk,
                        uint64_t element_bytes, const Place& place);

/// The slab `start`, `extent` selected in a dataset, and memory of the same shape (HDF5 1.10 divides by zero
/// where a dataset of 32 dimensions is read into memory of another rank).
struct SlabSelection {
  Handle file;
  Handle memory;
};
SlabSelection select_slab(hid_t dataset, std::span<const uint64_t> start, std::span<const uint64_t> extent,
                          const Place& place);

void encode_properties(const Properties& properties, std::span<const uint64_t> shape, bool has_attributes,
                       ByteWriter& out);
struct DecodedProperties {
  Properties properties;
  bool has_attributes = false;
};
/// \throws Error damaged.
DecodedProperties decode_properties(ByteReader& in, std::span<const uint64_t> shape, uint64_t element_bytes);

}  // namespace jsq::hdf5

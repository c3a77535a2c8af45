// Values outside the gradients: attributes, and the shape, type and data of datasets that are not gradients.
// Both directions between HDF5 objects and the bytes of the "value" and "attributes" tables of
// formats/SPEC.md.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "formats/hdf5/hdf5_handle.hpp"
#include "formats/hdf5/hdf5_properties.hpp"
#include "formats/hdf5/hdf5_type.hpp"
#include "lib/core/bytes.hpp"

namespace jsq::hdf5 {

constexpr uint64_t most_extra_bytes = uint64_t(64) << 20;

/// What one file has carried beside its gradients, and what it could not.
class Extras {
 public:
  struct Skipped {
    std::string path;  ///< "path" or "path@attribute"
    Skip reason;
  };

  /// Counts `bytes` of an object's values.  \throws Error limit, naming the object, beyond 64 MiB in all.
  void carry(uint64_t bytes, const Place& place);
  /// Checks the same before `count` elements of `element_bytes` are read or allocated for.
  void expect(uint64_t count, uint64_t element_bytes, const Place& place) const;
  void skip(std::string path, Skip reason) { skipped_.push_back({std::move(path), reason}); }
  const std::vector<Skipped>& skipped() const { return skipped_; }

 private:
  uint64_t carried_ = 0;
  std::vector<Skipped> skipped_;
};

/// Shape of a value; a null one has no elements and no shape.
struct Extent {
  bool null = false;
  std::vector<uint64_t> dims;
};
Extent read_extent(hid_t space, const Place& place);
void encode_extent(const Extent& extent, ByteWriter& out);
/// \throws Error damaged.
Extent decode_extent(ByteReader& in);
/// Number of elements.  \throws Error damaged beyond 2^63.
uint64_t element_count(const Extent& extent, const ByteReader& in);
Handle make_space(const Extent& extent, const Place& place);

/// Appends all attributes of `object`, in creation order if that is tracked, else by name; returns false and
/// appends nothing if there is none that can be carried.
bool encode_attributes(hid_t object, bool by_creation, const Place& place, Extras& extras, ByteWriter& out);
/// Makes the attributes encoded at `in` on `object`.  \throws Error damaged, write_failed.
void create_attributes(hid_t object, ByteReader& in, const Place& place);

/// Appends the data of a dataset: fixed-size elements as the file stores them, or texts.
void encode_dataset_values(hid_t dataset, hid_t type, hid_t space, const Place& place, Extras& extras,
                           ByteWriter& out);
/// Writes `count` elements encoded at `in` into `dataset`.
void write_dataset_values(hid_t dataset, const DecodedType& type, uint64_t count, ByteReader& in,
                          const Place& place);

}  // namespace jsq::hdf5

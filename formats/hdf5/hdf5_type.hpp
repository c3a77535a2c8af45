// HDF5 datatypes: which are gradients, and jsq's own encoding of all others that can be carried.
// HDF5's own encoder (H5Tencode, H5Tdecode) is not used: its decoder is unsafe on bytes from strangers. The
// encoding is the "type" table of formats/SPEC.md. Types whose values point elsewhere (references, sequences)
// are not carried.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "formats/hdf5/hdf5_tensor_type.hpp"
#include "lib/core/bytes.hpp"

namespace jsq::hdf5 {

/// Why something of a file is not carried. The numbers are those of the wire format.
enum class Skip : uint8_t {
  none = 0,
  reference = 1,      ///< object or region reference: an address that changes when the file is written again
  sequence = 2,       ///< sequence of variable length
  inner_string = 3,   ///< variable-length string inside a compound or array
  unusual_class = 4,  ///< time or unknown class, or floating point of another layout than HDF5 describes
  too_complex = 5,    ///< nested deeper, with more members or larger than jsq carries
  user_block = 6,     ///< bytes before the HDF5 signature
  variable_fill = 7,  ///< fill value of a variable-length string
};
/// One line for a Skip, for example "object references are not carried".
std::string_view skip_text(Skip skip) noexcept;

constexpr uint64_t largest_type_bytes = uint64_t(16) << 20;
constexpr size_t largest_member_count = 4096;
constexpr int deepest_type = 8;

/// Appends the encoding of `type`, or returns why it cannot be carried (`out` may then hold a part of it).
Skip encode_type(hid_t type, ByteWriter& out);

struct DecodedType {
  Handle id;
  uint64_t bytes = 0;            ///< of one element in memory and in the file
  bool variable_string = false;  ///< elements are pointers to NUL-terminated text
};
/// Reads one encoded type and makes it.  \throws Error damaged.
DecodedType decode_type(ByteReader& in);

/// A few words for messages: "int64", "compound {name, offset}", "string".
std::string describe_type(hid_t type);

}  // namespace jsq::hdf5

// HDF5 datatypes and their encoding; see hdf5_type.hpp and the "type" table of formats/SPEC.md.
#include "formats/hdf5/hdf5_type.hpp"

#include <array>
#include <bit>
#include <vector>

namespace jsq::hdf5 {

namespace {

// First byte of an encoded type. Standard integers, standard floats and strings keep their details in its low
// bits.
constexpr uint8_t standard_integer = 0x10;  // + log2(bytes) + 4 if signed + 8 if big-endian
constexpr uint8_t standard_float = 0x20;    // + wire number of the DType + 8 if big-endian
constexpr uint8_t fixed_string = 0x30;      // + padding + 4 if UTF-8
constexpr uint8_t variable_string = 0x38;   // + padding + 4 if UTF-8
constexpr uint8_t compound = 0x40;
constexpr uint8_t enumeration = 0x41;
constexpr uint8_t array = 0x42;
constexpr uint8_t opaque = 0x43;
constexpr uint8_t other_integer = 0x44;
constexpr uint8_t other_float = 0x45;
constexpr uint8_t bitfield = 0x46;

constexpr uint64_t longest_member_name = 65535;
constexpr uint64_t longest_opaque_tag = 255;
constexpr uint64_t widest_number_bytes = 64;

/// The HDF5 library's own text (member names, tags), freed at the end.
class LibraryText {
 public:
  explicit LibraryText(char* text) : text_(text) {}
  LibraryText(const LibraryText&) = delete;
  LibraryText& operator=(const LibraryText&) = delete;
  ~LibraryText() { H5free_memory(text_); }
  std::string_view view() const { return text_ == nullptr ? std::string_view() : std::string_view(text_); }

 private:
  char* text_;
};

bool has_zero_padding(hid_t type) {
  H5T_pad_t low = H5T_PAD_ERROR;
  H5T_pad_t high = H5T_PAD_ERROR;
  return H5Tget_pad(type, &low, &high) >= 0 && low == H5T_PAD_ZERO && high == H5T_PAD_ZERO;
}

bool is_big_endian(hid_t type) {
  return H5Tget_order(type) == H5T_ORDER_BE;
}
bool has_plain_order(hid_t type) {
  return is_big_endian(type) || H5Tget_order(type) == H5T_ORDER_LE;
}

bool is_standard_integer(hid_t type) {
  const size_t bytes = H5Tget_size(type);
  return bytes <= 8 && std::has_single_bit(bytes) && H5Tget_precision(type) == 8 * bytes &&
         H5Tget_offset(type) == 0 && has_zero_padding(type);
}

/// Fields shared by integers, bit fields and floats of unusual width: order, size, precision, offset,
/// padding.
void encode_atom(hid_t type, uint8_t flags, ByteWriter& out) {
  H5T_pad_t low = H5T_PAD_ZERO;
  H5T_pad_t high = H5T_PAD_ZERO;
  H5Tget_pad(type, &low, &high);
  out.u8(uint8_t(flags | (is_big_endian(type) ? 2 : 0)));
  out.uvarint(H5Tget_size(type));
  out.uvarint(H5Tget_precision(type));
  out.uvarint(uint64_t(H5Tget_offset(type)));
  out.u8(uint8_t(low));
  out.u8(uint8_t(high));
}

Skip encode_integer(hid_t type, ByteWriter& out) {
  if (!has_plain_order(type)) return Skip::unusual_class;
  const bool is_signed = H5Tget_sign(type) == H5T_SGN_2;
  if (is_standard_integer(type)) {
    const int log2 = std::countr_zero(H5Tget_size(type));
    out.u8(uint8_t(standard_integer + log2 + (is_signed ? 4 : 0) + (is_big_endian(type) ? 8 : 0)));
    return Skip::none;
  }
  if (H5Tget_size(type) > widest_number_bytes) return Skip::too_complex;
  out.u8(other_integer);
  encode_atom(type, is_signed ? 1 : 0, out);
  return Skip::none;
}

Skip encode_float(hid_t type, ByteWriter& out) {
  if (const auto gradient = tensor_type(type)) {
    out.u8(uint8_t(standard_float + uint8_t(gradient->dtype) + (gradient->big_endian ? 8 : 0)));
    return Skip::none;
  }
  if (!has_plain_order(type)) return Skip::unusual_class;
  if (H5Tget_size(type) > widest_number_bytes) return Skip::too_complex;
  size_t sign = 0, exponent = 0, exponent_bits = 0, mantissa = 0, mantissa_bits = 0;
  if (H5Tget_fields(type, &sign, &exponent, &exponent_bits, &mantissa, &mantissa_bits) < 0)
    return Skip::unusual_class;
  out.u8(other_float);
  encode_atom(type, 0, out);
  for (size_t field : {sign, exponent, exponent_bits, mantissa, mantissa_bits}) out.uvarint(field);
  out.uvarint(H5Tget_ebias(type));
  out.u8(uint8_t(H5Tget_norm(type)));
  out.u8(uint8_t(H5Tget_inpad(type)));
  return Skip::none;
}

Skip encode_bitfield(hid_t type, ByteWriter& out) {
  if (!has_plain_order(type)) return Skip::unusual_class;
  if (H5Tget_size(type) > widest_number_bytes) return Skip::too_complex;
  out.u8(bitfield);
  encode_atom(type, 0, out);
  return Skip::none;
}

Skip encode_string(hid_t type, bool inner, ByteWriter& out) {
  const int detail = int(H5Tget_strpad(type)) + (H5Tget_cset(type) == H5T_CSET_UTF8 ? 4 : 0);
  if (H5Tis_variable_str(type) > 0) {
    if (inner) return Skip::inner_string;
    out.u8(uint8_t(variable_string + detail));
    return Skip::none;
  }
  out.u8(uint8_t(fixed_string + detail));
  out.uvarint(H5Tget_size(type));
  return Skip::none;
}

Skip encode_any(hid_t type, int depth, ByteWriter& out);

Skip encode_compound(hid_t type, int depth, ByteWriter& out) {
  const int members = H5Tget_nmembers(type);
  if (members < 1) return Skip::unusual_class;
  if (size_t(members) > largest_member_count) return Skip::too_complex;
  out.u8(compound);
  out.uvarint(H5Tget_size(type));
  out.uvarint(uint64_t(members));
  for (unsigned i = 0; i < unsigned(members); ++i) {
    out.string(LibraryText(H5Tget_member_name(type, i)).view());
    out.uvarint(H5Tget_member_offset(type, i));
    const Handle member(H5Tget_member_type(type, i));
    if (const Skip skip = encode_any(member, depth + 1, out); skip != Skip::none) return skip;
  }
  return Skip::none;
}

Skip encode_enumeration(hid_t type, int depth, ByteWriter& out) {
  const int members = H5Tget_nmembers(type);
  if (members < 0) return Skip::unusual_class;
  if (size_t(members) > largest_member_count) return Skip::too_complex;
  const Handle base(H5Tget_super(type));
  out.u8(enumeration);
  if (const Skip skip = encode_any(base, depth + 1, out); skip != Skip::none) return skip;
  out.uvarint(uint64_t(members));
  std::vector<std::byte> value(H5Tget_size(type));
  for (unsigned i = 0; i < unsigned(members); ++i) {
    out.string(LibraryText(H5Tget_member_name(type, i)).view());
    if (H5Tget_member_value(type, i, value.data()) < 0) return Skip::unusual_class;
    out.raw(value);
  }
  return Skip::none;
}

Skip encode_array(hid_t type, int depth, ByteWriter& out) {
  std::array<hsize_t, H5S_MAX_RANK> dims{};
  const int rank = H5Tget_array_ndims(type);
  if (rank < 1 || H5Tget_array_dims2(type, dims.data()) < 0) return Skip::unusual_class;
  out.u8(array);
  out.u8(uint8_t(rank));
  for (int d = 0; d < rank; ++d) out.uvarint(dims[size_t(d)]);
  const Handle base(H5Tget_super(type));
  return encode_any(base, depth + 1, out);
}

Skip encode_opaque(hid_t type, ByteWriter& out) {
  out.u8(opaque);
  out.uvarint(H5Tget_size(type));
  out.string(LibraryText(H5Tget_tag(type)).view());
  return Skip::none;
}

Skip encode_any(hid_t type, int depth, ByteWriter& out) {
  if (type < 0) return Skip::unusual_class;
  if (depth > deepest_type || H5Tget_size(type) > largest_type_bytes) return Skip::too_complex;
  switch (H5Tget_class(type)) {
    case H5T_INTEGER:
      return encode_integer(type, out);
    case H5T_FLOAT:
      return encode_float(type, out);
    case H5T_STRING:
      return encode_string(type, depth > 0, out);
    case H5T_BITFIELD:
      return encode_bitfield(type, out);
    case H5T_OPAQUE:
      return encode_opaque(type, out);
    case H5T_COMPOUND:
      return encode_compound(type, depth, out);
    case H5T_ENUM:
      return encode_enumeration(type, depth, out);
    case H5T_ARRAY:
      return encode_array(type, depth, out);
    case H5T_REFERENCE:
      return Skip::reference;
    case H5T_VLEN:
      return Skip::sequence;
    default:
      return Skip::unusual_class;
  }
}

/// What HDF5 refuses to build from an encoding is damage of that encoding.
template <class Result>
Result built(Result result, const ByteReader& in, const char* what) {
  if (result < 0) in.damaged(std::string("HDF5 accepts no such ") + what);
  return result;
}

uint64_t positive(ByteReader& in, uint64_t limit, const char* what) {
  const uint64_t value = in.uvarint(limit);
  if (value == 0) in.damaged(std::string("zero ") + what);
  return value;
}

std::string text_without_nul(ByteReader& in, uint64_t limit) {
  const std::string_view text = in.string(limit);
  if (text.find('\0') != std::string_view::npos) in.damaged("a name holds a NUL byte");
  return std::string(text);
}

H5T_pad_t decode_padding(ByteReader& in) {
  const uint8_t value = in.u8();
  if (value > uint8_t(H5T_PAD_BACKGROUND)) in.damaged("padding code " + std::to_string(value));
  return H5T_pad_t(value);
}

struct Atom {
  bool is_signed;
  bool big_endian;
  size_t bytes, precision, offset;
  H5T_pad_t low, high;
};

Atom decode_atom(ByteReader& in) {
  Atom atom{};
  const uint8_t flags = in.u8();
  if (flags > 3) in.damaged("unknown number flags " + std::to_string(flags));
  atom.is_signed = flags & 1;
  atom.big_endian = flags & 2;
  atom.bytes = positive(in, widest_number_bytes, "size of a number");
  atom.precision = positive(in, 8 * atom.bytes, "precision");
  atom.offset = in.uvarint(8 * atom.bytes - atom.precision);
  atom.low = decode_padding(in);
  atom.high = decode_padding(in);
  return atom;
}

void set_order_and_padding(hid_t type, const Atom& atom, const ByteReader& in) {
  built(H5Tset_order(type, atom.big_endian ? H5T_ORDER_BE : H5T_ORDER_LE), in, "byte order");
  built(H5Tset_pad(type, atom.low, atom.high), in, "padding");
}

DecodedType decode_plain_atom(ByteReader& in, bool is_bitfield) {
  const Atom atom = decode_atom(in);
  const hid_t model = is_bitfield ? H5T_STD_B8LE : atom.is_signed ? H5T_STD_I8LE : H5T_STD_U8LE;
  Handle type(built(H5Tcopy(model), in, "number"));
  built(H5Tset_size(type, atom.bytes), in, "size of a number");
  built(H5Tset_precision(type, atom.precision), in, "precision");
  built(H5Tset_offset(type, atom.offset), in, "bit offset");
  set_order_and_padding(type, atom, in);
  return {std::move(type), atom.bytes, false};
}

DecodedType decode_other_float(ByteReader& in) {
  const Atom atom = decode_atom(in);
  std::array<size_t, 5> fields;  // sign, exponent, exponent bits, mantissa, mantissa bits
  for (size_t& field : fields) field = in.uvarint(atom.precision);
  const uint64_t bias = in.uvarint();
  const uint8_t norm = in.u8();
  const uint8_t inner_padding = in.u8();
  if (norm > uint8_t(H5T_NORM_NONE)) in.damaged("normalisation code " + std::to_string(norm));
  if (inner_padding > uint8_t(H5T_PAD_BACKGROUND))
    in.damaged("padding code " + std::to_string(inner_padding));

  // HDF5 checks every step against the fields set so far: widen first, place the fields, then narrow.
  Handle type(built(H5Tcopy(H5T_IEEE_F64LE), in, "float"));
  const size_t wide = std::max<size_t>(atom.bytes, 8);
  built(H5Tset_size(type, wide), in, "size of a float");
  built(H5Tset_precision(type, 8 * wide), in, "precision");
  built(H5Tset_fields(type, fields[0], fields[1], fields[2], fields[3], fields[4]), in, "fields of a float");
  built(H5Tset_precision(type, atom.precision), in, "precision");
  built(H5Tset_size(type, atom.bytes), in, "size of a float");
  built(H5Tset_offset(type, atom.offset), in, "bit offset");
  built(H5Tset_ebias(type, bias), in, "exponent bias");
  built(H5Tset_norm(type, H5T_norm_t(norm)), in, "normalisation");
  built(H5Tset_inpad(type, H5T_pad_t(inner_padding)), in, "padding");
  set_order_and_padding(type, atom, in);
  return {std::move(type), atom.bytes, false};
}

DecodedType decode_standard_integer(uint8_t code, const ByteReader& in) {
  const size_t bytes = size_t(1) << (code & 3);
  Handle type(built(H5Tcopy(code & 4 ? H5T_STD_I8LE : H5T_STD_U8LE), in, "integer"));
  built(H5Tset_size(type, bytes), in, "size of an integer");
  built(H5Tset_precision(type, 8 * bytes), in, "precision");
  built(H5Tset_order(type, code & 8 ? H5T_ORDER_BE : H5T_ORDER_LE), in, "byte order");
  return {std::move(type), bytes, false};
}

DecodedType decode_standard_float(uint8_t code, const ByteReader& in) {
  const uint8_t number = code & 7;
  if (number < uint8_t(DType::f16) || number > uint8_t(DType::f64))
    in.damaged("unknown float " + std::to_string(code));
  const TensorType type{DType(number), (code & 8) != 0};
  return {make_tensor_type(type), dtype_bytes(type.dtype), false};
}

DecodedType decode_string(uint8_t code, ByteReader& in) {
  const bool variable = code >= variable_string;
  const uint8_t padding = code & 3;
  if (padding > uint8_t(H5T_STR_SPACEPAD)) in.damaged("string padding code " + std::to_string(padding));
  const uint64_t bytes = variable ? sizeof(char*) : positive(in, largest_type_bytes, "size of a string");
  Handle type(built(H5Tcopy(H5T_C_S1), in, "string"));
  built(H5Tset_size(type, variable ? H5T_VARIABLE : bytes), in, "size of a string");
  built(H5Tset_strpad(type, H5T_str_t(padding)), in, "string padding");
  built(H5Tset_cset(type, code & 4 ? H5T_CSET_UTF8 : H5T_CSET_ASCII), in, "character set");
  return {std::move(type), bytes, variable};
}

DecodedType decode_any(ByteReader& in, int depth);

DecodedType decode_inner(ByteReader& in, int depth) {
  DecodedType type = decode_any(in, depth + 1);
  if (type.variable_string) in.damaged("a variable-length string inside another type");
  return type;
}

DecodedType decode_compound(ByteReader& in, int depth) {
  const uint64_t bytes = positive(in, largest_type_bytes, "size of a compound");
  const uint64_t members = positive(in, largest_member_count, "members of a compound");
  Handle type(built(H5Tcreate(H5T_COMPOUND, bytes), in, "compound"));
  for (uint64_t i = 0; i < members; ++i) {
    const std::string name = text_without_nul(in, longest_member_name);
    const uint64_t offset = in.uvarint(bytes - 1);
    const DecodedType member = decode_inner(in, depth);
    if (member.bytes > bytes - offset)
      in.damaged("member '" + printable(name) + "' reaches beyond its compound");
    built(H5Tinsert(type, name.c_str(), offset, member.id), in, "member of a compound");
  }
  return {std::move(type), bytes, false};
}

DecodedType decode_enumeration(ByteReader& in, int depth) {
  const DecodedType base = decode_inner(in, depth);
  if (H5Tget_class(base.id) != H5T_INTEGER) in.damaged("an enumeration of something else than integers");
  const uint64_t members = in.uvarint(largest_member_count);
  Handle type(built(H5Tenum_create(base.id), in, "enumeration"));
  for (uint64_t i = 0; i < members; ++i) {
    const std::string name = text_without_nul(in, longest_member_name);
    const std::string_view value = in.raw(base.bytes);
    built(H5Tenum_insert(type, name.c_str(), value.data()), in, "member of an enumeration");
  }
  return {std::move(type), base.bytes, false};
}

DecodedType decode_array(ByteReader& in, int depth) {
  std::array<hsize_t, H5S_MAX_RANK> dims{};
  const uint8_t rank = in.u8();
  if (rank < 1 || rank > H5S_MAX_RANK) in.damaged("array of rank " + std::to_string(rank));
  uint64_t elements = 1;
  for (uint8_t d = 0; d < rank; ++d) {
    dims[d] = positive(in, largest_type_bytes / elements, "extent of an array");
    elements *= dims[d];
  }
  const DecodedType base = decode_inner(in, depth);
  if (base.bytes > largest_type_bytes / elements) in.damaged("an array type of more than 16 MiB");
  Handle type(built(H5Tarray_create2(base.id, rank, dims.data()), in, "array"));
  return {std::move(type), elements * base.bytes, false};
}

DecodedType decode_opaque(ByteReader& in) {
  const uint64_t bytes = positive(in, largest_type_bytes, "size of an opaque type");
  const std::string tag = text_without_nul(in, longest_opaque_tag);
  Handle type(built(H5Tcreate(H5T_OPAQUE, bytes), in, "opaque type"));
  built(H5Tset_tag(type, tag.c_str()), in, "tag of an opaque type");
  return {std::move(type), bytes, false};
}

DecodedType decode_any(ByteReader& in, int depth) {
  if (depth > deepest_type) in.damaged("types nested more than " + std::to_string(deepest_type) + " deep");
  const uint8_t code = in.u8();
  if (code >= standard_integer && code < standard_float) return decode_standard_integer(code, in);
  if (code >= standard_float && code < fixed_string) return decode_standard_float(code, in);
  if (code >= fixed_string && code < compound) return decode_string(code, in);
  switch (code) {
    case compound:
      return decode_compound(in, depth);
    case enumeration:
      return decode_enumeration(in, depth);
    case array:
      return decode_array(in, depth);
    case opaque:
      return decode_opaque(in);
    case other_integer:
      return decode_plain_atom(in, false);
    case bitfield:
      return decode_plain_atom(in, true);
    case other_float:
      return decode_other_float(in);
    default:
      in.damaged("unknown type code " + std::to_string(code));
  }
}

std::string describe_compound(hid_t type) {
  const int members = H5Tget_nmembers(type);
  std::string text = "compound {";
  for (int i = 0; i < members && i < 8; ++i) {
    if (i > 0) text += ", ";
    text += LibraryText(H5Tget_member_name(type, unsigned(i))).view();
  }
  return text + (members > 8 ? ", ...}" : "}");
}

}  // namespace

std::string_view skip_text(Skip skip) noexcept {
  switch (skip) {
    case Skip::none:
      return "carried";
    case Skip::reference:
      return "references to objects or regions are not carried";
    case Skip::sequence:
      return "sequences of variable length are not carried";
    case Skip::inner_string:
      return "variable-length strings inside compounds or arrays are not carried";
    case Skip::unusual_class:
      return "this class of datatype is not carried";
    case Skip::too_complex:
      return "the datatype is too large or too deeply nested to be carried";
    case Skip::user_block:
      return "the user block before the HDF5 data is not carried";
    case Skip::variable_fill:
      return "fill values of variable-length strings are not carried";
  }
  return "not carried";
}

Skip encode_type(hid_t type, ByteWriter& out) {
  return encode_any(type, 0, out);
}

DecodedType decode_type(ByteReader& in) {
  return decode_any(in, 0);
}

std::string describe_type(hid_t type) {
  const std::string bits = std::to_string(8 * H5Tget_size(type));
  switch (H5Tget_class(type)) {
    case H5T_INTEGER:
      return (H5Tget_sign(type) == H5T_SGN_2 ? "int" : "uint") + bits;
    case H5T_FLOAT:
      return "float of " + bits + " bits";
    case H5T_STRING:
      return "string";
    case H5T_BITFIELD:
      return "bit field";
    case H5T_OPAQUE:
      return "opaque";
    case H5T_COMPOUND:
      return describe_compound(type);
    case H5T_ENUM:
      return "enumeration";
    case H5T_ARRAY:
      return "array";
    case H5T_REFERENCE:
      return "reference";
    case H5T_VLEN:
      return "sequence of variable length";
    default:
      return "unknown type";
  }
}

}  // namespace jsq::hdf5

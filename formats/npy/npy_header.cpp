// Parsing and writing npy headers. The dict literal is Python syntax; accepted is the part of it that numpy
// writes or other writers are known to write: quotes of both kinds, any key order, any white space, trailing
// commas, and the `L` that Python 2 left after integers.
#include "formats/npy/npy_header.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>

#include "lib/core/bytes.hpp"

namespace jsq {
namespace {

constexpr uint64_t header_limit_bytes = uint64_t(64) << 20;
constexpr size_t rank_limit = 64;  // numpy 2; numpy 1 stops at 32
constexpr uint64_t extent_limit = uint64_t(INT64_MAX);

struct ElementType {
  DType dtype;
  bool big_endian;
};

/// The element type of a `descr` string such as "<f4". bfloat16 has no code of its own in npy: ml_dtypes
/// writes it as two bytes of void.
ElementType element_type(std::string_view descr, const std::string& where) {
  struct Row {
    std::string_view code;
    DType dtype;
  };
  static constexpr std::array<Row, 11> rows = {{{"f2", DType::f16},
                                                {"f4", DType::f32},
                                                {"f8", DType::f64},
                                                {"V2", DType::bf16},
                                                {"e", DType::f16},
                                                {"f", DType::f32},
                                                {"d", DType::f64},
                                                {"float16", DType::f16},
                                                {"float32", DType::f32},
                                                {"float64", DType::f64},
                                                {"bfloat16", DType::bf16}}};
  const bool has_order = !descr.empty() && std::string_view("<>=|").find(descr[0]) != std::string_view::npos;
  const std::string_view code = has_order ? descr.substr(1) : descr;
  if (code == "O")
    throw UnsupportedDtype(where, "object dtype '" + printable(descr) + "' (pickled Python objects)");
  for (const Row& row : rows)
    if (row.code == code) return {row.dtype, has_order && descr[0] == '>'};
  throw UnsupportedDtype(where, "dtype '" + printable(descr) + "'");
}

/// Scans the dict literal of one header. Positions in messages count from the start of the npy.
class DictScanner {
 public:
  DictScanner(std::string_view header, size_t dict_at, bool long_suffix, const std::string& where)
      : text_(header), at_(dict_at), long_suffix_(long_suffix), where_(where) {}

  NpyHeader scan() {
    NpyHeader header;
    std::optional<std::string_view> descr;
    bool has_order = false, has_shape = false;
    expect('{');
    while (peek() != '}') {
      const size_t key_at = at_;
      const std::string_view key = string("a key in quotes");
      expect(':');
      if (key == "descr" && !descr) {
        descr = this->descr();
      } else if (key == "fortran_order" && !has_order) {
        header.fortran_order = boolean();
        has_order = true;
      } else if (key == "shape" && !has_shape) {
        header.shape = shape();
        has_shape = true;
      } else {
        at_ = key_at;
        fail("expected each of the keys 'descr', 'fortran_order' and 'shape' once, found '" + printable(key) +
             "'");
      }
      if (peek() != ',') break;
      ++at_;
    }
    expect('}');
    if (!at_end()) fail("expected only white space after the dict, found " + found());
    if (!descr) fail("the key 'descr' is missing");
    if (!has_order) fail("the key 'fortran_order' is missing");
    if (!has_shape) fail("the key 'shape' is missing");
    const ElementType type = element_type(*descr, where_);
    header.dtype = type.dtype;
    header.big_endian = type.big_endian;
    return header;
  }

  [[noreturn]] void fail(const std::string& why) const {
    throw Error(Errc::damaged, fmt::format("{}: npy header is damaged at byte {}: {}", where_, at_, why));
  }

 private:
  bool at_end() {
    while (at_ < text_.size() && std::string_view(" \t\n\r\f").find(text_[at_]) != std::string_view::npos)
      ++at_;
    return at_ == text_.size();
  }

  /// The next character after white space, or NUL at the end (a NUL in the text is never accepted either).
  char peek() { return at_end() ? '\0' : text_[at_]; }

  std::string found() { return at_end() ? "the end" : "'" + printable(text_.substr(at_, 1)) + "'"; }

  void expect(char wanted) {
    if (peek() != wanted) fail(fmt::format("expected '{}', found {}", wanted, found()));
    ++at_;
  }

  /// A quoted string without escapes; the view is into the header.
  std::string_view string(const char* wanted) {
    const char quote = peek();
    if (quote != '\'' && quote != '"') fail(fmt::format("expected {}, found {}", wanted, found()));
    const size_t end = text_.find(quote, at_ + 1);
    if (end == std::string_view::npos) fail("a string has no closing quote");
    const std::string_view value = text_.substr(at_ + 1, end - at_ - 1);
    if (value.find_first_of("\\\n\r") != std::string_view::npos)
      fail("a string holds an escape or a line break");
    at_ = end + 1;
    return value;
  }

  std::string_view descr() {
    if (peek() == '[') throw UnsupportedDtype(where_, "a structured dtype");
    if (peek() == '(') throw UnsupportedDtype(where_, "a sub-array dtype");
    return string("a dtype in quotes");
  }

  bool boolean() {
    peek();
    for (const bool value : {true, false}) {
      const std::string_view word = value ? "True" : "False";
      if (text_.substr(at_, word.size()) != word) continue;
      at_ += word.size();
      return value;
    }
    fail("expected True or False, found " + found());
  }

  uint64_t extent() {
    const char first = peek();
    if (first < '0' || first > '9') fail("expected an extent of the shape, found " + found());
    uint64_t value = 0;
    const size_t start = at_;
    for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      if (at_ - start == 19) fail("an extent of the shape has more than 19 digits");
      value = value * 10 + uint64_t(text_[at_] - '0');  // 19 digits fit 64 bits
      if (value > extent_limit) fail("an extent of the shape does not fit 63 bits");
    }
    if (first == '0' && at_ - start > 1) fail("an extent of the shape has leading zeros");
    if (long_suffix_ && at_ < text_.size() && text_[at_] == 'L') ++at_;
    return value;
  }

  /// A tuple of extents: `()`, `(3,)`, `(3, 4)`, `(3, 4,)`. `(3)` is an integer in Python, not a tuple.
  std::vector<uint64_t> shape() {
    std::vector<uint64_t> extents;
    bool comma = true;
    expect('(');
    while (peek() != ')') {
      if (!comma) fail("expected ',' or ')' in the shape, found " + found());
      if (extents.size() == rank_limit)
        throw Error(Errc::limit,
                    fmt::format("{}: the shape has more than {} dimensions", where_, rank_limit));
      extents.push_back(extent());
      comma = peek() == ',';
      if (comma) ++at_;
    }
    if (extents.size() == 1 && !comma) fail("the shape is an integer, expected a tuple such as (3,)");
    expect(')');
    return extents;
  }

  std::string_view text_;
  size_t at_;
  bool long_suffix_;
  const std::string& where_;
};

/// Product of extents x element size; a zero extent makes it 0 whatever the others are.
std::optional<uint64_t> checked_data_bytes(const std::vector<uint64_t>& shape, uint64_t element_bytes) {
  if (std::find(shape.begin(), shape.end(), uint64_t(0)) != shape.end()) return 0;
  uint64_t bytes = element_bytes;
  for (const uint64_t extent : shape)
    if (__builtin_mul_overflow(bytes, extent, &bytes)) return std::nullopt;
  return bytes <= extent_limit ? std::optional(bytes) : std::nullopt;
}

std::string_view descr_of(const TensorInfo& tensor) {
  switch (tensor.dtype) {
    case DType::f16:
      return tensor.big_endian ? ">f2" : "<f2";
    case DType::bf16:
      return tensor.big_endian ? ">V2" : "<V2";
    case DType::f32:
      return tensor.big_endian ? ">f4" : "<f4";
    case DType::f64:
      return tensor.big_endian ? ">f8" : "<f8";
  }
  throw Error(Errc::internal, "a tensor has no element type");
}

/// A tuple as Python prints it.
std::string shape_text(const std::vector<uint64_t>& shape) {
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); ++i) text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  return text + (shape.size() == 1 ? ",)" : ")");
}

}  // namespace

UnsupportedDtype::UnsupportedDtype(const std::string& where, std::string found)
    : Error(Errc::unsupported_dtype,
            fmt::format(
                "{}: expected a floating dtype (float16, bfloat16, float32 or float64), found {}; convert it "
                "first, for example with astype('<f4')",
                where, found)),
      found_(std::move(found)) {}

size_t npy_header_bytes(std::string_view first_bytes, uint64_t total_bytes, const std::string& where) {
  const std::string what = where + ": npy header";
  if (first_bytes.substr(0, npy_magic.size()) != npy_magic)
    throw Error(
        Errc::damaged,
        fmt::format("{}: expected the npy magic 93 4E 55 4D 50 59 at byte 0, found other bytes", where));
  ByteReader reader(first_bytes, what);
  reader.raw(npy_magic.size());
  const int major = reader.u8(), minor = reader.u8();
  if (major < 1 || major > 3 || minor != 0)
    throw Error(
        Errc::unsupported_format,
        fmt::format("{}: npy version {}.{} is unknown; expected 1.0, 2.0 or 3.0", where, major, minor));
  const uint64_t dict_bytes = major == 1 ? reader.u16() : reader.u32();
  const uint64_t header_bytes = reader.position() + dict_bytes;
  if (header_bytes > total_bytes)
    throw Error(Errc::damaged,
                fmt::format("{}: npy header is cut: expected {} bytes of header, found {} bytes in all",
                            where, header_bytes, total_bytes));
  if (header_bytes > header_limit_bytes)
    throw Error(Errc::limit, fmt::format("{}: npy header of {} bytes exceeds the limit of {} bytes", where,
                                         header_bytes, header_limit_bytes));
  return size_t(header_bytes);
}

NpyHeader parse_npy_header(std::string_view header, const std::string& where) {
  const size_t header_bytes = npy_header_bytes(header.substr(0, npy_prefix_bytes), header.size(), where);
  const int major = static_cast<unsigned char>(header[npy_magic.size()]);
  const size_t dict_at = npy_magic.size() + 2 + (major == 1 ? 2 : 4);
  DictScanner scanner(header.substr(0, header_bytes), dict_at, major <= 2, where);
  NpyHeader parsed = scanner.scan();
  const std::optional<uint64_t> data_bytes = checked_data_bytes(parsed.shape, dtype_bytes(parsed.dtype));
  if (!data_bytes) scanner.fail("the shape " + shape_text(parsed.shape) + " overflows 63 bits of data bytes");
  parsed.header_bytes = header_bytes;
  parsed.data_bytes = *data_bytes;
  return parsed;
}

void check_npy_size(const NpyHeader& header, uint64_t total_bytes, const std::string& where) {
  const uint64_t found = total_bytes - header.header_bytes;
  if (found < header.data_bytes)
    throw Error(Errc::damaged,
                fmt::format("{}: expected {} bytes of data from byte {}, found {}; the file was cut", where,
                            header.data_bytes, header.header_bytes, found));
  if (found > header.data_bytes)
    throw Error(Errc::damaged,
                fmt::format("{}: expected {} bytes of data from byte {}, found {}: {} bytes follow the data",
                            where, header.data_bytes, header.header_bytes, found, found - header.data_bytes));
}

std::string canonical_npy_header(const TensorInfo& tensor) {
  if (tensor.shape.size() > rank_limit)
    throw Error(Errc::unsupported_format,
                fmt::format("tensor '{}' has {} dimensions; npy holds at most {}", printable(tensor.name),
                            tensor.shape.size(), rank_limit));
  std::string dict = fmt::format("{{'descr': '{}', 'fortran_order': {}, 'shape': {}, }}", descr_of(tensor),
                                 tensor.fortran_order ? "True" : "False", shape_text(tensor.shape));
  if (!tensor.shape.empty()) {
    // numpy leaves room for the axis along which a file can grow to reach 21 digits.
    const uint64_t growth_extent = tensor.fortran_order ? tensor.shape.back() : tensor.shape.front();
    const size_t digits = std::to_string(growth_extent).size();
    dict.append(21 - std::min<size_t>(digits, 21), ' ');
  }
  const size_t prefix_bytes = npy_magic.size() + 4;
  dict.append(64 - (prefix_bytes + dict.size() + 1) % 64, ' ');  // numpy pads an aligned header by 64 more
  dict += '\n';
  ByteWriter header;
  header.raw(npy_magic);
  header.u8(1);
  header.u8(0);
  header.u16(uint16_t(dict.size()));  // the rank limit keeps it below 2 KiB
  header.raw(dict);
  return header.take();
}

std::string npy_header_to_write(const TensorInfo& tensor, std::string_view original) {
  if (original.empty()) return canonical_npy_header(tensor);
  const std::string where = "tensor '" + printable(tensor.name) + "': kept npy header";
  const NpyHeader kept = parse_npy_header(original, where);
  if (kept.header_bytes != original.size()) throw Error(Errc::damaged, where + ": bytes follow the header");
  const bool same = kept.dtype == tensor.dtype && kept.big_endian == tensor.big_endian &&
                    kept.fortran_order == tensor.fortran_order && kept.shape == tensor.shape;
  return same ? std::string(original) : canonical_npy_header(tensor);
}

std::string printable(std::string_view text) {
  constexpr size_t longest = 200;
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = uint8_t(text[i]);
    const bool continues = (byte & 0xc0) == 0x80;
    if (i >= longest + 3 || (i >= longest && !continues)) return out + "...";
    // U+0080 to U+009F are control characters too; in UTF-8 they follow a C2.
    const bool control =
        byte < 0x20 || byte == 0x7f || (byte < 0xa0 && continues && i > 0 && uint8_t(text[i - 1]) == 0xc2);
    if (control) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += text[i];
    }
  }
  return out;
}

bool is_ascii(std::string_view text) noexcept {
  return std::all_of(text.begin(), text.end(), [](char c) { return uint8_t(c) < 0x80; });
}

}  // namespace jsq

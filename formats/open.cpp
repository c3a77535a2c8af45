// Which reader or writer a dump gets: by magic bytes first, by extension second. Nothing of the formats
// themselves.
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "formats/hdf5/hdf5.hpp"
#include "formats/mapped_file.hpp"
#include "formats/npy/npy.hpp"
#include "formats/npy/npy_header.hpp"
#include "jsq/error.hpp"
#include "jsq/gradients.hpp"
#include "jsq/layers.hpp"

namespace jsq {
namespace {

constexpr std::string_view zip_member_magic = "PK\x03\x04";
constexpr std::string_view zip_empty_magic = "PK\x05\x06";
constexpr std::string_view hdf5_magic = "\x89HDF\r\n\x1a\n";
constexpr std::string_view frame_magic = "JSQ\x1a";
constexpr std::string_view member_separator = "::";

enum class Kind { npy, npz, hdf5, frame, unknown };

/// HDF5 may begin behind a user block of 512, 1024, 2048, ... bytes.
bool has_hdf5_signature(std::string_view bytes) {
  for (size_t at = 0; at + hdf5_magic.size() <= bytes.size(); at = std::max<size_t>(512, at * 2))
    if (bytes.substr(at, hdf5_magic.size()) == hdf5_magic) return true;
  return false;
}

Kind kind_of(std::string_view bytes) {
  if (bytes.starts_with(npy_magic)) return Kind::npy;
  if (bytes.starts_with(zip_member_magic) || bytes.starts_with(zip_empty_magic)) return Kind::npz;
  if (bytes.starts_with(frame_magic)) return Kind::frame;
  return has_hdf5_signature(bytes) ? Kind::hdf5 : Kind::unknown;
}

/// An input as typed, taken apart.
struct InputName {
  std::string file;    ///< path or "-"
  std::string member;  ///< behind "::", "" when there is none
};

bool is_there(const std::string& path) {
  struct stat status = {};
  return ::stat(path.c_str(), &status) == 0;
}

bool is_file_or_stdin(const std::string& path) {
  struct stat status = {};
  return path == "-" || (::stat(path.c_str(), &status) == 0 && !S_ISDIR(status.st_mode));
}

/// A name is taken whole when such a file exists, and split at the first "::" behind an existing file
/// otherwise.
InputName split_member(const std::string& typed) {
  if (typed == "-" || is_there(typed)) return {typed, ""};
  const size_t first = typed.find(member_separator);
  for (size_t at = first; at != std::string::npos; at = typed.find(member_separator, at + 1)) {
    std::string file = typed.substr(0, at);
    if (is_file_or_stdin(file)) return {std::move(file), typed.substr(at + member_separator.size())};
  }
  return {first == std::string::npos || first == 0 ? typed : typed.substr(0, first), ""};
}

std::string hex(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) text += fmt::format("{}{:02X}", text.empty() ? "" : " ", uint8_t(byte));
  return text;
}

/// Nothing recognised: says what the extension led one to expect.
[[noreturn]] void refuse_unknown(const std::string& name, std::string_view bytes) {
  struct Row {
    std::string_view extension, expected, magic;
  };
  static constexpr Row rows[] = {{".npy", "an npy header", npy_magic},
                                 {".npz", "a zip archive", zip_member_magic},
                                 {".h5", "an HDF5 signature", hdf5_magic},
                                 {".hdf5", "an HDF5 signature", hdf5_magic}};
  const auto* const row = std::find_if(std::begin(rows), std::end(rows), [&name](const Row& candidate) {
    return name.ends_with(candidate.extension);
  });
  if (row == std::end(rows)) {
    const std::string found = bytes.empty() ? "empty input" : "begins with " + hex(bytes.substr(0, 8));
    throw Error(Errc::unsupported_format,
                fmt::format("{}: {}; expected an npy, npz or HDF5 dump", name, found));
  }
  if (bytes.empty())
    throw Error(Errc::damaged, fmt::format("{}: empty file; expected {}", name, row->expected));
  if (row->magic.starts_with(bytes))
    throw Error(Errc::damaged,
                fmt::format("{}: cut after {} bytes; expected {}", name, bytes.size(), row->expected));
  throw Error(Errc::unsupported_format,
              fmt::format("{}: expected {} ({}), found {}; it is not what its name says", name, row->expected,
                          hex(row->magic), hex(bytes.substr(0, row->magic.size()))));
}

}  // namespace

std::string_view dump_format_name(DumpFormat format) noexcept {
  switch (format) {
    case DumpFormat::npy:
      return "npy";
    case DumpFormat::npz:
      return "npz";
    case DumpFormat::hdf5:
      return "h5";
  }
  return "?";
}

std::unique_ptr<GradientSource> open_gradients(const std::string& path) {
  const InputName input = split_member(path);
  const bool from_stdin = input.file == "-";
  const std::string name = from_stdin ? "standard input" : input.file;
  MappedFile file = from_stdin ? MappedFile::standard_input() : MappedFile::open(input.file);
  switch (kind_of(file.text())) {
    case Kind::npy:
      if (!input.member.empty())
        throw Error(Errc::unknown_name,
                    fmt::format("{}: an npy has no members, found '::{}'", name, printable(input.member)));
      return open_npy(std::move(file), name);
    case Kind::npz:
      return open_npz(std::move(file), name, input.member);
    case Kind::hdf5: {
      struct stat status = {};
      const bool is_file = !from_stdin && ::stat(input.file.c_str(), &status) == 0 && S_ISREG(status.st_mode);
      if (!is_file)
        throw Error(Errc::unsupported_format,
                    name + ": HDF5 cannot be read from a stream; save it to a file first");
      return hdf5_functions().open(input.file, input.member);
    }
    case Kind::frame:
      throw Error(Errc::unsupported_format, name + ": is already a jsq frame; use jsq decompress");
    case Kind::unknown:
      break;
  }
  refuse_unknown(name, file.text());
}

std::vector<LayerRow> read_layer_table(const std::string& path) {
  return hdf5_functions().layers(path);
}

std::unique_ptr<GradientSink> create_gradients(const std::string& path, const DumpInfo& dump,
                                               const std::vector<TensorInfo>& tensors) {
  switch (dump.format) {
    case DumpFormat::npy:
      return create_npy(path, tensors);
    case DumpFormat::npz:
      return create_npz(path, dump, tensors);
    case DumpFormat::hdf5:
      if (path == "-")
        throw Error(Errc::unsupported_format, "HDF5 cannot be written to a stream; name an output file");
      return hdf5_functions().create(path, dump, tensors);
  }
  throw Error(Errc::unsupported_format, fmt::format("{}: dump format {} is unknown", path, int(dump.format)));
}

}  // namespace jsq

// An npz as a source: each floating `.npy` member is a tensor, every other member is carried in the dump's
// attachment.
//
// Random access: a stored member is read in the map, a deflated one is inflated once, on first use, into a
// spool shared by all members. Either way libzip has read the member to its end first, so its CRC has been
// checked.
#include <fmt/format.h>
#include <zip.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <optional>
#include <unordered_set>

#include "formats/npy/npy.hpp"
#include "formats/npy/npy_header.hpp"
#include "formats/npy/npz_attachment.hpp"
#include "formats/npy/zip_directory.hpp"
#include "jsq/error.hpp"

namespace jsq {
namespace {

constexpr size_t inflate_piece_bytes = size_t(256) << 10;
constexpr size_t decode_piece_bytes = size_t(16) << 10;
constexpr std::string_view npy_suffix = ".npy";

struct ArchiveDiscard {
  void operator()(zip_t* archive) const { zip_discard(archive); }
};
using Archive = std::unique_ptr<zip_t, ArchiveDiscard>;

struct MemberClose {
  void operator()(zip_file_t* member) const { zip_fclose(member); }
};

[[noreturn]] void damaged_member(const std::string& where, const std::string& why) {
  throw Error(Errc::damaged, where + ": " + why);
}

/// libzip over bytes in memory, which it does not copy.
Archive open_archive(std::string_view file, const std::string& name) {
  zip_error_t error;
  zip_error_init(&error);
  zip_source_t* const source = zip_source_buffer_create(file.data(), file.size(), 0, &error);
  Archive archive(source != nullptr ? zip_open_from_source(source, ZIP_RDONLY, &error) : nullptr);
  if (!archive) {
    const std::string reason = zip_error_strerror(&error);
    if (source != nullptr) zip_source_free(source);
    zip_error_fini(&error);
    throw Error(Errc::damaged, fmt::format("{}: damaged zip archive: {}", name, reason));
  }
  zip_error_fini(&error);
  return archive;
}

/// One member being read from its start. Gives exactly the declared bytes; libzip checks the CRC at the end.
class MemberStream {
 public:
  MemberStream(zip_t* archive, size_t index, uint64_t declared_bytes, const std::string& where)
      : where_(where), left_(declared_bytes), member_(zip_fopen_index(archive, index, 0)) {
    if (!member_) damaged_member(where_, std::string("cannot be read: ") + zip_strerror(archive));
  }

  /// Fills `out` or what is left of the member, whichever is shorter, and returns how much that was.
  size_t read(std::span<std::byte> out) {
    const size_t wanted = size_t(std::min<uint64_t>(out.size(), left_));
    size_t done = 0;
    while (done < wanted) {
      const zip_int64_t got = zip_fread(member_.get(), out.data() + done, wanted - done);
      if (got < 0) fail();
      if (got == 0)
        damaged_member(where_, fmt::format("ends {} bytes before its declared size", left_ - done));
      done += size_t(got);
    }
    left_ -= done;
    return done;
  }

  /// Refuses a member that goes on after its declared size or whose CRC is wrong.  \pre everything has been
  /// read.
  void expect_end() {
    std::byte more;
    const zip_int64_t got = zip_fread(member_.get(), &more, 1);
    if (got < 0) fail();
    if (got > 0) damaged_member(where_, "goes on after its declared size");
  }

 private:
  [[noreturn]] void fail() {
    damaged_member(where_, std::string("cannot be read: ") + zip_file_strerror(member_.get()));
  }

  const std::string where_;
  uint64_t left_;
  std::unique_ptr<zip_file_t, MemberClose> member_;
};

/// Reads `total_bytes` in pieces, so that memory grows with what is there and not with what is claimed.
std::string read_text(MemberStream& stream, uint64_t total_bytes) {
  std::string text;
  while (text.size() < total_bytes) {
    const size_t have = text.size();
    text.resize(size_t(std::min<uint64_t>(total_bytes, have + inflate_piece_bytes)));
    stream.read(std::as_writable_bytes(std::span(text)).subspan(have));
  }
  return text;
}

bool ends_with_npy(std::string_view name) {
  return name.size() >= npy_suffix.size() && name.substr(name.size() - npy_suffix.size()) == npy_suffix;
}

class NpzSource final : public GradientSource {
 public:
  NpzSource(MappedFile file, const std::string& name, const std::string& only_member)
      : name_(name),
        file_(std::move(file)),
        directory_(read_zip_directory(file_.text(), name_)),
        archive_(open_archive(file_.text(), name_)) {
    const std::vector<std::string> names = member_names();
    if (only_member.empty()) {
      list_all(names);
    } else {
      list_one(names, only_member);
    }
    ready_ = std::make_unique<std::atomic<bool>[]>(tensors_.size());
    // No one ever reads a tensor without elements, so its member is checked now.
    for (size_t i = 0; i < tensors_.size(); ++i)
      if (tensors_[i].stored_bytes() == 0) make_ready(i);
  }

  const DumpInfo& dump() const override { return dump_; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }

  std::span<const float> read(size_t tensor, uint64_t first, size_t count,
                              std::vector<float>& scratch) const override {
    const TensorInfo& info = tensors_.at(tensor);
    make_ready(tensor);
    if (!entry_of(tensor).deflated)
      return elements_in_memory(info, mapped_data(tensor), first, count, scratch);

    check_element_range(info, first, count);
    scratch.resize(count);
    if (info.dtype == DType::f32 && !info.big_endian) {
      read_spooled(tensor, first, std::as_writable_bytes(std::span(scratch)));
      return scratch;
    }
    std::byte stored[decode_piece_bytes];
    const size_t element_bytes = dtype_bytes(info.dtype);
    for (size_t done = 0; done < count;) {
      const size_t piece = std::min(count - done, decode_piece_bytes / element_bytes);
      read_spooled(tensor, first + done, {stored, piece * element_bytes});
      decode_elements(info.dtype, info.big_endian, stored, std::span(scratch).subspan(done, piece));
      done += piece;
    }
    return scratch;
  }

  void read_stored(size_t tensor, uint64_t first, size_t count, std::byte* out) const override {
    const TensorInfo& info = tensors_.at(tensor);
    make_ready(tensor);
    if (!entry_of(tensor).deflated)
      return stored_elements_in_memory(info, mapped_data(tensor), first, count, out);

    check_element_range(info, first, count);
    const std::span<std::byte> bytes(out, count * dtype_bytes(info.dtype));
    read_spooled(tensor, first, bytes);
    if (info.big_endian) swap_element_bytes(bytes, dtype_bytes(info.dtype));
  }

 private:
  /// Where one tensor's elements are.
  struct Place {
    size_t member = 0;                  ///< index in the archive
    size_t header_bytes = 0;            ///< of the npy
    mutable uint64_t spool_offset = 0;  ///< of element 0, once ready
  };

  const ZipEntry& entry_of(size_t tensor) const { return directory_.entries[places_[tensor].member]; }

  const std::byte* mapped_data(size_t tensor) const {
    return file_.bytes().data() + entry_of(tensor).data_offset + places_[tensor].header_bytes;
  }

  void read_spooled(size_t tensor, uint64_t first, std::span<std::byte> out) const {
    spool_->read(places_[tensor].spool_offset + first * dtype_bytes(tensors_[tensor].dtype), out);
  }

  std::string member_label(std::string_view member) const {
    return name_ + ": member '" + printable(member) + "'";
  }

  /// A member's name as Python's zipfile sees it: ASCII as it is, else UTF-8 or code page 437 as the member's
  /// flag says.
  std::string utf8_name(size_t member) const {
    const std::string_view raw = directory_.entries[member].raw_name;
    if (is_ascii(raw)) return std::string(raw);
    const char* const name = zip_get_name(archive_.get(), member, ZIP_FL_ENC_STRICT);
    if (name == nullptr)
      damaged_member(name_, fmt::format("damaged zip archive: the name of entry {} is not UTF-8", member));
    if (std::strlen(name) > zip_text_limit_bytes)
      throw Error(Errc::limit, fmt::format("{}: the name of entry {} takes more than {} bytes as UTF-8",
                                           name_, member, zip_text_limit_bytes));
    return name;
  }

  /// Names as UTF-8. libzip and the directory must agree on what is in the archive.
  std::vector<std::string> member_names() const {
    if (zip_get_num_entries(archive_.get(), 0) != zip_int64_t(directory_.entries.size()))
      damaged_member(name_, "damaged zip archive: the number of entries is ambiguous");
    std::vector<std::string> names;
    std::unordered_set<std::string_view> seen;
    names.reserve(directory_.entries.size());
    for (size_t i = 0; i < directory_.entries.size(); ++i) {
      const ZipEntry& entry = directory_.entries[i];
      const char* const raw = zip_get_name(archive_.get(), i, ZIP_FL_ENC_RAW);
      zip_stat_t stat;
      const bool agreed = raw != nullptr && entry.raw_name == raw &&
                          zip_stat_index(archive_.get(), i, 0, &stat) == 0 && stat.size == entry.bytes &&
                          stat.comp_size == entry.compressed_bytes &&
                          stat.comp_method == (entry.deflated ? ZIP_CM_DEFLATE : ZIP_CM_STORE);
      if (!agreed) damaged_member(name_, fmt::format("damaged zip archive: entry {} is ambiguous", i));
      names.push_back(utf8_name(i));
      if (!seen.insert(names.back()).second)
        damaged_member(name_, "damaged zip archive: two members are named '" + printable(names.back()) + "'");
    }
    return names;
  }

  static MemberStyle style_of(const ZipEntry& entry) {
    return {.deflated = entry.deflated,
            .dos_time = entry.dos_time,
            .dos_date = entry.dos_date,
            .host = entry.host,
            .attributes = entry.attributes};
  }

  void list_all(const std::vector<std::string>& names) {
    NpzDumpAttachment attachment{std::string(directory_.comment), {}};
    std::string found;
    uint64_t extra_bytes = 0;
    for (size_t member = 0; member < names.size(); ++member) {
      const std::optional<std::string> not_a_gradient = add_if_gradient(member, names[member]);
      if (!not_a_gradient) continue;
      if (attachment.extras.size() < 5) found += (found.empty() ? "" : ", ") + *not_a_gradient;
      if (attachment.extras.size() == 5) found += ", ...";
      const ZipEntry& entry = directory_.entries[member];
      if (entry.bytes > npz_extras_limit_bytes - extra_bytes)
        throw Error(
            Errc::limit,
            fmt::format(
                "{}: members that are not gradients take more than {} bytes ('{}' alone {}); name the "
                "gradients one by one as {}::MEMBER, or move the others elsewhere",
                name_, npz_extras_limit_bytes, printable(names[member]), entry.bytes, name_));
      extra_bytes += entry.bytes;
      attachment.extras.push_back(
          {tensors_.size(), names[member], style_of(entry), member_content(member, names[member])});
    }
    if (tensors_.empty())
      throw Error(Errc::unsupported_dtype,
                  fmt::format("{}: expected at least one floating .npy member, found {}", name_,
                              found.empty() ? "an empty archive" : found));
    dump_.attachment = encode(attachment);
  }

  /// A member asked for by name becomes a dump of its own, without the archive's other contents.
  void list_one(const std::vector<std::string>& names, const std::string& wanted) {
    auto at = std::find(names.begin(), names.end(), wanted);
    if (at == names.end()) at = std::find(names.begin(), names.end(), wanted + std::string(npy_suffix));
    if (at == names.end()) {
      std::string known;
      for (size_t i = 0; i < std::min<size_t>(names.size(), 5); ++i)
        known += (i > 0 ? ", '" : "'") + printable(names[i]) + "'";
      throw Error(Errc::unknown_name,
                  fmt::format("{}: no member '{}'; it has {} members: {}{}", name_, printable(wanted),
                              names.size(), known, names.size() > 5 ? ", ..." : ""));
    }
    if (const auto not_a_gradient = add_if_gradient(size_t(at - names.begin()), *at))
      throw Error(Errc::unsupported_dtype,
                  fmt::format("{}: expected a floating .npy member, found {}", name_, *not_a_gradient));
  }

  /// Lists the member as a tensor, or says what it is instead.
  std::optional<std::string> add_if_gradient(size_t member, const std::string& member_name) {
    const std::string quoted = "'" + printable(member_name) + "' ";
    const ZipEntry& entry = directory_.entries[member];
    if (!ends_with_npy(member_name)) return quoted + "(not named .npy)";
    if (entry.bytes < npy_magic.size()) return quoted + "(not an npy)";

    const std::string where = member_label(member_name);
    const std::string header_text = member_header(member, where);
    if (header_text.empty()) return quoted + "(not an npy)";
    NpyHeader header;
    try {
      header = parse_npy_header(header_text, where);
    } catch (const UnsupportedDtype& other) {
      return quoted + "of " + other.found();
    }
    check_npy_size(header, entry.bytes, where);

    TensorInfo tensor{.name = member_name.substr(0, member_name.size() - npy_suffix.size()),
                      .dtype = header.dtype,
                      .big_endian = header.big_endian,
                      .fortran_order = header.fortran_order,
                      .shape = std::move(header.shape),
                      .attachment = ""};
    NpzTensorAttachment attachment{style_of(entry), ""};
    if (canonical_npy_header(tensor) != header_text) attachment.header = header_text;
    tensor.attachment = encode(attachment);
    tensors_.push_back(std::move(tensor));
    places_.push_back({member, header.header_bytes, 0});
    return std::nullopt;
  }

  /// The npy header of a member, or "" when it does not begin as one.
  std::string member_header(size_t member, const std::string& where) const {
    const ZipEntry& entry = directory_.entries[member];
    MemberStream stream(archive_.get(), member, entry.bytes, where);
    std::string header = read_text(stream, std::min<uint64_t>(entry.bytes, npy_prefix_bytes));
    if (header.substr(0, npy_magic.size()) != npy_magic) return "";
    const size_t header_bytes = npy_header_bytes(header, entry.bytes, where);
    if (header_bytes < header.size()) return header.substr(0, header_bytes);
    header += read_text(stream, header_bytes - header.size());
    return header;
  }

  std::string member_content(size_t member, const std::string& member_name) const {
    const uint64_t bytes = directory_.entries[member].bytes;
    const std::string where = member_label(member_name);
    MemberStream stream(archive_.get(), member, bytes, where);
    std::string content = read_text(stream, bytes);
    stream.expect_end();
    return content;
  }

  /// Reads the tensor's member to its end once: checks its CRC and spools its elements when they are
  /// deflated.
  void make_ready(size_t tensor) const {
    if (ready_[tensor].load(std::memory_order_acquire)) return;
    const std::lock_guard lock(archive_mutex_);  // libzip handles serve one thread at a time
    if (ready_[tensor].load(std::memory_order_relaxed)) return;

    const Place& place = places_[tensor];
    const ZipEntry& entry = entry_of(tensor);
    const std::string where = member_label(tensors_[tensor].name + std::string(npy_suffix));
    if (entry.deflated && !spool_) spool_.emplace();
    const uint64_t spool_offset = spool_ ? spool_->size() : 0;
    MemberStream stream(archive_.get(), place.member, entry.bytes, where);
    std::vector<std::byte> piece(size_t(std::min<uint64_t>(entry.bytes, inflate_piece_bytes)));
    for (uint64_t done = 0; done < entry.bytes;) {
      const std::span<const std::byte> got(piece.data(), stream.read(piece));
      if (entry.deflated) spool_->append(got);
      if (!entry.deflated &&
          std::memcmp(got.data(), file_.bytes().data() + entry.data_offset + done, got.size()) != 0)
        damaged_member(where, "lies at an ambiguous place in the archive");
      done += got.size();
    }
    stream.expect_end();
    place.spool_offset = spool_offset + place.header_bytes;
    ready_[tensor].store(true, std::memory_order_release);
  }

  const std::string name_;
  const MappedFile file_;
  const ZipDirectory directory_;
  const Archive archive_;
  DumpInfo dump_{DumpFormat::npz, ""};
  std::vector<TensorInfo> tensors_;
  std::vector<Place> places_;  ///< one per tensor

  mutable std::mutex archive_mutex_;
  mutable std::unique_ptr<std::atomic<bool>[]> ready_;
  mutable std::optional<SpoolFile> spool_;
};

}  // namespace

std::unique_ptr<GradientSource> open_npz(MappedFile file, const std::string& name,
                                         const std::string& member) {
  return std::make_unique<NpzSource>(std::move(file), name, member);
}

}  // namespace jsq

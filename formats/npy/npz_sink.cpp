// Writing an npz: elements are spooled as they come, and finish() lets libzip assemble the archive from the
// mapped spool, so memory stays bounded. libzip writes through a source of our own into the file at hand: its
// named sources would make a temporary file of their own and rename it over the output.
#include <fmt/format.h>
#include <zip.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <unordered_set>

#include "formats/npy/npy.hpp"
#include "formats/npy/npy_header.hpp"
#include "formats/npy/npz_attachment.hpp"
#include "jsq/error.hpp"
#include "lib/core/bytes.hpp"

namespace jsq {
namespace {

constexpr size_t gather_bytes = size_t(1) << 20;
constexpr size_t piece_bytes = size_t(1) << 20;
constexpr unsigned deflate_level = 6;  // zlib's and numpy's default

/// The file libzip writes the archive to, in the shape of a zip_source callback. Small consecutive writes are
/// gathered.
class ArchiveTarget {
 public:
  explicit ArchiveTarget(int fd) : fd_(fd) { zip_error_init(&error_); }
  ~ArchiveTarget() { zip_error_fini(&error_); }
  ArchiveTarget(const ArchiveTarget&) = delete;
  ArchiveTarget& operator=(const ArchiveTarget&) = delete;

  uint64_t size() const noexcept { return size_; }
  int write_error() const noexcept { return write_error_; }

  static zip_int64_t callback(void* self, void* data, zip_uint64_t length, zip_source_cmd_t command) {
    return static_cast<ArchiveTarget*>(self)->handle(data, length, command);
  }

 private:
  zip_int64_t handle(void* data, zip_uint64_t length, zip_source_cmd_t command) noexcept {
    switch (command) {
      case ZIP_SOURCE_SUPPORTS:
        return ZIP_SOURCE_SUPPORTS_WRITABLE;
      case ZIP_SOURCE_STAT:
        return refuse(ZIP_ER_READ, ENOENT);  // "there is no archive yet"
      case ZIP_SOURCE_BEGIN_WRITE:
      case ZIP_SOURCE_ROLLBACK_WRITE:
      case ZIP_SOURCE_REMOVE:
      case ZIP_SOURCE_CLOSE:
      case ZIP_SOURCE_FREE:
        return 0;
      case ZIP_SOURCE_WRITE:
        return write(static_cast<const std::byte*>(data), length);
      case ZIP_SOURCE_COMMIT_WRITE:
        return flush();
      case ZIP_SOURCE_TELL_WRITE:
        return zip_int64_t(position_);
      case ZIP_SOURCE_SEEK_WRITE: {
        const zip_int64_t to = zip_source_seek_compute_offset(position_, size_, data, length, &error_);
        if (to >= 0) position_ = uint64_t(to);
        return to >= 0 ? 0 : -1;
      }
      case ZIP_SOURCE_ERROR:
        return zip_error_to_data(&error_, data, length);
      default:
        return refuse(ZIP_ER_OPNOTSUPP, 0);
    }
  }

  zip_int64_t refuse(int zip_code, int system_code) noexcept {
    zip_error_set(&error_, zip_code, system_code);
    return -1;
  }

  zip_int64_t write(const std::byte* data, zip_uint64_t length) noexcept {
    const bool continues = position_ == gathered_at_ + gathered_count_;
    if (!continues || gathered_count_ + length > gather_bytes) {
      if (flush() < 0) return -1;
      gathered_at_ = position_;
    }
    if (length > gather_bytes) {
      if (put({data, size_t(length)}, position_) < 0) return -1;
      gathered_at_ = position_ + length;
    } else {
      std::memcpy(gathered_.data() + gathered_count_, data, size_t(length));
      gathered_count_ += size_t(length);
    }
    position_ += length;
    size_ = std::max(size_, position_);
    return zip_int64_t(length);
  }

  zip_int64_t flush() noexcept {
    const zip_int64_t result = put({gathered_.data(), gathered_count_}, gathered_at_);
    gathered_at_ += gathered_count_;
    gathered_count_ = 0;
    return result;
  }

  zip_int64_t put(std::span<const std::byte> bytes, uint64_t at) noexcept {
    write_error_ = write_fully_at(fd_, bytes, at);
    return write_error_ == 0 ? 0 : refuse(ZIP_ER_WRITE, write_error_);
  }

  int fd_;
  uint64_t position_ = 0, size_ = 0;
  std::vector<std::byte> gathered_ = std::vector<std::byte>(gather_bytes);
  uint64_t gathered_at_ = 0;
  size_t gathered_count_ = 0;
  int write_error_ = 0;
  zip_error_t error_;
};

struct ArchiveDiscard {
  void operator()(zip_t* archive) const { zip_discard(archive); }
};

/// A tensor as a member: name, style and npy header; its elements are in the spool.
struct TensorMember {
  std::string name;
  MemberStyle style;
  std::string header;
  uint64_t bytes = 0;
};

TensorMember tensor_member(const TensorInfo& tensor) {
  const NpzTensorAttachment attachment = decode_npz_tensor_attachment(tensor.attachment);
  // A tensor that comes from a plain npy has neither name nor attachment; numpy names such arrays arr_0.
  const bool unnamed = tensor.name.empty() && tensor.attachment.empty();
  return {.name = (unnamed ? "arr_0" : tensor.name) + ".npy",
          .style = attachment.style,
          .header = npy_header_to_write(tensor, attachment.header),
          .bytes = tensor.stored_bytes()};
}

class NpzSink final : public GradientSink {
 public:
  /// Everything is decoded and checked before the output is touched.
  static std::unique_ptr<NpzSink> create(const std::string& path, const DumpInfo& dump,
                                         const std::vector<TensorInfo>& tensors) {
    NpzDumpAttachment attachment = decode_npz_dump_attachment(dump.attachment);
    std::vector<TensorMember> members;
    std::unordered_set<std::string> names;
    members.reserve(tensors.size());
    for (const TensorInfo& tensor : tensors) {
      members.push_back(tensor_member(tensor));
      check_name(members.back().name, path, names);
    }
    for (const NpzExtra& extra : attachment.extras) check_name(extra.name, path, names);
    if (names.empty())
      throw Error(Errc::unsupported_format, path + ": an npz holds at least one member, found none to write");
    return std::unique_ptr<NpzSink>(new NpzSink(path, tensors, std::move(attachment), std::move(members)));
  }

  void write(size_t tensor, std::span<const std::byte> stored_le) override {
    order_.advance(tensor, stored_le.size());
    if (!tensors_[tensor].big_endian) return spool_.append(stored_le);
    while (!stored_le.empty()) {
      const auto piece = stored_le.first(std::min(stored_le.size(), piece_bytes));
      swapped_.assign(piece.begin(), piece.end());
      swap_element_bytes(swapped_, dtype_bytes(tensors_[tensor].dtype));
      spool_.append(swapped_);
      stored_le = stored_le.subspan(piece.size());
    }
  }

  void finish() override {
    order_.finish();
    if (out_.seekable()) {
      assemble(out_.descriptor());
    } else {
      // An archive is patched while it is written, which a pipe cannot do.
      const SpoolFile archive;
      const uint64_t size = assemble(archive.descriptor());
      copy_out(archive, size);
    }
    out_.close();
  }

 private:
  NpzSink(const std::string& path, const std::vector<TensorInfo>& tensors, NpzDumpAttachment attachment,
          std::vector<TensorMember> members)
      : path_(path),
        tensors_(tensors),
        attachment_(std::move(attachment)),
        members_(std::move(members)),
        order_(tensors),
        out_(path) {}

  static void check_name(const std::string& name, const std::string& path,
                         std::unordered_set<std::string>& names) {
    if (name.empty() || name.find('\0') != std::string::npos || name.size() > zip_text_limit_bytes)
      throw Error(Errc::unsupported_format,
                  fmt::format("{}: '{}' cannot name an npz member: expected 1 to 65535 bytes without NUL",
                              path, printable(name)));
    if (!names.insert(name).second)
      throw Error(Errc::unsupported_format,
                  fmt::format("{}: two npz members would be named '{}'", path, printable(name)));
  }

  /// Writes the whole archive to `fd` and returns its size.
  uint64_t assemble(int fd) {
    const MappedFile elements = MappedFile::of_descriptor(spool_.descriptor(), spool_.size(), path_);
    ArchiveTarget target(fd);  // outlives the archive, which holds the source around it
    zip_error_t error;
    zip_error_init(&error);
    zip_source_t* const source = zip_source_function_create(ArchiveTarget::callback, &target, &error);
    zip_t* const opened =
        source != nullptr ? zip_open_from_source(source, ZIP_CREATE | ZIP_TRUNCATE, &error) : nullptr;
    const std::string reason = zip_error_strerror(&error);
    zip_error_fini(&error);
    if (opened == nullptr) {
      if (source != nullptr) zip_source_free(source);
      throw Error(Errc::write_failed, fmt::format("{}: cannot start the zip archive: {}", path_, reason));
    }
    std::unique_ptr<zip_t, ArchiveDiscard> archive(opened);
    add_members(archive.get(), elements.bytes());
    if (zip_close(archive.get()) != 0) {
      if (target.write_error() != 0) fail_writing(fd, target.write_error());
      throw Error(Errc::write_failed,
                  fmt::format("{}: cannot write the zip archive: {}", path_, zip_strerror(archive.get())));
    }
    static_cast<void>(archive.release());  // zip_close has freed it
    return append_comment(fd, target.size());
  }

  /// Completes the end record, which libzip left without a comment: it takes text only, and a comment is any
  /// bytes. Returns the archive's size.
  uint64_t append_comment(int fd, uint64_t archive_bytes) const {
    const std::string& comment = attachment_.comment;
    if (comment.empty()) return archive_bytes;
    ByteWriter tail;
    tail.u16(uint16_t(comment.size()));
    tail.raw(comment);
    const uint64_t length_at = archive_bytes - sizeof(uint16_t);
    if (const int error = write_fully_at(fd, std::as_bytes(std::span(tail.bytes())), length_at))
      fail_writing(fd, error);
    return length_at + tail.size();
  }

  [[noreturn]] void fail_writing(int fd, int error) const {
    if (fd == out_.descriptor()) out_.fail(error);
    throw Error(Errc::write_failed,
                fmt::format("{}: cannot keep temporary data: {}; set TMPDIR to a folder with enough room",
                            path_, std::strerror(error)));
  }

  void add_members(zip_t* archive, std::span<const std::byte> elements) {
    size_t extra = 0;
    uint64_t offset = 0;
    for (size_t tensor = 0; tensor <= members_.size(); ++tensor) {
      // Extras that stood behind tensors which are not written come last.
      const bool last = tensor == members_.size();
      for (;
           extra < attachment_.extras.size() && (last || attachment_.extras[extra].tensors_before <= tensor);
           ++extra) {
        const NpzExtra& other = attachment_.extras[extra];
        add(archive, other.name, other.style, other.content, {});
      }
      if (last) break;
      const TensorMember& member = members_[tensor];
      add(archive, member.name, member.style, member.header,
          elements.subspan(size_t(offset), size_t(member.bytes)));
      offset += member.bytes;
    }
  }

  /// Adds one member whose content is `head` followed by `body`; both stay where they are until zip_close.
  void add(zip_t* archive, const std::string& name, const MemberStyle& style, const std::string& head,
           std::span<const std::byte> body) {
    zip_buffer_fragment_t fragments[2] = {};
    size_t count = 0;
    for (const std::span<const std::byte> part : {std::as_bytes(std::span(head)), body}) {
      if (part.empty()) continue;
      fragments[count].data =
          reinterpret_cast<zip_uint8_t*>(const_cast<std::byte*>(part.data()));  // only read
      fragments[count++].length = part.size();
    }
    zip_source_t* const source = count == 0 ? zip_source_buffer(archive, nullptr, 0, 0)
                                            : zip_source_buffer_fragment(archive, fragments, count, 0);
    if (source == nullptr) refused(archive, name);
    // ASCII is the same in both encodings, but libzip takes control characters only as code page 437.
    const zip_flags_t encoding = is_ascii(name) ? ZIP_FL_ENC_CP437 : ZIP_FL_ENC_UTF_8;
    const zip_int64_t index = zip_file_add(archive, name.c_str(), source, encoding);
    if (index < 0) {
      zip_source_free(source);
      refused(archive, name);
    }
    const zip_int32_t method = style.deflated ? ZIP_CM_DEFLATE : ZIP_CM_STORE;
    const bool styled =
        zip_set_file_compression(archive, zip_uint64_t(index), method, style.deflated ? deflate_level : 0) ==
            0 &&
        zip_file_set_dostime(archive, zip_uint64_t(index), style.dos_time, style.dos_date, 0) == 0 &&
        zip_file_set_external_attributes(archive, zip_uint64_t(index), 0, style.host, style.attributes) == 0;
    if (!styled) refused(archive, name);
  }

  [[noreturn]] void refused(zip_t* archive, const std::string& what) const {
    throw Error(Errc::unsupported_format, fmt::format("{}: '{}' cannot be put into an npz: {}", path_,
                                                      printable(what), zip_strerror(archive)));
  }

  void copy_out(const SpoolFile& archive, uint64_t size) {
    std::vector<std::byte> piece(piece_bytes);
    for (uint64_t at = 0; at < size; at += piece.size()) {
      if (size - at < piece.size()) piece.resize(size_t(size - at));
      archive.read(at, piece);
      out_.append(piece);
    }
  }

  const std::string path_;
  const std::vector<TensorInfo> tensors_;
  const NpzDumpAttachment attachment_;
  const std::vector<TensorMember> members_;
  WriteOrder order_;
  OutputFile out_;
  SpoolFile spool_;
  std::vector<std::byte> swapped_;
};

}  // namespace

std::unique_ptr<GradientSink> create_npz(const std::string& path, const DumpInfo& dump,
                                         const std::vector<TensorInfo>& tensors) {
  return NpzSink::create(path, dump, tensors);
}

}  // namespace jsq

// The private bytes of npz in a frame: how a member was stored, and the members that are not gradients.
// The encodings are those of formats/SPEC.md ("npz attachments").
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace jsq {

/// Contents of all members of an npz that are not gradients may take this much in all: they are kept in
/// memory.
constexpr uint64_t npz_extras_limit_bytes = uint64_t(64) << 20;
/// A zip stores the lengths of names and comments in 16 bits.
constexpr uint64_t zip_text_limit_bytes = 65535;

/// What a zip records about a member beside its name and bytes. The defaults are what numpy writes.
struct MemberStyle {
  bool deflated = false;
  uint16_t dos_time = 0;
  uint16_t dos_date = 0x0021;  ///< 1980-01-01
  uint8_t host = 3;            ///< system the attributes are of; 3 is Unix
  uint32_t attributes = uint32_t(0600) << 16;

  bool operator==(const MemberStyle&) const = default;
};

/// TensorInfo::attachment of an npz member.
struct NpzTensorAttachment {
  MemberStyle style;
  std::string header;  ///< original npy header, "" when it is the canonical one
};
std::string encode(const NpzTensorAttachment& attachment);
/// An empty `bytes` gives the defaults.  \throws Error damaged.
NpzTensorAttachment decode_npz_tensor_attachment(std::string_view bytes);

/// A member that is not a gradient.
struct NpzExtra {
  uint64_t tensors_before = 0;  ///< how many tensors come before it in the archive
  std::string name;             ///< UTF-8, with ".npy" where it has it
  MemberStyle style;
  std::string content;
};

/// DumpInfo::attachment of an npz.
struct NpzDumpAttachment {
  std::string comment;  ///< of the archive
  std::vector<NpzExtra> extras;
};
std::string encode(const NpzDumpAttachment& attachment);
/// \throws Error damaged, limit.
NpzDumpAttachment decode_npz_dump_attachment(std::string_view bytes);

}  // namespace jsq

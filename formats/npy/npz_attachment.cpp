// Encoding and decoding of the npz attachments.
#include "formats/npy/npz_attachment.hpp"

#include "lib/core/bytes.hpp"

namespace jsq {
namespace {

enum StyleFlag : uint8_t { deflated_flag = 1, time_flag = 2, attributes_flag = 4, header_flag = 8 };

void write_style(ByteWriter& out, const MemberStyle& style, bool has_header) {
  const MemberStyle usual;
  const bool has_time = style.dos_time != usual.dos_time || style.dos_date != usual.dos_date;
  const bool has_attributes = style.host != usual.host || style.attributes != usual.attributes;
  out.u8(uint8_t((style.deflated ? deflated_flag : 0) | (has_time ? time_flag : 0) |
                 (has_attributes ? attributes_flag : 0) | (has_header ? header_flag : 0)));
  if (has_time) {
    out.u16(style.dos_time);
    out.u16(style.dos_date);
  }
  if (has_attributes) {
    out.u8(style.host);
    out.u32(style.attributes);
  }
}

struct StyleAndHeader {
  MemberStyle style;
  bool has_header;
};

StyleAndHeader read_style(ByteReader& in) {
  MemberStyle style;
  const uint8_t flags = in.u8();
  if (flags >= 2 * header_flag) in.damaged("unknown member flags " + std::to_string(flags));
  style.deflated = (flags & deflated_flag) != 0;
  if ((flags & time_flag) != 0) {
    style.dos_time = in.u16();
    style.dos_date = in.u16();
  }
  if ((flags & attributes_flag) != 0) {
    style.host = in.u8();
    style.attributes = in.u32();
  }
  return {style, (flags & header_flag) != 0};
}

}  // namespace

std::string encode(const NpzTensorAttachment& attachment) {
  ByteWriter out;
  write_style(out, attachment.style, !attachment.header.empty());
  out.raw(attachment.header);
  return out.take();
}

NpzTensorAttachment decode_npz_tensor_attachment(std::string_view bytes) {
  if (bytes.empty()) return {};
  ByteReader in(bytes, "npz attachment of a tensor");
  const StyleAndHeader read = read_style(in);
  NpzTensorAttachment attachment{read.style, ""};
  if (read.has_header) attachment.header = in.raw(in.remaining());
  if (read.has_header && attachment.header.empty()) in.damaged("expected an npy header, found the end");
  in.expect_end();
  return attachment;
}

std::string encode(const NpzDumpAttachment& attachment) {
  if (attachment.comment.empty() && attachment.extras.empty()) return "";
  ByteWriter out;
  out.string(attachment.comment);
  for (const NpzExtra& extra : attachment.extras) {
    out.uvarint(extra.tensors_before);
    out.string(extra.name);
    write_style(out, extra.style, false);
    out.string(extra.content);
  }
  return out.take();
}

NpzDumpAttachment decode_npz_dump_attachment(std::string_view bytes) {
  NpzDumpAttachment attachment;
  if (bytes.empty()) return attachment;
  ByteReader in(bytes, "npz attachment");
  attachment.comment = in.string(zip_text_limit_bytes);
  uint64_t total_bytes = 0, tensors_before = 0;
  while (in.remaining() > 0) {
    NpzExtra extra;
    extra.tensors_before = in.uvarint();
    if (extra.tensors_before < tensors_before) in.damaged("members are out of order");
    tensors_before = extra.tensors_before;
    extra.name = in.string(zip_text_limit_bytes);
    const StyleAndHeader read = read_style(in);
    if (read.has_header) in.damaged("a member that is not a tensor has an npy header apart");
    extra.style = read.style;
    extra.content = in.string(npz_extras_limit_bytes - total_bytes);
    total_bytes += extra.content.size();
    attachment.extras.push_back(std::move(extra));
  }
  return attachment;
}

}  // namespace jsq

// Seeds of the fuzz targets, from the golden and the corrupt frames: whole frames for the targets that read
// frames, and their directories, parameter sets, blocks and attachments, in the form that the other targets
// take them.
//
//     make_seeds OUT_FOLDER FRAMES_FOLDER...
//
// A corrupt frame counts as far as its directory reads.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "formats/wire/directory.hpp"
#include "jsq/error.hpp"
#include "jsq/method.hpp"
#include "lib/core/bytes.hpp"

namespace {

namespace fs = std::filesystem;
using namespace jsq;

fs::path out_folder;

void save(const std::string& target, const std::string& name, std::string_view bytes) {
  fs::create_directories(out_folder / target);
  std::ofstream(out_folder / target / name, std::ios::binary)
      .write(bytes.data(), std::streamsize(bytes.size()));
}

/// What block.cpp reads: the method, the tensor, the block's place in it, the parameter set, the block.
std::string block_input(const TensorInfo& info, uint32_t tensor, size_t block, const wire::ParameterSet& set,
                        std::string_view payload) {
  ByteWriter out;
  out.u8(uint8_t(set.method_id));
  out.u8(uint8_t(int(info.dtype) - 1));
  std::vector<uint64_t> shape = info.shape;
  if (shape.size() > 4 ||
      std::any_of(shape.begin(), shape.end(), [](uint64_t extent) { return extent > 65535; }))
    shape = {std::min<uint64_t>(info.elements(), 65535)};
  out.u8(uint8_t(shape.size()));
  for (uint64_t extent : shape) out.u16(uint16_t(extent));
  out.u8(uint8_t(block));
  out.u8(uint8_t(tensor));
  out.u16(uint16_t(set.bytes.size()));
  out.raw(set.bytes);
  out.raw(payload);
  return out.take();
}

void take_apart(const std::string& name, std::string_view bytes) {
  for (const char* target : {"frame", "dump", "capi", "state"}) save(target, name, bytes);
  if (bytes.size() < wire::header_bytes + wire::footer_bytes) return;
  ByteReader footer(bytes.substr(bytes.size() - wire::footer_bytes), name);
  const uint64_t stored = footer.u32();
  if (stored > bytes.size() - wire::header_bytes - wire::footer_bytes) return;
  const uint64_t offset = bytes.size() - wire::footer_bytes - stored;
  ByteWriter directory_input;
  directory_input.u32(uint32_t(offset));
  directory_input.raw(bytes.substr(size_t(offset), size_t(stored)));
  save("directory", name, directory_input.bytes());
  wire::Directory directory;
  try {
    directory = wire::read_directory(bytes.substr(size_t(offset), size_t(stored)), offset, name);
  } catch (const Error&) {
    return;
  }
  for (const FrameDump& dump : directory.dumps)
    if (!dump.dump.attachment.empty()) {
      save("attachments", name + ".npz", "\1" + dump.dump.attachment);
      save("attachments", name + ".h5", "\2" + dump.dump.attachment);
      save("attachments", name + ".skipped", "\3" + dump.dump.attachment);
    }
  for (size_t t = 0; t < directory.tensors.size(); ++t) {
    const FrameTensor& tensor = directory.tensors[t];
    const std::string place = name + "." + std::to_string(t);
    if (!tensor.info.attachment.empty())
      save("attachments", place, std::string(1, '\0') + tensor.info.attachment);
    const wire::ParameterSet& set = directory.sets[tensor.parameter_set];
    uint64_t at = tensor.first_byte;
    for (size_t b = 0; b < tensor.block_bytes.size() && b < 4; ++b) {
      const uint64_t length = tensor.block_bytes[b];
      const std::string_view payload =
          length == 0 ? "" : bytes.substr(size_t(at) + wire::checksum_bytes, size_t(length));
      if (set.bytes.size() <= 65535 && payload.size() < 65536)
        save("block", place + "." + std::to_string(b),
             block_input(tensor.info, uint32_t(t), b, set, payload));
      if (length != 0) at += length + wire::checksum_bytes;
    }
    if (tensor.exception_bytes != 0 && tensor.block_bytes.size() == 1 && tensor.info.elements() < 65536) {
      ByteWriter record;
      record.u8(uint8_t(int(tensor.info.dtype) - 1));
      record.u16(uint16_t(tensor.nonfinite_count));
      record.u16(uint16_t(tensor.info.elements()));
      record.u8(0);
      record.raw(bytes.substr(size_t(at) + wire::checksum_bytes, size_t(tensor.exception_bytes)));
      save("exceptions", place, record.bytes());
    }
  }
}

/// What texts.cpp reads: every method and each of its options, targets, sizes, conditions.
void save_texts() {
  size_t number = 0;
  const auto add = [&](char kind, const std::string& text) {
    save("texts", std::to_string(number++), kind + text);
  };
  for (const MethodInfo* method : methods()) {
    add(0, std::string(method->name));
    for (const MethodOption& option : method->options)
      add(0, std::string(method->name) + ":" + std::string(option.name) + "=" +
                 std::string(option.default_value));
  }
  for (const char* text :
       {"ratio=32", "bpw=1.5", "bytes=10K", "nmse=1e-3", "maxabs=0.01", "hprime=0.5", "native", "ratio=-1"})
    add(1, text);
  for (const char* text : {"1", "64Ki", "3M", "2Gi", "18446744073709551615", "0x10"}) add(2, text);
  for (const char* text : {"qsgd.nmse < topk.nmse", "not (qsgd.ratio / 2 >= 1e3 or topk.nmse != -1)",
                           "qsgd:bits=4.nmse * 2 + 1 == 3 && !(topk.ratio<=1)"})
    add(3, text);
}

/// What round_trip.cpp reads: every method with each kind of target, over values that a gradient may have.
void save_round_trips() {
  constexpr size_t elements = 600;
  const size_t count = methods().size();
  for (size_t m = 0; m < count; ++m)
    for (uint8_t kind = 0; kind < 3; ++kind) {
      ByteWriter out;
      out.u8(uint8_t(m));
      out.u8(kind);
      out.u16(kind == 1 ? 100 : 3000);  // ratio 7.75, or an error of 0.046
      for (uint8_t choice : {1, 0}) out.u8(choice);
      out.u16(uint16_t(m));
      out.u16(77);
      out.u8(1);
      out.u8(29);
      for (size_t i = 0; i < elements; ++i) {
        const int wave = int(i * i * 31 % 257) - 128;
        out.f32(i % 50 == 3 ? 0.0f : float(wave) * (i % 97 == 0 ? 1.0f : 0.01f));
      }
      save("round_trip", std::string(methods()[m]->name) + "." + std::to_string(kind), out.bytes());
    }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: make_seeds OUT_FOLDER FRAMES_FOLDER...\n");
    return 2;
  }
  out_folder = argv[1];
  save_texts();
  save_round_trips();
  for (int i = 2; i < argc; ++i)
    for (const auto& entry : fs::directory_iterator(argv[i])) {
      if (entry.path().extension() != ".jsq") continue;
      std::ifstream file(entry.path(), std::ios::binary);
      const std::string bytes{std::istreambuf_iterator<char>(file), {}};
      try {
        take_apart(entry.path().stem().string(), bytes);
      } catch (const Error& error) {
        std::fprintf(stderr, "%s: %s\n", entry.path().c_str(), error.what());
      }
    }
}

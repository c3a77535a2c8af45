// Planning and writing of what decompress takes out.
#include "extraction.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <set>
#include <string_view>

#include "jsq/error.hpp"
#include "report.hpp"

namespace jsq::tools {
namespace {

constexpr uint64_t chunk_elements = uint64_t(1) << 20;

struct Ending {
  std::string_view text;
  DumpFormat format;
};
constexpr std::array<Ending, 4> endings = {{{".npy", DumpFormat::npy},
                                            {".npz", DumpFormat::npz},
                                            {".h5", DumpFormat::hdf5},
                                            {".hdf5", DumpFormat::hdf5}}};

/// A half-open range of elements.
struct Range {
  uint64_t first, last;
};

uint64_t parse_bound(std::string_view text, uint64_t missing, const std::string& slice) {
  if (text.empty()) return missing;
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    throw Error(Errc::usage,
                "--slice '" + slice + "': expected A:B, two element numbers of which either may be missing");
  return value;
}

Range parse_slice(const std::string& slice, uint64_t elements) {
  const size_t colon = slice.find(':');
  if (colon == std::string::npos)
    throw Error(Errc::usage,
                "--slice '" + slice + "': expected A:B, two element numbers of which either may be missing");
  const std::string_view text = slice;
  const Range range = {parse_bound(text.substr(0, colon), 0, slice),
                       parse_bound(text.substr(colon + 1), elements, slice)};
  if (range.first > range.last || range.last > elements)
    throw Error(Errc::usage, fmt::format("--slice '{}': expected 0 <= A <= B <= {}, the tensor's elements",
                                         slice, elements));
  return range;
}

std::vector<size_t> chosen_tensors(const FrameReader& frame, const std::vector<std::string>& names) {
  std::set<size_t> chosen;
  for (const std::string& name : names) chosen.insert(frame.find(name));
  return {chosen.begin(), chosen.end()};
}

/// The form a tensor is written in.
ExtractedTensor extracted_tensor(const FrameReader& frame, size_t index, const ExtractionOptions& options) {
  const TensorInfo& stored = frame.tensors()[index].info;
  ExtractedTensor tensor{.tensor = index, .info = stored, .count = stored.elements()};
  const DumpFormat from = frame.dumps()[frame.tensors()[index].dump].dump.format;
  const DumpFormat to = options.format.value_or(from);
  if (options.dtype && *options.dtype != stored.dtype) {
    tensor.info.dtype = *options.dtype;
    tensor.info.attachment.clear();
  }
  if (to != from) tensor.info.attachment.clear();
  // Formats with names need one; numpy's own for an array without a name.
  if (to != DumpFormat::npy && tensor.info.name.empty()) tensor.info.name = "arr_0";
  if (options.slice.empty()) return tensor;

  const Range range = parse_slice(options.slice, stored.elements());
  tensor.sliced = true;
  tensor.first = range.first;
  tensor.count = range.last - range.first;
  tensor.info.shape = {tensor.count};
  tensor.info.fortran_order = false;
  tensor.info.attachment.clear();
  return tensor;
}

void refuse_collisions(const std::vector<FrameDump>& dumps) {
  std::set<std::string> paths;
  for (const FrameDump& dump : dumps) {
    check_stored_path(dump.path);
    if (!paths.insert(dump.path).second)
      throw Error(Errc::damaged, "two dumps of the frame are stored as '" + dump.path + "'");
  }
  for (const std::string& path : paths)
    for (size_t slash = path.find('/'); slash != std::string::npos; slash = path.find('/', slash + 1))
      if (paths.contains(path.substr(0, slash)))
        throw Error(Errc::damaged, "stored path '" + path + "' goes through a dump of the frame");
}

// --- Writing
// ---------------------------------------------------------------------------------------------------------

/// Passes writes on and counts their bytes.
class CountingSink final : public GradientSink {
 public:
  CountingSink(GradientSink& sink, const ByteProgress& progress) : sink_(sink), progress_(progress) {}
  void write(size_t tensor, std::span<const std::byte> stored_le) override {
    sink_.write(tensor, stored_le);
    progress_(done_ += stored_le.size());
  }
  void finish() override { sink_.finish(); }

 private:
  GradientSink& sink_;
  const ByteProgress& progress_;
  uint64_t done_ = 0;
};

/// Stored elements of one dtype as another.
void convert(DType from, std::span<const std::byte> in, DType to, std::vector<std::byte>& out) {
  std::vector<float> values(in.size() / dtype_bytes(from));
  decode_elements(from, false, in.data(), values);
  out.resize(values.size() * dtype_bytes(to));
  encode_elements(to, values, out.data());
}

void write_converted(GradientSink& sink, size_t index, DType from, const ExtractedTensor& tensor,
                     std::span<const std::byte> stored) {
  if (tensor.info.dtype == from) return sink.write(index, stored);
  std::vector<std::byte> converted;
  convert(from, stored, tensor.info.dtype, converted);
  sink.write(index, converted);
}

/// Elements in the order they are stored in, which is the order of the slice too.
void write_run(const FrameReader& frame, const ExtractedTensor& tensor, size_t index, GradientSink& sink) {
  const DType dtype = frame.tensors()[tensor.tensor].info.dtype;
  std::vector<std::byte> stored;
  for (uint64_t done = 0; done < tensor.count; done += chunk_elements) {
    const uint64_t here = std::min(chunk_elements, tensor.count - done);
    stored.resize(size_t(here) * dtype_bytes(dtype));
    frame.read_stored(tensor.tensor, tensor.first + done, here, stored);
    write_converted(sink, index, dtype, tensor, stored);
  }
}

/// Walks a tensor in Fortran order and says where each element lies in C order.
class FortranWalk {
 public:
  explicit FortranWalk(const std::vector<uint64_t>& shape)
      : shape_(shape), index_(shape.size(), 0), stride_(shape.size(), 1) {
    for (size_t axis = shape.size(); axis-- > 1;) stride_[axis - 1] = stride_[axis] * shape[axis];
  }
  uint64_t position() const noexcept { return position_; }
  void next() noexcept {
    for (size_t axis = 0; axis < shape_.size(); ++axis) {
      position_ += stride_[axis];
      if (++index_[axis] < shape_[axis]) return;
      position_ -= stride_[axis] * shape_[axis];
      index_[axis] = 0;
    }
  }

 private:
  const std::vector<uint64_t>& shape_;
  std::vector<uint64_t> index_, stride_;
  uint64_t position_ = 0;
};

/// A slice in C order of a tensor in Fortran order: one pass over the tensor picks the slice's elements.
void write_transposed(const FrameReader& frame, const ExtractedTensor& tensor, size_t index,
                      GradientSink& sink) {
  const TensorInfo& info = frame.tensors()[tensor.tensor].info;
  const size_t bytes = dtype_bytes(info.dtype);
  std::vector<std::byte> picked(size_t(tensor.count) * bytes), stored;
  FortranWalk walk(info.shape);
  for (uint64_t done = 0; done < info.elements(); done += chunk_elements) {
    const uint64_t here = std::min(chunk_elements, info.elements() - done);
    stored.resize(size_t(here) * bytes);
    frame.read_stored(tensor.tensor, done, here, stored);
    for (size_t i = 0; i < here; ++i, walk.next()) {
      const uint64_t at = walk.position() - tensor.first;  // wraps below the slice
      if (at < tensor.count) std::copy_n(stored.data() + i * bytes, bytes, picked.data() + at * bytes);
    }
  }
  if (tensor.count > 0) write_converted(sink, index, info.dtype, tensor, picked);
}

}  // namespace

bool has_ending_of(const std::string& name, DumpFormat format) {
  return std::any_of(endings.begin(), endings.end(), [&](const Ending& ending) {
    return ending.format == format && name.ends_with(ending.text) && name.size() > ending.text.size();
  });
}

std::string with_ending_of(const std::string& name, DumpFormat format) {
  if (has_ending_of(name, format)) return name;
  const std::string wanted = "." + std::string(dump_format_name(format));
  for (const Ending& ending : endings)
    if (name.ends_with(ending.text)) return name.substr(0, name.size() - ending.text.size()) + wanted;
  return name + wanted;
}

void check_stored_path(const std::string& path) {
  const auto refuse = [&](const std::string& why) {
    throw Error(Errc::damaged, "stored path '" + path + "' " + why +
                                   "; the frame is damaged or hostile, nothing was written");
  };
  if (path.starts_with('/')) refuse("is absolute");
  if (std::any_of(path.begin(), path.end(), [](char c) { return uint8_t(c) < 0x20 || c == 0x7f; }))
    refuse("holds control characters");
  for (size_t at = 0; at <= path.size();) {
    const size_t end = std::min(path.find('/', at), path.size());
    const std::string part = path.substr(at, end - at);
    if (part.empty()) refuse("has an empty part");
    if (part == "." || part == "..") refuse("has the part '" + part + "'");
    at = end + 1;
  }
}

uint64_t ExtractedDump::stored_bytes() const {
  uint64_t total = 0;
  for (const ExtractedTensor& tensor : tensors) {
    uint64_t bytes = 0;
    const bool overflows =
        __builtin_mul_overflow(tensor.count, uint64_t(dtype_bytes(tensor.info.dtype)), &bytes) ||
        __builtin_add_overflow(total, bytes, &total);
    if (overflows) return UINT64_MAX;
  }
  return total;
}

std::vector<ExtractedDump> plan_extraction(const FrameReader& frame, const ExtractionOptions& options) {
  refuse_collisions(frame.dumps());
  const std::vector<size_t> chosen = chosen_tensors(frame, options.tensors);
  std::vector<ExtractedDump> plan;
  size_t total = 0;
  for (size_t d = 0; d < frame.dumps().size(); ++d) {
    const FrameDump& dump = frame.dumps()[d];
    const DumpFormat format = options.format.value_or(dump.dump.format);
    ExtractedDump extracted{.dump = d, .path = dump.path, .info = dump.dump};
    for (size_t t = dump.first_tensor; t < dump.first_tensor + dump.tensor_count; ++t)
      if (options.tensors.empty() || std::binary_search(chosen.begin(), chosen.end(), t))
        extracted.tensors.push_back(extracted_tensor(frame, t, options));
    if (!options.tensors.empty() && extracted.tensors.empty()) continue;

    total += extracted.tensors.size();
    extracted.info.format = format;
    const bool whole = !options.partial();
    // What surrounds the tensors is only kept where they are all there, in the same format.
    if (!whole || format != dump.dump.format) extracted.info.attachment.clear();
    if (format != dump.dump.format) extracted.path = with_ending_of(dump.path, format);
    extracted.as_stored = whole && format == dump.dump.format && !options.dtype;
    plan.push_back(std::move(extracted));
  }
  if (!options.slice.empty() && total != 1)
    throw Error(Errc::usage,
                fmt::format("--slice takes elements of one tensor, and {} are chosen; name one with --tensor",
                            total));
  return plan;
}

void write_extraction(const FrameReader& frame, const ExtractedDump& dump, const std::string& path,
                      unsigned threads, const ByteProgress& progress) {
  std::vector<TensorInfo> infos;
  for (const ExtractedTensor& tensor : dump.tensors) infos.push_back(tensor.info);
  const std::unique_ptr<GradientSink> sink = create_gradients(path, dump.info, infos);
  CountingSink counting(*sink, progress);
  if (dump.as_stored) {
    frame.write_dump(dump.dump, counting, threads);
  } else {
    for (size_t i = 0; i < dump.tensors.size(); ++i) {
      const ExtractedTensor& tensor = dump.tensors[i];
      const bool transposed = tensor.sliced && frame.tensors()[tensor.tensor].info.fortran_order;
      transposed ? write_transposed(frame, tensor, i, counting) : write_run(frame, tensor, i, counting);
    }
  }
  counting.finish();
}

}  // namespace jsq::tools

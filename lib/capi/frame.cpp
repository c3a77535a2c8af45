// The C interface's reading: open frames, their directory, their values.
#include "jsq/frame.hpp"

#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "jsq/device.hpp"
#include "lib/capi/guard.hpp"

/// C's name for an open FrameReader, and the texts that C needs to stay where they are.
struct jsq_frame {
  explicit jsq_frame(jsq::FrameReader opened) : reader(std::move(opened)), methods(reader.tensors().size()) {}

  /// Made when first asked for; NULL where the parameters that say it are damaged.
  const char* method_of(size_t tensor) const {
    const std::lock_guard lock(methods_mutex);
    std::unique_ptr<const std::string>& text = methods[tensor];
    try {
      if (!text) text = std::make_unique<const std::string>(reader.method_of(tensor));
    } catch (const jsq::Error&) {
      return nullptr;
    }
    return text->c_str();
  }

  jsq::FrameReader reader;
  std::atomic<unsigned> threads{0};

 private:
  mutable std::mutex methods_mutex;
  mutable std::vector<std::unique_ptr<const std::string>> methods;
};

namespace jsq::capi {
namespace {

constexpr size_t first_tensor_size = sizeof(jsq_tensor);

/// \throws Error usage when the frame has no tensor of this index.
const FrameTensor& tensor_at(const jsq_frame& frame, size_t index, const char* function) {
  const std::vector<FrameTensor>& tensors = frame.reader.tensors();
  if (index < tensors.size()) return tensors[index];
  throw Error(Errc::usage, std::string(function) + ": tensor " + std::to_string(index) + " of a frame with " +
                               std::to_string(tensors.size()) + "; see jsq_tensor_count");
}

/// The tensor, once it is sure that it has elements [first, first + count).
const FrameTensor& tensor_with_range(const jsq_frame& frame, size_t index, uint64_t first, uint64_t count,
                                     const char* function) {
  const FrameTensor& tensor = tensor_at(frame, index, function);
  const uint64_t elements = tensor.info.elements();
  if (first <= elements && count <= elements - first) return tensor;
  throw Error(Errc::usage, std::string(function) + ": " + std::to_string(count) + " elements from " +
                               std::to_string(first) + " on of a tensor with " + std::to_string(elements) +
                               "; see jsq_describe_tensor");
}

jsq_tensor describe(const jsq_frame& frame, size_t index) {
  const FrameTensor& tensor = tensor_at(frame, index, "jsq_describe_tensor");
  jsq_tensor described = {};
  described.name = tensor.info.name.c_str();
  described.dtype = int(tensor.info.dtype);
  described.fortran_order = tensor.info.fortran_order ? 1 : 0;
  described.rank = tensor.info.shape.size();
  described.shape = tensor.info.shape.data();
  described.elements = tensor.info.elements();
  for (uint64_t bytes : tensor.block_bytes) described.coded_bytes += bytes;
  described.method = frame.method_of(index);
  described.dump = frame.reader.dumps()[tensor.dump].path.c_str();
  return described;
}

}  // namespace
}  // namespace jsq::capi

extern "C" {

int jsq_open(const char* path, jsq_frame** frame) {
  return jsq::capi::guarded([&] {
    jsq::capi::require(path, "jsq_open", "path");
    jsq::capi::require(frame, "jsq_open", "frame");
    *frame = std::make_unique<jsq_frame>(jsq::FrameReader::open(path)).release();
  });
}

int jsq_open_memory(const void* bytes, size_t size, jsq_frame** frame) {
  return jsq::capi::guarded([&] {
    jsq::capi::require(frame, "jsq_open_memory", "frame");
    if (size > 0) jsq::capi::require(bytes, "jsq_open_memory", "bytes");
    const std::string_view view(static_cast<const char*>(bytes), size);
    *frame = std::make_unique<jsq_frame>(jsq::FrameReader::from_bytes(view)).release();
  });
}

void jsq_close(jsq_frame* frame) {
  delete frame;
}

int jsq_set_threads(jsq_frame* frame, unsigned threads) {
  return jsq::capi::guarded([&] {
    jsq::capi::require(frame, "jsq_set_threads", "frame");
    frame->threads = threads;
  });
}

int jsq_tensor_count(const jsq_frame* frame, size_t* count) {
  return jsq::capi::guarded([&] {
    jsq::capi::require(frame, "jsq_tensor_count", "frame");
    jsq::capi::require(count, "jsq_tensor_count", "count");
    *count = frame->reader.tensors().size();
  });
}

int jsq_find_tensor(const jsq_frame* frame, const char* name, size_t* index) {
  return jsq::capi::guarded([&] {
    jsq::capi::require(frame, "jsq_find_tensor", "frame");
    jsq::capi::require(name, "jsq_find_tensor", "name");
    jsq::capi::require(index, "jsq_find_tensor", "index");
    *index = frame->reader.find(name);
  });
}

int jsq_describe_tensor(const jsq_frame* frame, size_t index, jsq_tensor* tensor) {
  return jsq::capi::guarded([&] {
    jsq::capi::require(frame, "jsq_describe_tensor", "frame");
    jsq::capi::require(tensor, "jsq_describe_tensor", "tensor");
    jsq::capi::check_room(*tensor, jsq::capi::first_tensor_size, "jsq_describe_tensor", "tensor");
    jsq::capi::give_members(*tensor, jsq::capi::describe(*frame, index));
  });
}

int jsq_metadata_count(const jsq_frame* frame, size_t* count) {
  return jsq::capi::guarded([&] {
    jsq::capi::require(frame, "jsq_metadata_count", "frame");
    jsq::capi::require(count, "jsq_metadata_count", "count");
    *count = frame->reader.metadata().size();
  });
}

int jsq_metadata(const jsq_frame* frame, size_t index, const char** key, const char** value) {
  return jsq::capi::guarded([&] {
    jsq::capi::require(frame, "jsq_metadata", "frame");
    jsq::capi::require(key, "jsq_metadata", "key");
    jsq::capi::require(value, "jsq_metadata", "value");
    const auto& entries = frame->reader.metadata();
    if (index >= entries.size())
      throw jsq::Error(jsq::Errc::usage, "jsq_metadata: entry " + std::to_string(index) +
                                             " of a frame with " + std::to_string(entries.size()) +
                                             "; see jsq_metadata_count");
    *key = entries[index].first.c_str();
    *value = entries[index].second.c_str();
  });
}

int jsq_read(const jsq_frame* frame, size_t index, uint64_t first, uint64_t count, float* values) {
  return jsq::capi::guarded([&] {
    jsq::capi::require(frame, "jsq_read", "frame");
    jsq::capi::tensor_with_range(*frame, index, first, count, "jsq_read");
    if (count == 0) return;
    jsq::capi::require(values, "jsq_read", "values");
    frame->reader.read(index, first, {values, size_t(count)}, frame->threads);
  });
}

int jsq_read_device(const jsq_frame* frame, size_t index, uint64_t first, uint64_t count, float* device,
                    void* stream) {
  return jsq::capi::guarded([&] {
    jsq::capi::require(frame, "jsq_read_device", "frame");
    jsq::capi::tensor_with_range(*frame, index, first, count, "jsq_read_device");
    if (count == 0) return;
    jsq::capi::require(device, "jsq_read_device", "device");
    jsq::require_backend("cuda");
    jsq::read_to_device(frame->reader, index, first, count, device, stream);
  });
}

int jsq_read_stored(const jsq_frame* frame, size_t index, uint64_t first, uint64_t count, void* out,
                    size_t size) {
  return jsq::capi::guarded([&] {
    jsq::capi::require(frame, "jsq_read_stored", "frame");
    const jsq::FrameTensor& tensor =
        jsq::capi::tensor_with_range(*frame, index, first, count, "jsq_read_stored");
    const size_t element_bytes = jsq::dtype_bytes(tensor.info.dtype);
    if (size / element_bytes != count || size % element_bytes != 0)
      throw jsq::Error(jsq::Errc::usage, "jsq_read_stored: size is " + std::to_string(size) +
                                             " bytes; expected " + std::to_string(count) + " elements of " +
                                             std::to_string(element_bytes) + " bytes");
    if (count == 0) return;
    jsq::capi::require(out, "jsq_read_stored", "out");
    frame->reader.read_stored(index, first, count, {static_cast<std::byte*>(out), size}, frame->threads);
  });
}

}  // extern "C"

// libh5jsq: HDF5's filter for data sets whose chunks are frames. HDF5 loads it from HDF5_PLUGIN_PATH for any
// program that reads or writes such a data set. A chunk is one tensor in one frame of its own: random access
// by chunk stays, and a frame's checksums guard it. What cannot be done fails the call, with jsq's reason on
// HDF5's error stack.
#include <H5PLextern.h>
#include <hdf5.h>

#include <cstring>
#include <memory>

#include "formats/hdf5/filter/filter_parameters.hpp"
#include "jsq/jsq.h"

namespace jsq::hdf5 {
namespace {

/// From the range that HDF5 leaves for tests (256..511), until one is registered.
constexpr H5Z_filter_t filter_id = 405;

/// Leaves `reason` on HDF5's error stack; says that the call failed.
herr_t push_error(const char* function, const char* reason) {
  H5Epush2(H5E_DEFAULT, __FILE__, function, __LINE__, H5E_ERR_CLS, H5E_PLINE, H5E_CANTFILTER,
           "jsq filter: %s", reason);
  return -1;
}

void require(int code) {
  if (code != JSQ_OK) throw Error(Errc(code), jsq_last_error());
}

struct Free {
  void operator()(void* memory) const { jsq_free(memory); }
};
struct Close {
  void operator()(jsq_frame* frame) const { jsq_close(frame); }
};

using Frame = std::unique_ptr<void, Free>;

/// The frame of a chunk's bytes.
Frame encode(const FilterRequest& request, const FilterChunk& chunk, const void* bytes, size_t& frame_bytes) {
  const jsq_array array = {bytes, int(chunk.type.dtype), chunk.shape.size(), chunk.shape.data(), nullptr,
                           0,     chunk.type.big_endian};
  jsq_options options = {};
  options.size = sizeof options;
  options.method = request.method.c_str();
  options.target = request.target.empty() ? nullptr : request.target.c_str();
  options.nonfinite = "keep";
  options.threads = 1;  // HDF5 calls a filter chunk by chunk, under its lock
  void* frame = nullptr;
  require(jsq_compress(&array, 1, &options, &frame, &frame_bytes, nullptr));
  return Frame(frame);
}

void swap_bytes(std::byte* values, size_t bytes, size_t element) {
  for (size_t at = 0; at < bytes; at += element)
    for (size_t low = 0, high = element - 1; low < high; ++low, --high)
      std::swap(values[at + low], values[at + high]);
}

/// A chunk's bytes, in memory of HDF5's, from its frame.
void* decode(const FilterChunk& chunk, const void* bytes, size_t size) {
  jsq_frame* opened = nullptr;
  require(jsq_open_memory(bytes, size, &opened));
  const std::unique_ptr<jsq_frame, Close> frame(opened);
  require(jsq_set_threads(opened, 1));
  size_t tensors = 0;
  require(jsq_tensor_count(opened, &tensors));
  jsq_tensor tensor = {};
  tensor.size = sizeof tensor;
  if (tensors == 1) require(jsq_describe_tensor(opened, 0, &tensor));
  const uint64_t chunk_bytes = chunk.bytes().value();
  if (tensors != 1 || tensor.dtype != int(chunk.type.dtype) ||
      tensor.elements != chunk_bytes / dtype_bytes(chunk.type.dtype))
    throw Error(Errc::damaged,
                "the frame of a chunk holds another tensor than the data set's; the file is damaged");
  void* values = H5allocate_memory(chunk_bytes, false);
  if (values == nullptr) throw Error(Errc::limit, "no memory for a chunk");
  if (const int code = jsq_read_stored(opened, 0, 0, tensor.elements, values, chunk_bytes); code != JSQ_OK) {
    H5free_memory(values);
    require(code);
  }
  if (chunk.type.big_endian)
    swap_bytes(static_cast<std::byte*>(values), chunk_bytes, dtype_bytes(chunk.type.dtype));
  return values;
}

/// Hands HDF5 a new buffer in place of its old one.
void replace_buffer(void* made, size_t bytes, size_t* buffer_bytes, void** buffer) {
  H5free_memory(*buffer);
  *buffer = made;
  *buffer_bytes = bytes;
}

// ---- What HDF5 calls ---------------------------------------------------------------------------------

/// Whether the data set's elements are gradients.
htri_t can_apply(hid_t, hid_t type, hid_t) {
  if (tensor_type(type)) return 1;
  push_error("can_apply", "elements are not float16, bfloat16, float32 or float64; leave the filter out");
  return 0;
}

/// Gives the data set's parameters what a chunk is, and looks whether the method can be understood. HDF5
/// comes here with other elements too where the filter is optional: their chunks will be stored as they are.
herr_t set_local(hid_t list, hid_t type, hid_t) noexcept try {
  const std::optional<TensorType> element = tensor_type(type);
  if (!element) return 0;
  unsigned flags = 0;
  size_t count = 0;
  if (H5Pget_filter_by_id2(list, filter_id, &flags, &count, nullptr, 0, nullptr, nullptr) < 0) return -1;
  std::vector<unsigned> given(count);
  if (H5Pget_filter_by_id2(list, filter_id, &flags, &count, given.data(), 0, nullptr, nullptr) < 0) return -1;
  const FilterRequest request = parse_filter_parameters(given).request;

  hsize_t extents[H5S_MAX_RANK];
  const int rank = H5Pget_chunk(list, H5S_MAX_RANK, extents);
  if (rank < 0) return -1;
  FilterChunk chunk{*element, {extents, extents + rank}};

  // Most mistakes in METHOD and TARGET show with any element; that one element cannot be small is not one.
  const double zero = 0;
  size_t bytes = 0;
  try {
    encode(request, {chunk.type, {1}}, &zero, bytes);
  } catch (const Error& error) {
    if (error.code() == Errc::usage || error.code() == Errc::unknown_name) throw;
  }
  const std::vector<unsigned> kept = filter_parameters_of_data_set(request, chunk);
  return H5Pmodify_filter(list, filter_id, flags, kept.size(), kept.data());
} catch (const std::exception& error) {
  return push_error("set_local", error.what());
}

/// Codes or decodes a chunk. Returns its new size, 0 when that failed.
size_t filter(unsigned flags, size_t count, const unsigned* numbers, size_t bytes, size_t* buffer_bytes,
              void** buffer) noexcept try {
  const FilterParameters parameters = parse_filter_parameters({numbers, count});
  if (!parameters.chunk)
    throw Error(Errc::usage, "the data set does not say what its chunks are; the file is damaged");
  const uint64_t chunk_bytes = parameters.chunk->bytes().value();
  if (flags & H5Z_FLAG_REVERSE) {
    replace_buffer(decode(*parameters.chunk, *buffer, bytes), chunk_bytes, buffer_bytes, buffer);
    return chunk_bytes;
  }
  if (bytes != chunk_bytes)
    throw Error(Errc::usage, "the filter before this one changes the size of chunks; put jsq first");
  size_t frame_bytes = 0;
  const Frame frame = encode(parameters.request, *parameters.chunk, *buffer, frame_bytes);
  void* made = H5allocate_memory(frame_bytes, false);
  if (made == nullptr) throw Error(Errc::limit, "no memory for a frame");
  std::memcpy(made, frame.get(), frame_bytes);
  replace_buffer(made, frame_bytes, buffer_bytes, buffer);
  return frame_bytes;
} catch (const std::exception& error) {
  push_error("filter", error.what());
  return 0;
}

const H5Z_class2_t filter_class = {H5Z_CLASS_T_VERS,           filter_id, 1,         1,
                                   "jsq gradient compression", can_apply, set_local, filter};

}  // namespace
}  // namespace jsq::hdf5

extern "C" {
__attribute__((visibility("default"))) H5PL_type_t H5PLget_plugin_type() {
  return H5PL_TYPE_FILTER;
}
__attribute__((visibility("default"))) const void* H5PLget_plugin_info() {
  return &jsq::hdf5::filter_class;
}
}

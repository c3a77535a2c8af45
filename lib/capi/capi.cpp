// The C interface over the C++ one: checks pointers and ranges, and is the one place where exceptions become
// codes. No compression logic lives here.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "jsq/compress.hpp"
#include "jsq/doctor.hpp"
#include "jsq/error.hpp"
#include "jsq/frame.hpp"
#include "jsq/jsq.h"

/// C's name for an open FrameReader.
struct jsq_frame {
  explicit jsq_frame(jsq::FrameReader opened) : reader(std::move(opened)) {}
  jsq::FrameReader reader;
};

namespace jsq {
namespace {

static_assert(JSQ_USAGE == int(Errc::usage) && JSQ_UNKNOWN_NAME == int(Errc::unknown_name));
static_assert(JSQ_NOT_FOUND == int(Errc::not_found) && JSQ_READ_FAILED == int(Errc::read_failed));
static_assert(JSQ_UNSUPPORTED_FORMAT == int(Errc::unsupported_format));
static_assert(JSQ_UNSUPPORTED_DTYPE == int(Errc::unsupported_dtype) &&
              JSQ_NON_FINITE == int(Errc::non_finite));
static_assert(JSQ_DAMAGED == int(Errc::damaged) && JSQ_REFUSED == int(Errc::refused));
static_assert(JSQ_WRITE_FAILED == int(Errc::write_failed));
static_assert(JSQ_UNREACHABLE_TARGET == int(Errc::unreachable_target) && JSQ_LIMIT == int(Errc::limit));
static_assert(JSQ_BACKEND_UNAVAILABLE == int(Errc::backend_unavailable));
static_assert(JSQ_ASSERTION_FAILED == int(Errc::assertion_failed));
static_assert(JSQ_NEWER_FORMAT == int(Errc::newer_format) && JSQ_INTERNAL == int(Errc::internal));
static_assert(JSQ_F16 == int(DType::f16) && JSQ_BF16 == int(DType::bf16));
static_assert(JSQ_F32 == int(DType::f32) && JSQ_F64 == int(DType::f64));

/// The calling thread's message. It never allocates where memory has just run out: then a literal takes its
/// place.
class LastError {
 public:
  const char* text() const noexcept { return literal_ != nullptr ? literal_ : message_.c_str(); }
  void set_literal(const char* literal) noexcept { literal_ = literal; }
  void set(const char* message) noexcept {
    try {
      message_ = message;
      literal_ = nullptr;
    } catch (const std::bad_alloc&) {
      literal_ = "out of memory; free some and try again";
    }
  }

 private:
  std::string message_;
  const char* literal_ = nullptr;
};

thread_local LastError last_error;

/// Runs `body` and turns what it throws into a code and a message.
template <typename Body>
int guarded(Body&& body) noexcept {
  try {
    body();
    return JSQ_OK;
  } catch (const Error& error) {
    last_error.set(error.what());
    return int(error.code());
  } catch (const std::bad_alloc&) {
    last_error.set_literal("out of memory; free some, or use fewer threads");
    return JSQ_LIMIT;
  } catch (const std::exception& error) {
    last_error.set(error.what());
    return JSQ_INTERNAL;
  } catch (...) {
    last_error.set_literal("an exception of unknown type; please report it");
    return JSQ_INTERNAL;
  }
}

/// \throws Error usage when an argument that must point somewhere does not.
void require(const void* pointer, const char* function, const char* argument) {
  if (pointer != nullptr) return;
  throw Error(Errc::usage, std::string(function) + ": " + argument + " is NULL; pass a valid pointer");
}

/// One array in the caller's memory as a dump of one npy.
class ArraySource final : public GradientSource {
 public:
  explicit ArraySource(const jsq_array& array) : data_(static_cast<const std::byte*>(array.data)) {
    TensorInfo info;
    if (array.name != nullptr) info.name = array.name;
    info.dtype = checked_dtype(array.dtype);
    if (array.rank > 0) {
      require(array.shape, "jsq_compress", "array->shape");
      info.shape.assign(array.shape, array.shape + array.rank);
    }
    check_shape(info);
    if (info.elements() > 0) require(data_, "jsq_compress", "array->data");
    tensors_.push_back(std::move(info));
  }

  const DumpInfo& dump() const override { return dump_; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }

  std::span<const float> read(size_t, uint64_t first, size_t count,
                              std::vector<float>& scratch) const override {
    const std::byte* begin = stored(first);
    if (tensors_[0].dtype == DType::f32 && reinterpret_cast<uintptr_t>(begin) % alignof(float) == 0)
      return {reinterpret_cast<const float*>(begin), count};
    scratch.resize(count);
    decode_elements(tensors_[0].dtype, false, begin, scratch);
    return scratch;
  }

  void read_stored(size_t, uint64_t first, size_t count, std::byte* out) const override {
    if (count > 0) std::memcpy(out, stored(first), count * dtype_bytes(tensors_[0].dtype));
  }

 private:
  static DType checked_dtype(int dtype) {
    if (dtype >= JSQ_F16 && dtype <= JSQ_F64) return DType(dtype);
    throw Error(Errc::unsupported_dtype, "jsq_compress: array->dtype is " + std::to_string(dtype) +
                                             "; expected one of JSQ_F16, JSQ_BF16, JSQ_F32, JSQ_F64");
  }

  /// The product of the extents must count bytes that memory can hold, or be 0 by a zero extent.
  static void check_shape(const TensorInfo& info) {
    const uint64_t most = uint64_t(std::numeric_limits<ptrdiff_t>::max()) / dtype_bytes(info.dtype);
    uint64_t nonzero_product = 1;
    for (uint64_t extent : info.shape) {
      if (extent == 0) continue;
      if (extent > most / nonzero_product)
        throw Error(Errc::usage,
                    "jsq_compress: the product of array->shape is beyond what memory can hold; "
                    "give extents in elements");
      nonzero_product *= extent;
    }
  }

  const std::byte* stored(uint64_t first) const noexcept {
    return first == 0 ? data_ : data_ + first * dtype_bytes(tensors_[0].dtype);
  }

  const std::byte* data_;
  DumpInfo dump_;
  std::vector<TensorInfo> tensors_;
};

NonFinitePolicy parse_nonfinite(const char* text) {
  const std::string_view name = text;
  if (name == "error") return NonFinitePolicy::error;
  if (name == "zero") return NonFinitePolicy::zero;
  if (name == "keep") return NonFinitePolicy::keep;
  throw Error(Errc::usage, "jsq_compress: options->nonfinite is '" + std::string(name) +
                               "'; expected error, zero or keep");
}

CompressOptions compress_options(const jsq_options* given) {
  CompressOptions options;
  if (given == nullptr) return options;
  if (given->size != sizeof(jsq_options))
    throw Error(Errc::usage, "jsq_compress: options->size is " + std::to_string(given->size) +
                                 "; expected sizeof(struct jsq_options), " +
                                 std::to_string(sizeof(jsq_options)));
  if (given->method != nullptr) options.method = parse_method(given->method);
  options.target = given->target != nullptr ? parse_target(given->target) : default_target(options.method);
  if (given->nonfinite != nullptr) options.nonfinite = parse_nonfinite(given->nonfinite);
  options.seed = given->seed;
  options.threads = given->threads;
  return options;
}

/// A frame under construction in malloc'd memory, since C code frees it.
class MallocSink final : public ByteSink {
 public:
  void write(std::span<const std::byte> bytes) override {
    if (bytes.empty()) return;
    if (bytes.size() > capacity_ - size_) grow(bytes.size());
    std::memcpy(data_.get() + size_, bytes.data(), bytes.size());
    size_ += bytes.size();
  }
  size_t size() const noexcept { return size_; }
  void* release() noexcept { return data_.release(); }

 private:
  struct Free {
    void operator()(std::byte* memory) const noexcept { std::free(memory); }
  };

  void grow(size_t more) {
    const size_t capacity = std::max(size_ + more, 2 * capacity_);
    auto* moved = static_cast<std::byte*>(std::realloc(data_.get(), capacity));
    if (moved == nullptr) throw std::bad_alloc();
    (void)data_.release();
    data_.reset(moved);
    capacity_ = capacity;
  }

  std::unique_ptr<std::byte, Free> data_;
  size_t size_ = 0, capacity_ = 0;
};

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

jsq_tensor describe(const FrameTensor& tensor) {
  jsq_tensor described = {};
  described.name = tensor.info.name.c_str();
  described.dtype = int(tensor.info.dtype);
  described.fortran_order = tensor.info.fortran_order ? 1 : 0;
  described.rank = tensor.info.shape.size();
  described.shape = tensor.info.shape.data();
  described.elements = tensor.info.elements();
  for (uint64_t bytes : tensor.block_bytes) described.coded_bytes += bytes;
  return described;
}

}  // namespace
}  // namespace jsq

extern "C" {

const char* jsq_version(void) {
  return jsq::version();
}

const char* jsq_error_name(int code) {
  return code == JSQ_OK ? "ok" : jsq::error_name(static_cast<jsq::Errc>(code));
}

const char* jsq_last_error(void) {
  return jsq::last_error.text();
}

int jsq_compress(const jsq_array* array, const jsq_options* options, void** frame, size_t* size) {
  return jsq::guarded([&] {
    jsq::require(array, "jsq_compress", "array");
    jsq::require(frame, "jsq_compress", "frame");
    jsq::require(size, "jsq_compress", "size");
    const jsq::CompressOptions how = jsq::compress_options(options);
    jsq::InputDump input;
    input.path = "array.npy";
    input.source = std::make_shared<jsq::ArraySource>(*array);
    jsq::MallocSink sink;
    jsq::compress({input}, how, sink);
    *size = sink.size();
    *frame = sink.release();
  });
}

void jsq_free(void* frame) {
  std::free(frame);
}

int jsq_open(const char* path, jsq_frame** frame) {
  return jsq::guarded([&] {
    jsq::require(path, "jsq_open", "path");
    jsq::require(frame, "jsq_open", "frame");
    *frame = std::make_unique<jsq_frame>(jsq::FrameReader::open(path)).release();
  });
}

int jsq_open_memory(const void* bytes, size_t size, jsq_frame** frame) {
  return jsq::guarded([&] {
    jsq::require(frame, "jsq_open_memory", "frame");
    if (size > 0) jsq::require(bytes, "jsq_open_memory", "bytes");
    const std::string_view view(static_cast<const char*>(bytes), size);
    *frame = std::make_unique<jsq_frame>(jsq::FrameReader::from_bytes(view)).release();
  });
}

void jsq_close(jsq_frame* frame) {
  delete frame;
}

int jsq_tensor_count(const jsq_frame* frame, size_t* count) {
  return jsq::guarded([&] {
    jsq::require(frame, "jsq_tensor_count", "frame");
    jsq::require(count, "jsq_tensor_count", "count");
    *count = frame->reader.tensors().size();
  });
}

int jsq_find_tensor(const jsq_frame* frame, const char* name, size_t* index) {
  return jsq::guarded([&] {
    jsq::require(frame, "jsq_find_tensor", "frame");
    jsq::require(name, "jsq_find_tensor", "name");
    jsq::require(index, "jsq_find_tensor", "index");
    *index = frame->reader.find(name);
  });
}

int jsq_describe_tensor(const jsq_frame* frame, size_t index, jsq_tensor* tensor) {
  return jsq::guarded([&] {
    jsq::require(frame, "jsq_describe_tensor", "frame");
    jsq::require(tensor, "jsq_describe_tensor", "tensor");
    *tensor = jsq::describe(jsq::tensor_at(*frame, index, "jsq_describe_tensor"));
  });
}

int jsq_read(const jsq_frame* frame, size_t index, uint64_t first, uint64_t count, float* values) {
  return jsq::guarded([&] {
    jsq::require(frame, "jsq_read", "frame");
    jsq::tensor_with_range(*frame, index, first, count, "jsq_read");
    if (count == 0) return;
    jsq::require(values, "jsq_read", "values");
    frame->reader.read(index, first, {values, size_t(count)});
  });
}

int jsq_read_stored(const jsq_frame* frame, size_t index, uint64_t first, uint64_t count, void* out,
                    size_t size) {
  return jsq::guarded([&] {
    jsq::require(frame, "jsq_read_stored", "frame");
    const jsq::FrameTensor& tensor = jsq::tensor_with_range(*frame, index, first, count, "jsq_read_stored");
    const size_t element_bytes = jsq::dtype_bytes(tensor.info.dtype);
    if (size / element_bytes != count || size % element_bytes != 0)
      throw jsq::Error(jsq::Errc::usage, "jsq_read_stored: size is " + std::to_string(size) +
                                             " bytes; expected " + std::to_string(count) + " elements of " +
                                             std::to_string(element_bytes) + " bytes");
    if (count == 0) return;
    jsq::require(out, "jsq_read_stored", "out");
    frame->reader.read_stored(index, first, count, {static_cast<std::byte*>(out), size});
  });
}

}  // extern "C"

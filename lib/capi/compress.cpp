// The C interface's compression: arrays in, a frame in memory or in a file out. No compression logic lives
// here.
#include "jsq/compress.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdlib>

#include "kernels/cuda/user_memory.hpp"
#include "lib/capi/arrays.hpp"
#include "lib/capi/guard.hpp"
#include "lib/capi/malloc_sink.hpp"
#include "lib/core/device.hpp"
#include "lib/core/device_source.hpp"
#include "lib/core/replaced_file.hpp"

namespace jsq::capi {
namespace {

constexpr size_t first_report_size = sizeof(jsq_report);

/// Compresses into `out`, then `finish`es it; a state moves on only after that.
template <typename Finish>
void run(const jsq_array* arrays, size_t count, const jsq_options* options, jsq_report* report,
         const char* function, ByteSink& out, const Finish& finish) {
  if (report != nullptr) check_room(*report, first_report_size, function, "report");
  CompressOptions how = compress_options(options, function);
  how.measure = report != nullptr;
  const InputDump input = input_of(arrays, count, options, function);
  State* const kept = how.state;
  State next;
  if (kept != nullptr) {
    next = *kept;
    how.state = &next;
  }
  const CompressReport result = jsq::compress({input}, how, out);
  finish();
  if (kept != nullptr) *kept = std::move(next);
  if (report != nullptr) give_members(*report, report_of(result));
}

/// The arrays, whose data are device pointers, as the dump that they would be in host memory.
InputDump device_input_of(const jsq_array* arrays, size_t count, const jsq_options* options, void* stream,
                          const char* function) {
  InputDump input = input_of(arrays, count, options, function);
  std::vector<DeviceTensor> tensors;
  for (size_t i = 0; i < count; ++i) tensors.push_back({input.source->tensors()[i], arrays[i].data});
  require_backend("cuda");
  auto source = std::make_shared<DeviceSource>(std::move(tensors), input.source->dump());
  on_device([&] { cuda::wait_for(stream); });
  input.source = std::move(source);
  return input;
}

}  // namespace
}  // namespace jsq::capi

extern "C" {

int jsq_compress(const jsq_array* arrays, size_t count, const jsq_options* options, void** frame,
                 size_t* size, jsq_report* report) {
  return jsq::capi::guarded([&] {
    jsq::capi::require(frame, "jsq_compress", "frame");
    jsq::capi::require(size, "jsq_compress", "size");
    jsq::capi::MallocSink sink;
    jsq::capi::run(arrays, count, options, report, "jsq_compress", sink, [] {});
    *size = sink.size();
    *frame = sink.release();
  });
}

int jsq_compress_file(const jsq_array* arrays, size_t count, const jsq_options* options, const char* path,
                      jsq_report* report) {
  return jsq::capi::guarded([&] {
    jsq::capi::require(path, "jsq_compress_file", "path");
    jsq::ReplacedFile file(path);
    jsq::FileSink sink(file.descriptor(), path);
    jsq::capi::run(arrays, count, options, report, "jsq_compress_file", sink, [&] { file.commit(); });
  });
}

int jsq_compress_device(const jsq_array* arrays, size_t count, const jsq_options* options, void* stream,
                        void** frame, size_t* size, jsq_report* report) {
  return jsq::capi::guarded([&] {
    constexpr const char* function = "jsq_compress_device";
    jsq::capi::require(frame, function, "frame");
    jsq::capi::require(size, function, "size");
    if (report != nullptr) jsq::capi::check_room(*report, jsq::capi::first_report_size, function, "report");
    jsq::CompressOptions how = jsq::capi::compress_options(options, function);
    how.backend = jsq::Backend::cuda;
    how.measure = report != nullptr;
    if (how.state != nullptr)
      throw jsq::Error(jsq::Errc::usage, std::string(function) +
                                             ": options->state is set; expected NULL, since feedback "
                                             "is kept in host memory: use jsq_compress");
    const jsq::InputDump input = jsq::capi::device_input_of(arrays, count, options, stream, function);
    jsq::capi::MallocSink sink;
    const jsq::CompressReport result = jsq::compress({input}, how, sink);
    if (report != nullptr) jsq::capi::give_members(*report, jsq::capi::report_of(result));
    *size = sink.size();
    *frame = sink.release();
  });
}

int jsq_copy_to_device(const void* bytes, size_t size, void* device, void* stream) {
  return jsq::capi::guarded([&] {
    if (size == 0) return;
    jsq::capi::require(bytes, "jsq_copy_to_device", "bytes");
    jsq::capi::require(device, "jsq_copy_to_device", "device");
    jsq::require_backend("cuda");
    jsq::copy_to_device({static_cast<const char*>(bytes), size}, device, stream);
  });
}

void jsq_free(void* memory) {
  std::free(memory);
}

}  // extern "C"

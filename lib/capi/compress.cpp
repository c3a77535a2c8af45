// The C interface's compression: arrays in, a frame in memory or in a file out. No compression logic lives
// here.
#include "jsq/compress.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdlib>

#include "lib/capi/arrays.hpp"
#include "lib/capi/guard.hpp"
#include "lib/capi/malloc_sink.hpp"
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

void jsq_free(void* memory) {
  std::free(memory);
}

}  // extern "C"

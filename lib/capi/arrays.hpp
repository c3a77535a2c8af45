// Arrays in the memory of a C caller as a dump, and the caller's options and the report as those of the C++
// interface.
#pragma once

#include "jsq/compress.hpp"
#include "jsq/jsq.h"
#include "jsq/state.hpp"

/// C's name for a State.
struct jsq_state {
  jsq::State state;
};

namespace jsq::capi {

/// The arrays as one dump, which reads them where they lie. Their memory must outlive it. \throws Error usage
/// (NULLs, names that occur twice, shapes beyond memory, an options->dump that cannot hold them),
/// unsupported_dtype.
InputDump input_of(const jsq_array* arrays, size_t count, const jsq_options* options, const char* function);

/// \throws Error usage, unknown_name.
CompressOptions compress_options(const jsq_options* options, const char* function);

/// What a compression came to, in C's structure; its size is the caller's to set.
jsq_report report_of(const CompressReport& report);

}  // namespace jsq::capi

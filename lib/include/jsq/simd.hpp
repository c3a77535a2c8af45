// SIMD levels of the processor's kernels. The best one that the processor has is used unless another is asked
// for, for measurements and for tests: results do not depend on it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "jsq/export.hpp"

namespace jsq {

/// Names of the levels that were compiled in, best first: on x86-64 avx512 avx2 sse4 ssse3 scalar.
JSQ_API std::vector<std::string> simd_level_names();

/// Makes all kernels of the process use one level; "auto": the best usable one, as at the start. Same bytes
/// and values at each. Not while another thread compresses or decompresses. \throws Error unknown_name;
/// backend_unavailable for a level that this processor does not have.
JSQ_API void use_simd(std::string_view name);

}  // namespace jsq

// Which SIMD levels were compiled in, which this processor has, and which one the kernels use.
#pragma once

#include <string>
#include <vector>

namespace jsq::cpu {

struct SimdLevel {
  std::string name;  ///< "avx512", "avx2", "sse4", "ssse3", "scalar"; on other processors Highway's names
  bool usable = false;
};
/// Compiled levels, best first; the last one, scalar, is usable everywhere.
std::vector<SimdLevel> simd_levels();

/// Makes every kernel use this level from now on, in all threads; "auto": the best usable one, as at the
/// start. Results do not depend on it.  \return false, and nothing changes, where no usable level has this
/// name.
bool use_simd_level(const std::string& name);

}  // namespace jsq::cpu

// Which SIMD levels were compiled in and which this processor has.
#pragma once

#include <string>
#include <vector>

namespace jsq::cpu {

struct SimdLevel {
  std::string name;
  bool usable = false;
};
/// Compiled levels, best first.
std::vector<SimdLevel> simd_levels();

}  // namespace jsq::cpu

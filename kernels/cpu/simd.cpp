#include "kernels/cpu/simd.hpp"

#include <hwy/highway.h>
#include <hwy/targets.h>

namespace jsq::cpu {

std::vector<SimdLevel> simd_levels() {
  std::vector<SimdLevel> levels;
  const auto supported = uint64_t(hwy::SupportedTargets());
  for (uint64_t bit = 1; bit; bit <<= 1)
    if (uint64_t(HWY_TARGETS) & bit) levels.push_back({hwy::TargetName(decltype(HWY_TARGETS)(bit)), (supported & bit) != 0});
  return levels;
}

}  // namespace jsq::cpu

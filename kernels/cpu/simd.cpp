// The choice of Highway's target. Highway's own is in a shared library whose start measures the processor's
// clock for a quarter of the time that `jsq --version` takes, so the two functions that its headers ask for
// are here.
#include "kernels/cpu/simd.hpp"

#include <hwy/highway.h>
#include <hwy/targets.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <cstdint>
#include <utility>

#if HWY_ARCH_X86
#include <cpuid.h>
#endif

namespace jsq::cpu {
namespace {

/// Highway's lowest levels, which every processor of the build's architecture has.
constexpr int64_t everywhere = HWY_SCALAR | HWY_EMU128 | HWY_STATIC_TARGET;

#if HWY_ARCH_X86
/// Half-precision conversions and leading-zero counts, which older compilers' __builtin_cpu_supports does not
/// know.
bool has_f16c_and_lzcnt() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned f16c = 1U << 29, lzcnt = 1U << 5;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & f16c)) return false;
  return __get_cpuid(0x80000001, &a, &b, &c, &d) && (c & lzcnt);
}

/// What the processor and the system support: the features that Highway compiles each of its targets with.
int64_t supported() {
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("ssse3")) return everywhere;
  int64_t targets = everywhere | HWY_SSSE3;
  if (!__builtin_cpu_supports("sse4.2") || !__builtin_cpu_supports("pclmul") ||
      !__builtin_cpu_supports("aes"))
    return targets;
  targets |= HWY_SSE4;
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("bmi") || !__builtin_cpu_supports("bmi2") ||
      !__builtin_cpu_supports("fma") || !has_f16c_and_lzcnt())
    return targets;
  targets |= HWY_AVX2;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw"))
    targets |= HWY_AVX3;
  return targets;
}
#else
int64_t supported() {
  return everywhere;
}
#endif

/// 0: the best.
std::atomic<int64_t> forced = 0;

std::string name_of(int64_t target) {
  if (target == HWY_AVX3) return "avx512";
  if (target == HWY_SCALAR || target == HWY_EMU128) return "scalar";
  std::string name = hwy::TargetName(decltype(HWY_TARGETS)(target));
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char letter) { return char(std::tolower(letter)); });
  return name;
}

std::vector<std::pair<int64_t, SimdLevel>> compiled_levels() {
  const int64_t usable = supported();
  std::vector<std::pair<int64_t, SimdLevel>> levels;
  for (uint64_t rest = uint64_t(HWY_TARGETS); rest; rest &= rest - 1) {
    const auto target = int64_t(rest & (~rest + 1));
    levels.push_back({target, {name_of(target), (usable & target) != 0}});
  }
  return levels;
}

}  // namespace

std::vector<SimdLevel> simd_levels() {
  std::vector<SimdLevel> levels;
  for (auto& [target, level] : compiled_levels()) levels.push_back(std::move(level));
  return levels;
}

bool use_simd_level(const std::string& name) {
  const auto use = [](int64_t target) {
    forced = target;
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    return true;
  };
  if (name == "auto") return use(0);
  for (const auto& [target, level] : compiled_levels())
    if (level.usable && level.name == name) return use(target);
  return false;
}

}  // namespace jsq::cpu

namespace hwy {

int64_t SupportedTargets() {
  const int64_t target = jsq::cpu::forced;
  return target ? target : jsq::cpu::supported();
}

ChosenTarget& GetChosenTarget() {
  static ChosenTarget chosen;
  return chosen;
}

}  // namespace hwy

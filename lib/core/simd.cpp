// SIMD levels by name, with the reason where one cannot be used.
#include "jsq/simd.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "jsq/error.hpp"
#include "kernels/cpu/simd.hpp"

namespace jsq {

std::vector<std::string> simd_level_names() {
  std::vector<std::string> names;
  for (const cpu::SimdLevel& level : cpu::simd_levels()) names.push_back(level.name);
  return names;
}

void use_simd(std::string_view name) {
  if (cpu::use_simd_level(std::string(name))) return;
  const std::vector<std::string> names = simd_level_names();
  if (std::find(names.begin(), names.end(), name) == names.end())
    throw Error(Errc::unknown_name,
                fmt::format("SIMD level '{}' is unknown; expected auto, {}", name, fmt::join(names, ", ")));
  throw Error(
      Errc::backend_unavailable,
      fmt::format(
          "SIMD level '{}' is not on this processor; use auto, or a level that jsq doctor calls usable",
          name));
}

}  // namespace jsq

// What options and context ask of rdoq's encoder.
#pragma once

#include <cstdint>
#include <optional>

#include "lib/methods/method.hpp"
#include "lib/methods/options.hpp"

namespace jsq {

enum class RdoqPreset : uint8_t { fast, balanced, best };
enum class RdoqTransforming : uint8_t { none, dct, lowrank, automatic };

struct RdoqSettings {
  RdoqPreset preset = RdoqPreset::balanced;
  RdoqTransforming transforming = RdoqTransforming::automatic;
  bool dependent_levels = false;   ///< at every rate and size
  bool dependent_by_rate = false;  ///< where they save much and take little time
  std::optional<double> lambda;    ///< weight of a bit in squared steps, where it is given
  std::optional<uint64_t> dither;  ///< stream of random numbers, with stochastic rounding

  /// Whether a pool of so many elements has dependent levels at so many bits an element.
  bool takes_dependent(uint64_t elements, double rate) const;
};

inline constexpr MethodOption rdoq_options[] = {
    {"preset", "fast|default|best", "default", "how much time the encoder may take"},
    {"transform", "none|dct|lowrank|auto|preset", "preset",
     "of kernels and matrices; auto chooses for each tensor by what it saves; preset: none with "
     "preset=fast, otherwise auto"},
    {"levels", "independent|dependent|preset", "preset",
     "dependent: levels of two quantizers, chosen along paths of least error and bits: 4 to 8 % fewer bytes, "
     "several times the time; preset: dependent with preset=best, and by default in pools of 2^12 to 2^19 "
     "elements at 1 to 8 bits an element, otherwise independent"},
    {"lambda", "auto|0..1", "auto", "weight of a bit in squared steps; auto takes the best of several"},
};

/// \throws Error usage.
RdoqSettings read_rdoq_settings(const MethodSpec& spec, const EncoderContext& context);

}  // namespace jsq

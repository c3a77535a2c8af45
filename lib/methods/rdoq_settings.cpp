#include "lib/methods/rdoq_settings.hpp"

#include <string_view>
#include <utility>

namespace jsq {
namespace {

constexpr std::pair<std::string_view, RdoqPreset> presets[] = {
    {"fast", RdoqPreset::fast}, {"default", RdoqPreset::balanced}, {"best", RdoqPreset::best}};

enum class Levels : uint8_t { independent, dependent, by_preset };
constexpr std::pair<std::string_view, Levels> level_kinds[] = {
    {"independent", Levels::independent}, {"dependent", Levels::dependent}, {"preset", Levels::by_preset}};

using Transforming = std::optional<RdoqTransforming>;  // nothing: by the preset
constexpr std::pair<std::string_view, Transforming> transformings[] = {{"none", RdoqTransforming::none},
                                                                       {"dct", RdoqTransforming::dct},
                                                                       {"lowrank", RdoqTransforming::lowrank},
                                                                       {"auto", RdoqTransforming::automatic},
                                                                       {"preset", std::nullopt}};

// Of a few values tables take more, below a bit an element too few levels are left to decide a path, and far
// above eight bits paths take long for nothing.
constexpr uint64_t least_by_rate = uint64_t(1) << 12, most_by_rate = uint64_t(1) << 19;
constexpr double least_rate = 1, most_rate = 8.01;

}  // namespace

RdoqSettings read_rdoq_settings(const MethodSpec& spec, const EncoderContext& context) {
  const OptionReader read(spec);
  RdoqSettings result;
  result.preset = read.choice("preset", presets);
  result.transforming =
      read.choice("transform", transformings)
          .value_or(result.preset == RdoqPreset::fast ? RdoqTransforming::none : RdoqTransforming::automatic);
  const Levels levels = read.choice("levels", level_kinds);
  result.dependent_levels =
      levels == Levels::by_preset ? result.preset == RdoqPreset::best : levels == Levels::dependent;
  result.dependent_by_rate = levels == Levels::by_preset && result.preset == RdoqPreset::balanced;
  if (!read.is("lambda", "auto")) result.lambda = read.number("lambda", 0, 1, "auto or a number of 0..1");
  if (context.rounding == Rounding::stochastic) {
    // Levels that are random on their own: no paths, and no predictions whose integers round.
    result.dither = context.stream;
    result.dependent_levels = result.dependent_by_rate = false;
    result.transforming = RdoqTransforming::none;
  }
  return result;
}

bool RdoqSettings::takes_dependent(uint64_t elements, double rate) const {
  return dependent_levels || (dependent_by_rate && rate >= least_rate && rate <= most_rate &&
                              elements >= least_by_rate && elements <= most_by_rate);
}

}  // namespace jsq

// What transforms are worth on a dump: the spectrum of every layer, and what each transform of rdoq saves of
// the bytes that none takes at the target, at the error of that: real frames, no estimates.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "jsq/frame.hpp"
#include "jsq/spectrum.hpp"

namespace jsq::tools {

/// The values of rdoq's option, "none" first.
constexpr std::array<std::string_view, 4> studied_transforms = {"none", "dct", "lowrank", "auto"};

struct LayerTransforms {
  std::string tensor;
  LayerSpectrum spectrum;
  double energy_share = 0;  ///< of the dump
  LayerCoding chosen;       ///< with transform=auto
  /// Of factors, scales and levels, by studied transform; nothing where the transform was not coded.
  std::array<std::optional<double>, studied_transforms.size()> bits;
};

struct TransformStudy {
  std::string target;
  double nmse = 0;  ///< of transform=none at the target; the others have at most that
  std::array<std::optional<uint64_t>, studied_transforms.size()> bytes;  ///< of the file
  std::vector<LayerTransforms> layers;
  std::string problem;  ///< why there is nothing: the target is not reachable

  /// Share of the bytes of none that the transform saves.
  std::optional<double> saved(size_t transform) const;
};

/// The text of a layer's transform: "none", "dct", "lowrank", "dct+lowrank".
std::string transform_name(const LayerCoding& layer);

/// Codes the dump once for each transform; `options` without a method.  \throws Error as compress does, but
/// unreachable_target.
TransformStudy study_transforms(const InputDump& input, const CompressOptions& options,
                                const std::vector<LayerSpectrum>& spectra);

}  // namespace jsq::tools

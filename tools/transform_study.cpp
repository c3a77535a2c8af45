// Real frames for every transform, the first at the target and the others at its error.
#include "transform_study.hpp"

#include "jsq/error.hpp"
#include "round_trip.hpp"

namespace jsq::tools {
namespace {

/// A coded dump, and what its layers take, tensor by tensor.
struct Coded {
  uint64_t bytes = 0;
  double nmse = 0;
  std::vector<LayerCoding> layers;
};

Coded code(const InputDump& input, CompressOptions options, std::string_view transform,
           const Target& target) {
  options.method = parse_method("rdoq:transform=" + std::string(transform));
  options.target = target;
  MemorySink sink;
  const CompressReport report = compress({input}, options, sink);
  Coded coded{sink.bytes.size(), report.distortion.nmse(), {}};
  const FrameReader frame = FrameReader::from_bytes(sink.bytes);
  for (size_t t = 0; t < frame.tensors().size(); ++t) {
    const std::optional<TensorCoding> coding = frame.coding_of(t);
    if (coding) coded.layers.insert(coded.layers.end(), coding->layers.begin(), coding->layers.end());
  }
  return coded;
}

}  // namespace

std::string transform_name(const LayerCoding& layer) {
  if (layer.rank > 0) return layer.cosine ? "dct+lowrank" : "lowrank";
  return layer.cosine ? "dct" : "none";
}

std::optional<double> TransformStudy::saved(size_t transform) const {
  if (!bytes.front() || !bytes[transform]) return {};
  return 1 - double(*bytes[transform]) / double(*bytes.front());
}

TransformStudy study_transforms(const InputDump& input, const CompressOptions& options,
                                const std::vector<LayerSpectrum>& spectra) {
  TransformStudy study;
  study.target = to_string(options.target);
  double energy = 0;
  for (const LayerSpectrum& spectrum : spectra) energy += spectrum.energy;
  for (const LayerSpectrum& spectrum : spectra) {
    LayerTransforms layer{input.source->tensors()[spectrum.tensor].name, spectrum, 0, {}, {}};
    layer.energy_share = energy > 0 ? spectrum.energy / energy : 0;
    study.layers.push_back(std::move(layer));
  }
  for (size_t j = 0; j < studied_transforms.size(); ++j) {
    try {
      const bool first = j == 0;
      const Coded coded = code(input, options, studied_transforms[j],
                               first ? options.target : Target{TargetKind::nmse, study.nmse});
      if (first) study.nmse = coded.nmse;
      study.bytes[j] = coded.bytes;
      for (size_t l = 0; l < study.layers.size() && l < coded.layers.size(); ++l) {
        const LayerCoding& layer = coded.layers[l];
        study.layers[l].bits[j] = layer.factor_bits + layer.scale_bits + layer.residual_bits;
        study.layers[l].chosen = layer;
      }
    } catch (const Error& error) {
      if (error.code() != Errc::unreachable_target) throw;
      study.problem = error.what();
      if (j == 0) return study;
    }
    // An exact copy leaves no error to hold the others to.
    if (study.nmse == 0) return study;
  }
  return study;
}

}  // namespace jsq::tools

// Spectra by two subspace iterations over the matrices that rdoq would predict.
#include "jsq/spectrum.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "lib/methods/rdoq_factors.hpp"
#include "lib/methods/rdoq_stage.hpp"
#include "lib/transforms/subspace.hpp"

namespace jsq {
namespace {

std::vector<PoolTensor> pool_tensors(const InputDump& input) {
  std::vector<size_t> chosen = input.tensors;
  if (input.all) {
    chosen.resize(input.source->tensors().size());
    std::iota(chosen.begin(), chosen.end(), size_t(0));
  }
  std::vector<PoolTensor> tensors;
  for (const size_t t : chosen) {
    PoolTensor tensor;
    tensor.source = input.source.get();
    tensor.tensor = t;
    tensor.info = &input.source->tensors()[t];
    tensor.number = uint32_t(tensors.size());
    tensor.drop_nonfinite = true;
    if (const auto layers = input.layers.find(t); layers != input.layers.end())
      tensor.layers = layers->second;
    tensors.push_back(tensor);
  }
  return tensors;
}

double energy_of(const TensorPool& pool, size_t t, uint64_t first, uint64_t count) {
  constexpr uint64_t at_once = 65536;
  double energy = 0;
  std::vector<float> scratch;
  for (uint64_t at = 0; at < count; at += at_once)
    for (const float g : pool.read(t, first + at, size_t(std::min(at_once, count - at)), scratch))
      energy += double(g) * double(g);
  return energy;
}

/// In no cosine domain: that turns lines, and singular values stay what they are.
std::vector<double> shares_of(const TensorPool& pool, const PoolSite& site, double energy,
                              uint32_t directions) {
  PartLines lines(pool, site.t, site.first, site.site, false);
  lines.keep();
  const Subspace found = leading_subspace(
      lines, {.rank = std::min<uint32_t>(directions, 64),
              .iterations = 2,
              .first = 64,
              .scale = near_one(std::sqrt(energy / double(lines.lines() * lines.columns())))});
  std::vector<double> shares;
  for (const double singular : found.singular) shares.push_back(std::min(1.0, singular * singular / energy));
  return shares;
}

}  // namespace

std::vector<LayerSpectrum> layer_spectra(const InputDump& input, uint32_t directions) {
  const TensorPool pool(pool_tensors(input), HistogramPass::when_asked);
  const std::vector<PoolSite> sites = pool_sites(pool);
  std::vector<LayerSpectrum> spectra;
  auto site = sites.begin();
  for (size_t t = 0; t < pool.tensors().size(); ++t) {
    const PoolTensor& tensor = pool.tensors()[t];
    const TensorParts parts = tensor.layers.empty() ? parts_of(*tensor.info) : parts_of(tensor.layers);
    for (size_t p = 0; p < parts.views.size(); ++p) {
      const uint64_t elements = parts.views[p].rows * parts.views[p].row_elements();
      LayerSpectrum spectrum{
          tensor.tensor, p, tensor.layers.empty() ? tensor.info->shape : tensor.layers[p], 0, {}};
      spectrum.energy = energy_of(pool, t, parts.first[p], elements);
      if (site != sites.end() && site->t == t && site->first == parts.first[p]) {
        if (site->site.view.rows * site->site.view.inner + site->site.view.columns <= most_factored &&
            spectrum.energy > 0)
          spectrum.shares = shares_of(pool, *site, spectrum.energy, directions);
        ++site;
      }
      spectra.push_back(std::move(spectrum));
    }
  }
  return spectra;
}

}  // namespace jsq

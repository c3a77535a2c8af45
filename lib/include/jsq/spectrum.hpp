// The spectrum of a layer: how much of its energy its leading directions hold, which is what low-rank
// prediction lives from.
#pragma once

#include <cstdint>
#include <vector>

#include "jsq/compress.hpp"
#include "jsq/export.hpp"

namespace jsq {

/// One layer, as the matrix that rdoq predicts: rows by columns, of a convolution [in, out k k].
struct JSQ_API LayerSpectrum {
  size_t tensor = 0;            ///< index in the source
  size_t layer = 0;             ///< of the tensor
  std::vector<uint64_t> shape;  ///< of the layer
  double energy = 0;            ///< sum g^2 of the finite elements
  /// Shares of the energy that single directions hold, the largest first: squared singular values over their
  /// sum. Empty where there is no matrix, no energy, or more elements than are held in memory (2^25).
  std::vector<double> shares;
};

/// Spectra of all layers of the dump's chosen tensors, of up to `directions` directions (at most 64), by two
/// subspace iterations: leading ones are near the exact ones, the last ones up to some percent below where
/// the spectrum is flat. One layer in memory. Non-finite elements count as zero. Independent of the number of
/// threads. \throws Error read_failed, damaged.
JSQ_API std::vector<LayerSpectrum> layer_spectra(const InputDump& input, uint32_t directions = 64);

}  // namespace jsq

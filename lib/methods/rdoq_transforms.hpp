// Transforms of rdoq's parts: what a parameter set stores of them, and how decoders undo them, in integers.
// SPEC.md, "Transforms", is the definition. What the encoder does with them is in rdoq_stage.hpp.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/element/part_transform.hpp"
#include "lib/packers/context_stream.hpp"
#include "lib/packers/scale_field.hpp"
#include "lib/transforms/integer_factors.hpp"
#include "lib/transforms/kernel_dct.hpp"

namespace jsq {

using Shape = std::vector<uint64_t>;

/// (tensor number, part)
using PartPlace = std::pair<uint32_t, uint32_t>;

/// A part that may have a transform: its view and the extents of its kernels (empty for matrices).
struct TransformSite {
  PartPlace place;
  ScaleView view;
  Shape kernel;
  bool takes_dct() const { return KernelDct::applies(kernel); }
};
/// The site of a part of this shape; none where the view is no matrix, or has no transform.
std::optional<TransformSite> transform_site(PartPlace place, std::span<const uint64_t> shape,
                                            bool fortran_order);

/// What a unit of factors is in steps, times 16, by stored index; against the frame's unit.
constexpr uint32_t kappas16[16] = {8, 13, 16, 19, 24, 30, 38, 48, 60, 76, 90, 112, 140, 176, 215, 255};

/// A low-rank prediction as it is stored. Its matrix has a row for each column of the view and a column for
/// each row and place in the kernel: rows = view.columns, columns = view.rows view.inner.
struct PartFactors {
  uint32_t kappa = 0;      ///< index into kappas16
  IntegerFactors factors;  ///< of rank 1..most_rank; its kappa20 is not used
};

/// One part's transform, ready to be undone.
class PartTransform {
 public:
  PartTransform() = default;
  /// With `frequencies` (view.inner entries) kernels are in the cosine domain; with `factors` predicted.
  /// Either may be null. \pre the site takes the DCT where there are frequencies
  PartTransform(const TransformSite& site, std::shared_ptr<const std::vector<int16_t>> frequencies,
                std::shared_ptr<const PartFactors> factors);

  /// The same with other frequencies.  \pre there are some
  PartTransform with_frequencies(std::vector<int16_t> frequencies) const;

  bool any() const { return dct_ || factors_; }
  const std::optional<KernelDct>& dct() const { return dct_; }
  const PartFactors* factors() const { return factors_.get(); }
  /// Of factors that are prepared; null without factors. The first call makes it: most plans are estimated
  /// and never coded.  Thread-safe.
  const FactorPrediction* prediction() const;
  /// Offsets of the scales of an element's place in its kernel, in half octaves; empty without DCT.
  std::span<const int16_t> frequencies() const {
    return frequencies_ ? std::span<const int16_t>(*frequencies_) : std::span<const int16_t>();
  }

  /// Predictions are in 1/256 of `step` from now on, factors being in kappas of `unit`. False where that is
  /// impossible.
  bool prepare(const Reconstruction& unit, const Reconstruction& step);
  /// Whole kernels of the part, from its element `first` on, become what is coded of them. \pre prepare() for
  /// this step, where there are factors
  void forward(const ScaleView& view, uint64_t first, double step, std::span<const float> values,
               std::span<float> out) const;
  /// The other way, for a piece: decoded elements are integers in 1/256 of the step, and become values.
  void invert(const Piece& piece, const Reconstruction& step, std::span<float> values) const;

 private:
  /// Of one kappa.
  struct Prediction {
    uint32_t kappa20 = 0;
    std::once_flag once;
    FactorPrediction made;
  };
  void predict(uint64_t row, uint64_t column, double factor, const cpu::Planes& planes) const;

  std::optional<KernelDct> dct_;
  std::shared_ptr<const std::vector<int16_t>> frequencies_;  ///< parts may share them
  std::shared_ptr<const PartFactors> factors_;
  std::shared_ptr<Prediction> prediction_;
};

struct Transforms {
  std::map<PartPlace, PartTransform> parts;
  uint16_t unit_mantissa = 32768;  ///< unit of factors: m 2^e
  int16_t unit_exponent = -15;

  bool empty() const { return parts.empty(); }
  const PartTransform* find(uint32_t tensor, size_t part) const;
  /// Whether any part of the tensor has factors.
  bool predicts(uint32_t tensor) const;
  Reconstruction unit() const;
  /// PartTransform::prepare of all.
  bool prepare(const Reconstruction& step);
};

/// Elements of a piece that belong to kernels which lie whole in it, as [begin, end) of the piece.
std::pair<size_t, size_t> whole_kernels(const Piece& piece);

/// Bits of one part's factors, coded alone.
double factor_bits(const PartFactors& stored);

/// Ideal code lengths of one part's transform.
struct TransformBits {
  double frequencies = 0, factors = 0;  ///< the choice and the unit of factors are in neither
};
/// The transforms of the sites, as one context stream without elements.
std::string write_transforms(const ContextCoder& coder, std::span<const TransformSite> sites,
                             const Transforms& transforms);
/// What each site's part takes of it.
std::vector<TransformBits> transform_bits(std::span<const TransformSite> sites, const Transforms& transforms);
/// Not prepared.  \throws Error damaged.
Transforms read_transforms(const ContextCoder& coder, std::span<const TransformSite> sites,
                           std::string_view stream, std::string_view what);

/// The same tables with values in 1/256 step: a level decodes to its points.
Reconstruction in_units(const Reconstruction& values);
using element::most_units;
/// x step / 256 of elements that are integers x, cut to most_units.
void finish_units(const Reconstruction& step, std::span<float> values);

}  // namespace jsq

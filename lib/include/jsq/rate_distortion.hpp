// The least error that any code of a given size can have: the rate-distortion function of a dump's values
// under squared error (Shannon 1959), for three models of what the decoder knows for free. It judges results;
// nothing encodes with it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "jsq/compress.hpp"
#include "jsq/export.hpp"

namespace jsq {

/// Magnitudes in bins of bits(|g|) >> 19: an exponent and four bits of mantissa, 16 bins an octave. Signs are
/// taken as fair coins that are independent of everything.
struct JSQ_API MagnitudeHistogram {
  struct Bin {
    uint32_t index = 0;  ///< 0..4079
    double members = 0;  ///< above 0; need not be whole, for a known distribution
    double energy = 0;   ///< sum of g^2 over the members
  };
  double zeros = 0;       ///< elements that are exactly zero
  std::vector<Bin> bins;  ///< ascending index, each once

  double elements() const noexcept;
  double energy() const noexcept;
};
/// The smallest magnitude of a bin; of index 4080: infinity.
JSQ_API double magnitude_bin_edge(uint32_t index) noexcept;
/// Histogram of the finite ones of `values`. O(n).
JSQ_API MagnitudeHistogram magnitude_histogram(std::span<const float> values);

/// What the elements are taken to be draws from. Each model knows more than the one before and its bound is
/// lower.
enum class SourceModel : uint8_t {
  pooled,   ///< one distribution for all elements
  tensors,  ///< one for each tensor; the rate is shared out at one slope (reverse water-filling)
  scales,   ///< one for each half octave of r_i c_j, the scales of an element's row and column
};
/// "pooled", "tensors", "scales".
JSQ_API std::string_view source_model_name(SourceModel model) noexcept;

/// R(D) of a memoryless source that is a mixture of known parts: each element belongs to a part, the decoder
/// knows to which, and draws its value from the part's distribution. A part is the smoothed histogram of its
/// elements: a bin's members are spread evenly over its width, exact zeros stay one atom.
///
/// How much it proves. The answers come from a feasible point of the dual problem (Blahut 1972; Csiszar
/// 1974), so for the smoothed source they are lower bounds on error and size, not estimates, up to the grid
/// on which the dual constraint is verified: a fourteenth of the noise's standard deviation, refined to the
/// peak between grid points; the gap to the primal value, error_of_answers(), is some 5e-4 of the error. For
/// the dump itself they are estimates in two ways: the histograms are taken from the values that they judge
/// (a code would pay for describing them), and a code may use dependence that the model does not have, or
/// values that repeat. A result below the bound is no contradiction; it shows structure that the model leaves
/// out.
///
/// Copies share what was computed, and an answer uses all of it: asked again after other queries it may be
/// higher (nearer to the truth) in the fifth digit. Safe to use from several threads. The first query costs
/// some ten solutions of the dual for each part (a few milliseconds each); later queries reuse them.
class JSQ_API RateDistortion {
 public:
  /// \param threads 0: all cores. Answers do not depend on it.
  explicit RateDistortion(std::vector<MagnitudeHistogram> parts, unsigned threads = 0);
  ~RateDistortion();
  RateDistortion(const RateDistortion&);
  RateDistortion& operator=(const RateDistortion&);

  double elements() const noexcept;
  double energy() const noexcept;  ///< sum of g^2
  size_t parts() const noexcept;

  /// The least normalised mean squared error |g^ - g|^2 / |g|^2 at `bits_per_element` (0 or more): 1 at 0
  /// bits, 0 for a source of zeros.
  double nmse_at(double bits_per_element) const;
  /// The least bits an element for a normalised error: the inverse of nmse_at; 0 from nmse 1 on, infinity at
  /// 0.
  double bits_at(double nmse) const;
  /// Shannon's lower bound on the same two, in closed form: h(g) - log2(2 pi e D) / 2, the limit of R(D) for
  /// small errors. Below it by nothing at high rates, far below it at low ones. Where elements are exactly
  /// zero, their positions are taken as known.
  double shannon_nmse_at(double bits_per_element) const;
  double shannon_bits_at(double nmse) const;

  /// Largest relative gap between the dual's error and the primal's among the answers given so far.
  double error_of_answers() const noexcept;

 private:
  struct Curve;
  std::shared_ptr<Curve> curve_;
};

/// The three models of the same dumps.
struct RateDistortionBounds {
  RateDistortion pooled, tensors, scales;
  const RateDistortion& of(SourceModel model) const noexcept {
    return model == SourceModel::pooled ? pooled : model == SourceModel::tensors ? tensors : scales;
  }
};

/// Reads the dumps' chosen tensors twice, block by block (memory: a histogram for each tensor and the sums of
/// rows and columns of one), and models them together. Non-finite elements are left out.
///
/// Scales (jsq/scales.hpp): r_i is the mean |g| of row i, c_j that of column j over the tensor's mean; a run
/// of a tensor without rows and columns has its mean. An element's part is round(2 log2(r_i c_j)), one set of
/// parts for all tensors. That scales cost bits to send is not counted.
///
/// \throws Error read_failed, damaged.
JSQ_API RateDistortionBounds rate_distortion_bounds(const std::vector<InputDump>& inputs,
                                                    unsigned threads = 0);

}  // namespace jsq

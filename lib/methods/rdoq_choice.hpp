// rdoq's choice of transforms for a target: for every part the one with the least error + lambda bits, at the
// step that meets the target with them.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "lib/methods/rdoq_coding.hpp"
#include "lib/methods/rdoq_transform_search.hpp"

namespace jsq {

/// What transforms are chosen for.
struct TransformAim {
  /// Trains for the target on what is coded.
  std::function<Trained()> find;
  /// By how much bytes, or the error that is left to lose, are too many: of an estimate at a step.
  std::function<double(const CodingCost& cost, double step)> excess;
  /// The same as trained.
  std::function<double(const Trained& trained)> trained_excess;
  /// What is compared in the end.
  std::function<double(const Trained& trained)> expected;
  uint32_t coarsest;           ///< kappa of factors
  bool factors_alone = false;  ///< for a residual of which nothing is coded
};

class TransformChooser {
 public:
  explicit TransformChooser(RdoqCoding& coding) : coding_(coding) {}

  /// Makes what is chosen what is coded.
  void choose(const TransformAim& aim);
  /// What the aim's `expected` is without transforms, as of the last choice.
  double plain_expected() const { return plain_expected_; }
  void set_plain_expected(double value) { plain_expected_ = value; }
  /// Directions found so far are of no use any more. They are kept from choice to choice, and those of a
  /// large pool take memory.
  void forget() { search_.reset(); }

 private:
  void take_dct();
  std::optional<Trained> train_plain(const TransformAim& aim);
  void follow(const TransformAim& aim, Trained trained);

  RdoqCoding& coding_;
  std::vector<PoolSite> sites_;  ///< where transforms may be
  std::optional<TransformSearch> search_;
  double plain_expected_ = 0;
};

}  // namespace jsq

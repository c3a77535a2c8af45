// rdoq's search over choices of transforms for a budget: which of them, coded in the budget's bytes, loses
// least.
#pragma once

#include <memory>
#include <optional>
#include <span>

#include "lib/methods/rdoq_choice.hpp"
#include "lib/methods/rdoq_coding.hpp"

namespace jsq {

class RdoqWays {
 public:
  explicit RdoqWays(RdoqCoding& coding) : coding_(coding), chooser_(coding) {}

  TransformChooser& chooser() { return chooser_; }
  /// The best plan that was found within `wanted` bytes, whose way is what is coded then; nothing where none
  /// fits. Near the last aim (`again`), the way that was best there is tried first.
  std::optional<RdoqMeasured> best_within(double wanted, bool again);

 private:
  /// A choice of transforms with what it comes to.
  struct Way {
    RdoqMeasured measured;
    RdoqAdapted adapted;
    std::unique_ptr<RdoqPool> pool;  ///< null without transforms
    double alone_aim = 0;            ///< of one that is all factors: aimed at / taken without levels
  };
  std::optional<RdoqMeasured> take(std::optional<Way> way);
  Way present(RdoqMeasured measured);
  void choose(double aim, bool factors_alone);
  double consider(std::optional<Way>& best, double aim, bool factors_alone, double wanted);
  void fill_with_factors(std::optional<Way>& best, double wanted, size_t attempts);
  std::optional<RdoqMeasured> fuller(double wanted);
  std::span<const double> shares_to_try(double wanted) const;
  std::optional<RdoqMeasured> best_of_choices(std::optional<RdoqMeasured> found, double wanted);
  void hold_against_plain(std::optional<RdoqMeasured>& best, double wanted);

  RdoqCoding& coding_;
  TransformChooser chooser_;
  double plain_won_at_ = 0;  ///< the aim at which a large pool was better off without transforms
  double alone_aim_ = 0;     ///< of the way that is coded
};

}  // namespace jsq

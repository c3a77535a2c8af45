// What rdoq codes, with or without transforms, and steps, layouts and tables that suit it.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "lib/methods/rdoq_pool.hpp"
#include "lib/methods/rdoq_settings.hpp"
#include "lib/methods/rdoq_training.hpp"
#include "lib/methods/rdoq_transform_search.hpp"

namespace jsq {

struct RdoqMeasured {
  RdoqPlan plan;
  RdoqOutcome outcome;
};

/// Slope of the best quantizer, in step^2, at usual rates.
constexpr double usual_lambda = 0.13;

/// What was adapted to the last aim.
struct RdoqAdapted {
  std::optional<Trained> trained;
  double lambda = usual_lambda;
  double correction = 1;  ///< wanted bytes as training expects them / as they turn out
  double step_guess = 0;  ///< where the last search ended
};

class RdoqCoding {
 public:
  RdoqCoding(const TensorPool& pool, const RdoqSettings& settings);

  const TensorPool& pool() const { return pool_; }
  const RdoqSettings& settings() const { return settings_; }
  RdoqPool& plain() { return plain_; }
  const RdoqPool& plain() const { return plain_; }
  /// What is coded: plain(), or the pool with transforms.
  RdoqPool& coded() { return *coded_; }
  const RdoqPool& coded() const { return *coded_; }
  bool transforms() const { return coded_ != &plain_; }
  /// Codes plain(); what was coded before.
  RdoqPool* code_plain() { return std::exchange(coded_, &plain_); }
  /// Back to what code_plain() returned.
  void code(RdoqPool* pool) { coded_ = pool; }
  /// Codes plain() from now on.
  void drop_transforms();
  /// Codes the pool with the choices; plain() where they choose nothing.
  void take(std::span<const PoolSite> sites, std::span<const TransformChoice> choices,
            const Reconstruction& unit);
  /// The pool with transforms, for a later take(); null without.
  std::unique_ptr<RdoqPool> release() { return std::move(transformed_); }
  void take(std::unique_ptr<RdoqPool> transformed);

  /// Splits the pool for about so many bytes. False when nothing changed; otherwise plain() is coded.
  bool prepare(double bytes);

  uint8_t block_log2() const { return std::max<uint8_t>(coded_->block_log2(), 16); }
  /// Fixes the plan that blocks are encoded with.
  void use(RdoqPlan plan) { parameters_ = coded_->use(std::move(plan)); }
  /// Of the plan in use.
  const std::string& parameters() const { return parameters_; }

  double largest() const { return coded_->largest(); }
  double bits_an_element(double bytes) const { return 8 * bytes / double(pool_.summary().elements); }
  bool takes_dependent(double bytes) const {
    return settings_.takes_dependent(pool_.summary().elements, bits_an_element(bytes));
  }

  TrainingOptions training_options(double lambda) const;
  Trained trained_at(double step, double lambda) const;
  /// The step whose expected bytes are nearest to `wanted` from below.
  Trained step_for(double wanted, double lambda);
  /// The same with the weight of a bit that was adapted.
  Trained step_for(double wanted) { return step_for(wanted, adapted.lambda); }
  RdoqPlan plan_of(const Trained& trained) const;
  RdoqPlan dependent_plan(double step, double lambda) const;

  /// Layouts, the weight of a bit and tables for about so many bytes.
  void adapt(double wanted);
  void adapt_layouts(double wanted);
  /// What is left of adapt() once there are layouts.
  void adapt_to_levels(double wanted);
  /// What factors, tables and scales take where no level is coded.
  double bytes_without_levels() const;

  RdoqAdapted adapted;
  bool rows_choose = true;  ///< whether scales that rows choose are better than measured ones

 private:
  std::unique_ptr<RdoqPool> pool_with(Transforms transforms) const;
  void adapt_lambda(double wanted);
  double trial(double wanted, double rate);

  const TensorPool& pool_;
  RdoqSettings settings_;
  RdoqPool plain_;
  std::unique_ptr<RdoqPool> transformed_;
  RdoqPool* coded_ = &plain_;
  std::string parameters_;
  double prepared_ = 0;  ///< bytes
};

/// x^(exponent rounded to eighths, of 0..8), by products and square roots: the same on every machine.
double power_of_eighths(double x, double exponent);

}  // namespace jsq

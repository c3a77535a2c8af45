#include "lib/methods/rdoq_coding.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "lib/methods/rdoq_scales.hpp"

namespace jsq {
namespace {

/// Scales of 64 elements: half as many as of 32, and some 1 % more error where the latter would be chosen.
constexpr ScaleLayout fast_least_run = 5;
/// Best weight of a bit with dependent levels / without, measured at 8x to 100x.
constexpr double dependent_weight = 1.15;
/// Of tables for the scales that rows choose, which depend on tables.
constexpr int chosen_rounds = 2;

bool chooses_scales(const TensorPool& pool, RdoqPreset preset) {
  return preset == RdoqPreset::best ||
         (preset == RdoqPreset::balanced && pool.summary().elements <= (uint64_t(1) << 20));
}

}  // namespace

double power_of_eighths(double x, double exponent) {
  auto eighths = uint32_t(std::clamp(exponent, 0.0, 8.0) * 8 + 0.5);
  double result = 1;
  for (double factor = std::sqrt(std::sqrt(std::sqrt(x))); eighths > 0; eighths /= 2, factor *= factor)
    if (eighths & 1) result *= factor;
  return result;
}

RdoqCoding::RdoqCoding(const TensorPool& pool, const RdoqSettings& settings)
    : pool_(pool), settings_(settings), plain_(pool, chooses_scales(pool, settings.preset)) {
  if (settings.preset == RdoqPreset::fast) plain_.limit_runs(fast_least_run);
  if (settings.dither) plain_.limit_columns();
}

void RdoqCoding::drop_transforms() {
  coded_ = &plain_;
  transformed_.reset();
}

void RdoqCoding::take(std::unique_ptr<RdoqPool> transformed) {
  transformed_ = std::move(transformed);
  coded_ = transformed_ ? transformed_.get() : &plain_;
}

void RdoqCoding::take(std::span<const PoolSite> sites, std::span<const TransformChoice> choices,
                      const Reconstruction& unit) {
  drop_transforms();
  if (std::any_of(choices.begin(), choices.end(), [](const TransformChoice& choice) { return choice.any(); }))
    take(pool_with(make_transforms(pool_, sites, choices, unit)));
}

std::unique_ptr<RdoqPool> RdoqCoding::pool_with(Transforms transforms) const {
  auto result = std::make_unique<RdoqPool>(
      std::make_shared<TransformStage>(pool_, std::move(transforms), plain_.cut_log2()),
      chooses_scales(pool_, settings_.preset));
  if (settings_.preset == RdoqPreset::fast) result->limit_runs(fast_least_run);
  result->prepare(prepared_);
  return result;
}

bool RdoqCoding::prepare(double bytes) {
  if (!plain_.prepare(bytes)) return false;
  drop_transforms();
  prepared_ = bytes;
  return true;
}

TrainingOptions RdoqCoding::training_options(double lambda) const {
  TrainingOptions training;
  training.lambda = lambda;
  training.open = !coded_->whole() || settings_.dither;
  training.signs = coded_->signs();
  training.dithered = training.uniform = settings_.dither.has_value();
  return training;
}

Trained RdoqCoding::trained_at(double step, double lambda) const {
  return train(coded_->atoms(), stored_step(step), training_options(lambda));
}

Trained RdoqCoding::step_for(double wanted, double lambda) {
  // Without a dead zone, what is rarely met still takes bits at steps far beyond the largest value.
  double high = settings_.dither ? 0x1p+20 * largest() : 2 * largest(),
         low = std::max(largest() * 0x1p-30, 0x1p-119);  // bytes at `high` fit
  Trained best = trained_at(high, lambda);
  double guess =
      adapted.step_guess > low && adapted.step_guess < high ? adapted.step_guess : std::sqrt(low * high);
  double reach = 1.02, bytes_low = 0, bytes_high = 0;  // 0: not known
  for (int round = 0; round < 40 && high > low * 1.0003; ++round) {
    Trained trained = trained_at(guess, lambda);
    const double bytes = coded_->expected_bytes(trained);
    if (bytes <= wanted) {
      high = guess;
      bytes_high = bytes;
      best = std::move(trained);
      if (bytes > 0.9997 * wanted) break;
      guess = std::max(low, guess / reach);
    } else {
      low = guess;
      bytes_low = bytes;
      guess = std::min(high, guess * reach);
    }
    reach = reach * reach;
    // Between two known ends a line is near; where bytes jump, halves are.
    if (bytes_low > 0 && bytes_high > 0) {
      const double share = (bytes_low - 0.99985 * wanted) / (bytes_low - bytes_high);
      guess = round % 3 == 2 ? std::sqrt(low * high) : low + (high - low) * std::clamp(share, 0.03, 0.97);
    } else if (!(guess > low * 1.0001 && guess < high * 0.9999)) {
      guess = std::sqrt(low * high);
    }
  }
  adapted.step_guess = high;
  return best;
}

RdoqPlan RdoqCoding::plan_of(const Trained& trained) const {
  return settings_.dither ? coded_->dithered_plan(trained, trained.lambda, *settings_.dither)
                          : coded_->make_plan(trained, trained.lambda);
}

RdoqPlan RdoqCoding::dependent_plan(double step, double lambda) const {
  return coded_->dependent_plan(coded_->make_plan(trained_at(step, lambda), lambda),
                                dependent_weight * lambda);
}

void RdoqCoding::adapt(double wanted) {
  adapt_layouts(wanted);
  adapt_to_levels(wanted);
}

void RdoqCoding::adapt_layouts(double wanted) {
  coded_->gather();
  adapted.correction = 1;
  adapted.trained = step_for(wanted, usual_lambda);
  for (int round = 0; round < 4; ++round) {
    // Where scales alone take more than there is, nothing is coded, and no layout is better than another:
    // they are chosen for the step at which something is.
    const bool nothing =
        adapted.trained->model.tables.empty() || coded_->expected_bytes(*adapted.trained) < 0.5 * wanted;
    if (round >= 2 && !nothing) break;
    const Trained chosen_for =
        nothing ? trained_at(0.97 * adapted.step_guess, usual_lambda) : *adapted.trained;
    if (!coded_->improve_layouts(coded_->make_plan(chosen_for, chosen_for.lambda))) break;
    coded_->gather();
    adapted.trained = step_for(wanted, usual_lambda);
  }
}

void RdoqCoding::adapt_to_levels(double wanted) {
  adapt_lambda(wanted);
  rows_choose = coded_->whole();
  if (!rows_choose) return;
  // At high rates rows may choose scales that are dear together; a measured trial tells.
  const double rate = bits_an_element(wanted);
  const double without = rate > 2 ? trial(wanted, rate) : HUGE_VAL;
  for (int round = 0; round < chosen_rounds; ++round) {
    adapted.trained = step_for(wanted);
    const RdoqPlan plan = plan_of(*adapted.trained);
    if (!plan.row_costs.empty() || plan.dither) coded_->gather_chosen(plan);
  }
  if (rate <= 2 || trial(wanted, rate) <= without + 0.1) return;
  rows_choose = false;
  coded_->gather();
}

/// The slope of the best quantizer varies with the rate.
void RdoqCoding::adapt_lambda(double wanted) {
  adapted.lambda = settings_.lambda.value_or(usual_lambda);
  if (settings_.lambda || settings_.preset == RdoqPreset::fast || settings_.dither) return;
  constexpr std::array<double, 5> lambdas = {0.07, 0.1, 0.13, 0.17, 0.22};
  constexpr int usual = 2;
  double least = step_for(wanted, lambdas[usual]).squared_error;
  adapted.lambda = lambdas[usual];
  const auto go = [&](int direction) {
    int i = usual;
    for (; i + direction >= 0 && i + direction < int(lambdas.size()); i += direction) {
      const double error = step_for(wanted, lambdas[size_t(i + direction)]).squared_error;
      if (error >= least) break;
      least = error;
      adapted.lambda = lambdas[size_t(i + direction)];
    }
    return i != usual;
  };
  // One valley: where it falls on one side, the other need not be tried.
  if (!go(-1)) go(1);
}

/// The error, in octaves, that the present tables and scales leave in `wanted` bytes.
double RdoqCoding::trial(double wanted, double rate) {
  RdoqPlan plan = plan_of(step_for(wanted));
  coded_->fix_scales(plan);
  const RdoqOutcome outcome = coded_->measure(plan);
  return coarse_log2(std::max(outcome.squared_error, 0x1p-1000)) + 2 * rate * (outcome.bytes / wanted - 1);
}

double RdoqCoding::bytes_without_levels() const {
  return coded_->expected_bytes(trained_at(2 * largest(), adapted.lambda));
}

}  // namespace jsq

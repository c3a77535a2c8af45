#include "lib/methods/rdoq_errors.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "lib/methods/rdoq_scales.hpp"

namespace jsq {
namespace {

constexpr uint64_t small_pool = uint64_t(1) << 15;  ///< elements

/// What an error target is held to, as a sum of squares: the error itself, or what the best multiple of the
/// decoded values would leave, which is what the angle says.
double loss_of(const RdoqCoding& coding, const Target& target, const RdoqOutcome& outcome) {
  if (target.kind != TargetKind::cosine) return outcome.squared_error;
  const double energy = coding.pool().summary().energy;
  if (!(outcome.dot > 0)) return energy;
  return energy - outcome.dot / outcome.decoded_energy * outcome.dot;
}

[[noreturn]] void unreachable(const RdoqCoding& coding, const Target& target, double loss) {
  const double share = loss / coding.pool().summary().energy;
  throw UnreachableTarget::below(
      target.kind == TargetKind::cosine ? std::sqrt(std::max(0.0, 1 - share)) : share, target, "rdoq");
}

/// The coarsest step whose expected error is at most `error`.
double step_within(const RdoqCoding& coding, double error) {
  double low = std::max(coding.largest() * 0x1p-30, 0x1p-119), high = 4 * coding.largest();
  for (int round = 0; round < 48 && high > low * 1.0002; ++round) {
    const double middle = std::sqrt(low * high);
    (coding.trained_at(middle, coding.adapted.lambda).squared_error <= error ? low : high) = middle;
  }
  return low;
}

/// The plan with the fewest bytes whose error is at most `wanted`.
std::optional<RdoqMeasured> cheapest(RdoqCoding& coding, const Target& target, double wanted) {
  RdoqPool& coded = coding.coded();
  std::optional<Trained>& trained = coding.adapted.trained;
  coded.gather();
  double correction = 1;
  std::optional<RdoqMeasured> best;
  for (int pass = 0; pass < 7 || (pass == 7 && !best); ++pass) {
    // At last the finest, where what is left is the rounding of values.
    const double low = step_within(coding, pass < 7 ? wanted * correction : 0);
    trained = coding.trained_at(low, coding.adapted.lambda);
    RdoqMeasured found{coding.plan_of(*trained), {}};
    if (pass < 2 && coded.improve_layouts(found.plan)) {
      coded.gather();
      continue;
    }
    for (int round = 0; pass == 7 && round < 2 && coded.improve_layouts(found.plan); ++round) {
      coded.gather();
      trained = coding.trained_at(low, coding.adapted.lambda);
      found.plan = coding.plan_of(*trained);
    }
    if (!found.plan.possible) break;
    found.outcome = coded.measure_errors(found.plan);
    const double error = loss_of(coding, target, found.outcome);
    if (error <= wanted && (!best || found.outcome.bytes < best->outcome.bytes))
      best = std::move(found);
    else if (!best && low <= coding.largest() * 0x1p-29)
      pass = std::max(pass, 6);
    if (error <= wanted && error >= 0.994 * wanted) break;
    correction *= 0.997 * wanted / std::max(error, 1e-300);
  }
  return best;
}

/// Error jumps with the step: where more than a hundredth of it is left, a heavier bit spends that.
void spend_error(const RdoqCoding& coding, RdoqMeasured& best, const Target& target, double wanted) {
  if (!coding.coded().whole() || coding.settings().dither ||
      loss_of(coding, target, best.outcome) >= 0.99 * wanted)
    return;
  double holds = best.plan.lambda(), fails = 0, lambda = 1.1 * holds;
  for (int round = 0; round < 6; ++round) {
    RdoqMeasured found{with_lambda(best.plan, lambda), {}};
    found.outcome = coding.coded().measure_errors(found.plan);
    const double error = loss_of(coding, target, found.outcome) / wanted;
    (error <= 1 ? holds : fails) = lambda;
    if (error <= 1 && found.outcome.bytes < best.outcome.bytes) best = std::move(found);
    if (error <= 1 && error >= 0.994) break;
    lambda = fails > 0 ? 0.5 * (holds + fails) : 1.2 * holds;
  }
}

/// The plan with dependent levels of the fewest bytes for an error of at most `wanted`, near one without.
std::optional<RdoqMeasured> dependent_cheapest(const RdoqCoding& coding, const RdoqMeasured& independent,
                                               const Target& target, double wanted) {
  std::optional<RdoqMeasured> best;
  struct Tried {
    double step = 0, error = 0;
  } holds, fails;  // the coarsest that holds, the finest that does not
  double step = independent.plan.coder.values().step();
  for (int attempt = 0; attempt < 7; ++attempt) {
    RdoqMeasured found{coding.dependent_plan(step, independent.plan.quantizer.lambda()), {}};
    if (!found.plan.trellis) return {};
    found.outcome = coding.coded().measure_errors(found.plan);
    const double error = loss_of(coding, target, found.outcome) / wanted;
    if (error <= 1 && (!best || found.outcome.bytes < best->outcome.bytes)) best = std::move(found);
    if (error <= 1 && error >= 0.994) break;
    if (error <= 1 && step > holds.step) holds = {step, error};
    if (error > 1 && (fails.step == 0 || step < fails.step)) fails = {step, error};
    if (holds.step > 0 && fails.step > holds.step) {
      const double share = (0.997 - holds.error) / (fails.error - holds.error);
      step = holds.step + std::clamp(share, 0.05, 0.95) * (fails.step - holds.step);
    } else {
      const double aim = 0.997 / std::max(error, 1e-6);
      step *= aim > 1 ? power_of_eighths(aim, 0.625) : 1 / power_of_eighths(1 / aim, 0.75);
    }
  }
  if (best) spend_error(coding, *best, target, wanted);
  return best;
}

}  // namespace

RdoqPlan plan_for_loss(RdoqCoding& coding, TransformChooser& chooser, const Target& target) {
  const Target squared = target.kind == TargetKind::cosine ? nmse_within(target) : target;
  // Sums are added in another order in the end.
  const double wanted =
      squared.value * coding.pool().summary().energy * (target.kind == TargetKind::cosine ? 1 - 1e-9 : 1);
  chooser.choose(
      {.find = [&] { return coding.trained_at(step_within(coding, wanted), coding.adapted.lambda); },
       .excess = [&](const CodingCost& cost,
                     double step) { return wanted / std::max(cost.error * step * step, 1e-300); },
       .trained_excess =
           [&](const Trained& trained) { return wanted / std::max(trained.squared_error, 1e-300); },
       .expected = [&](const Trained& trained) { return coding.coded().expected_bytes(trained); },
       .coarsest = 11});
  if (!coding.plain().whole()) chooser.forget();
  std::optional<RdoqMeasured> best = cheapest(coding, target, wanted);
  // Of a small pool, what is expected may be off by as much as transforms save.
  const double sure = coding.pool().summary().elements <= small_pool ? 0 : 0.95;
  if (coding.transforms() && (!best || best->outcome.bytes > sure * chooser.plain_expected())) {
    RdoqPool* const transformed = coding.code_plain();
    std::optional<RdoqMeasured> without = cheapest(coding, target, wanted);
    if (!best || (without && without->outcome.bytes < best->outcome.bytes))
      best = std::move(without);
    else
      coding.code(transformed);
  }
  if (!best)
    unreachable(
        coding, target,
        loss_of(coding, target, coding.coded().measure_errors(coding.plan_of(*coding.adapted.trained))));
  spend_error(coding, *best, target, wanted);
  if (coding.takes_dependent(best->outcome.bytes)) {
    std::optional<RdoqMeasured> dependent = dependent_cheapest(coding, *best, target, wanted);
    if (dependent && dependent->outcome.bytes < best->outcome.bytes) best = std::move(dependent);
  }
  return std::move(best->plan);
}

RdoqPlan plan_for_largest_error(RdoqCoding& coding, const Target& target) {
  coding.drop_transforms();
  RdoqPool& coded = coding.coded();
  coded.gather();
  TrainingOptions training = coding.training_options(0);
  training.uniform = true;
  double step = coding.settings().dither ? target.value : 2 * target.value, nearest = HUGE_VAL;
  double holds = 0, fails = HUGE_VAL;  // steps
  std::optional<RdoqMeasured> best;
  for (int attempt = 0; attempt < 12; ++attempt) {
    coding.adapted.trained = train(coded.atoms(), stored_step(step), training);
    RdoqMeasured found{coding.plan_of(*coding.adapted.trained), {}};
    if (attempt == 0 && coded.improve_layouts(found.plan)) {
      coded.gather();
      continue;
    }
    found.outcome = coded.measure_errors(found.plan);
    nearest = std::min(nearest, found.outcome.max_error);
    const double off = target.value / found.outcome.max_error;
    if (off >= 1) {
      holds = step;
      best = std::move(found);
      if (off < 1.02) break;
    } else {
      fails = step;
    }
    // Rows far below a step are dropped, and errors jump: between steps that hold and fail.
    if (best && (fails == HUGE_VAL || fails < 1.02 * holds)) break;
    step = best ? std::sqrt(holds * fails) : step * std::clamp(0.9995 * off, 0.25, 0.9995);
  }
  if (!best) throw UnreachableTarget::below(nearest, target, "rdoq");
  return std::move(best->plan);
}

}  // namespace jsq

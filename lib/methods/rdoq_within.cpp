#include "lib/methods/rdoq_within.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "lib/methods/rdoq_scales.hpp"

namespace jsq {
namespace {

constexpr double near_bytes = 2;  ///< of a small budget, as near as makes no difference

/// Bytes of the budget that are enough. The tail of a large pool fills it with real bytes.
double enough_of(const RdoqPool& coded) {
  return coded.whole() ? 0.9991 : 0.997;
}

/// The least error; of errors that are alike, and at low rates, the one that leaves fewer bytes unused.
bool is_better(const RdoqCoding& coding, const RdoqOutcome& one, const RdoqOutcome& other) {
  if (coding.bits_an_element(std::max(one.bytes, other.bytes)) < 1) return one.bytes > other.bytes;
  return one.squared_error < (one.bytes > other.bytes ? 1.02 : 0.98) * other.squared_error;
}

/// Where next to nothing fits and everything is too much, as many rows as fit have the scales of the latter.
RdoqMeasured fill_rows(const RdoqCoding& coding, RdoqMeasured best, const RdoqMeasured& all, double wanted) {
  uint64_t low = 0, high = coding.pool().summary().elements;
  while (high - low > 16 && !(best.outcome.bytes > 0.9995 * wanted - near_bytes)) {
    RdoqMeasured candidate{all.plan, {}};
    candidate.plan.coded = low + (high - low) / 2;
    candidate.plan.scales.reset();
    coding.coded().fix_scales(candidate.plan);
    candidate.outcome = coding.coded().measure(candidate.plan);
    if (candidate.outcome.bytes > wanted) {
      high = candidate.plan.coded;
      continue;
    }
    low = candidate.plan.coded;
    if (candidate.outcome.squared_error < best.outcome.squared_error) best = std::move(candidate);
  }
  return best;
}

/// Where bytes jump between two weights, as many elements as fit are coded with the finer one.
RdoqMeasured fill(const RdoqCoding& coding, RdoqMeasured best, double fits, double exceeds, double wanted) {
  uint64_t low = 0, high = coding.pool().summary().elements;
  for (int round = 0; round < 12 && high - low > 1; ++round) {
    RdoqMeasured candidate{with_lambda(best.plan, fits, exceeds, low + (high - low) / 2), {}};
    candidate.outcome = coding.coded().measure(candidate.plan);
    if (candidate.outcome.bytes > wanted) {
      high = candidate.plan.cut;
      continue;
    }
    low = candidate.plan.cut;
    if (candidate.outcome.bytes > best.outcome.bytes) best = std::move(candidate);
    if (best.outcome.bytes > 0.9995 * wanted - near_bytes) break;
  }
  return best;
}

/// Where no step codes a part of the elements: as many as fit, coded at the coarsest step that codes them.
void take_some(RdoqCoding& coding, std::optional<RdoqMeasured>& best, double wanted) {
  coding.coded().take_runs();
  coding.coded().gather();
  RdoqMeasured some{
      coding.plan_of(coding.trained_at(0.97 * coding.adapted.step_guess, coding.adapted.lambda)), {}};
  coding.coded().fix_scales(some.plan);
  some.outcome = coding.coded().measure(some.plan);
  if (best && some.outcome.bytes > wanted) best = fill_rows(coding, *std::move(best), some, wanted);
}

}  // namespace

RdoqMeasured trim(const RdoqCoding& coding, const RdoqMeasured& given, double wanted, double widest) {
  RdoqMeasured best = given;
  double fits = 0, exceeds = 0, lambda = given.plan.lambda(), reach = 1.05;
  (given.outcome.bytes <= wanted ? fits : exceeds) = lambda;
  for (int round = 0; round < 12; ++round) {
    if (fits > 0 && exceeds > 0) {
      lambda = 0.5 * (fits + exceeds);
    } else {
      lambda *= exceeds > 0 ? reach : 1 / reach;
      reach *= reach;
    }
    if (std::max(lambda / given.plan.lambda(), given.plan.lambda() / lambda) > widest) break;
    RdoqMeasured candidate{with_lambda(given.plan, lambda), {}};
    if (std::abs(lambda / given.plan.lambda() - 1) > 0.1) coding.coded().fix_scales(candidate.plan);
    candidate.outcome = coding.coded().measure(candidate.plan);
    if (candidate.outcome.bytes > wanted) {
      exceeds = lambda;
      continue;
    }
    fits = lambda;
    if (best.outcome.bytes > wanted || candidate.outcome.bytes > best.outcome.bytes)
      best = std::move(candidate);
    if (best.outcome.bytes > 0.9995 * wanted - near_bytes) break;
  }
  if (coding.coded().whole() && fits > 0 && exceeds > 0 && best.outcome.bytes <= wanted &&
      best.outcome.bytes < 0.9991 * wanted)
    return fill(coding, std::move(best), fits, exceeds, wanted);
  return best;
}

std::optional<RdoqMeasured> best_within(RdoqCoding& coding, double wanted, int attempts) {
  std::optional<RdoqMeasured> best;
  RdoqAdapted& adapted = coding.adapted;
  const bool dithered = coding.settings().dither.has_value();
  const double enough = enough_of(coding.coded());
  double step_before = 0, off_before = 0;
  for (int attempt = 0; attempt < attempts; ++attempt) {
    // Rows that choose their scales can turn many elements on and off at once: the last attempts do without.
    const bool chosen_rows = attempt < 4 && coding.rows_choose;
    if (attempt == 4 && !dithered) adapted.correction = 1;
    adapted.trained = coding.step_for(wanted * adapted.correction);
    RdoqMeasured found{coding.plan_of(*adapted.trained), {}};
    if (!chosen_rows) found.plan.row_costs.clear();
    coding.coded().fix_scales(found.plan);
    found.outcome = coding.coded().measure(found.plan);
    const double off = found.outcome.bytes / wanted;
    // Bytes jump where the step passes a half octave: then another weight of a bit has to fill the gap.
    // Where next to nothing is coded at one step and too much at the next, from the latter.
    const bool jumped = off > 1 && best && best->outcome.bytes < 0.7 * wanted;
    const double near = jumped ? 1.5 : attempt < 2 ? 0.015 : 0.3;
    if (!dithered && std::abs(off - 1) < near && !(off > enough && off <= 1))
      found = trim(coding, found, wanted,
                   jumped || attempt >= 4 || coding.bits_an_element(wanted) < 1 ? HUGE_VAL : 1.6);
    if (found.outcome.bytes <= wanted && (!best || is_better(coding, found.outcome, best->outcome)))
      best = std::move(found);
    if (best && best->outcome.bytes > enough * wanted - near_bytes) break;
    const double step = adapted.trained->values.step();
    if (off == off_before && step == step_before) {
      // Nothing but factors at any step: all elements are alike, and some of them have to do.
      const bool nothing = adapted.trained->model.tables.empty();
      if (nothing && !dithered && off < 0.5) take_some(coding, best, wanted);
      if (nothing || !coding.coded().whole()) break;
    }
    off_before = off;
    step_before = step;
    adapted.correction = std::clamp(adapted.correction * std::min(0.9993 / off, 1.4), 0.1, 10.0);
  }
  return best;
}

std::optional<RdoqMeasured> fullest_within(RdoqCoding& coding, double wanted) {
  std::optional<RdoqMeasured> best = best_within(coding, wanted);
  if (coding.settings().lambda || coding.settings().dither) return best;
  // At low rates a heavy bit can make nothing worth coding at any step.
  double& weight = coding.adapted.lambda;
  for (double lambda = weight / 2; (!best || best->outcome.bytes < 0.9 * wanted) && lambda > 0.01;
       lambda /= 2) {
    std::swap(lambda, weight);
    std::optional<RdoqMeasured> other = best_within(coding, wanted);
    if (other && (!best || other->outcome.squared_error < best->outcome.squared_error)) {
      best = std::move(other);
      lambda = weight;
    } else {
      std::swap(lambda, weight);
    }
  }
  return best;
}

std::optional<RdoqMeasured> dependent_within(const RdoqCoding& coding, const RdoqMeasured& independent,
                                             double wanted) {
  std::optional<RdoqMeasured> best;
  const double enough = enough_of(coding.coded());
  const RdoqPlan& plan = independent.plan;
  double step = plan.coder.values().step(), step_before = 0, off_before = 0;
  for (int attempt = 0; attempt < 7; ++attempt) {
    RdoqMeasured found{coding.dependent_plan(step, plan.quantizer.lambda()), {}};
    if (!found.plan.trellis) return {};
    found.outcome = coding.coded().measure(found.plan);
    const double off = found.outcome.bytes / wanted;
    if (std::abs(off - 1) < (attempt < 4 ? 0.003 : 0.3) && !(off > enough && off <= 1))
      found =
          trim(coding, found, wanted, attempt >= 4 || coding.bits_an_element(wanted) < 1 ? HUGE_VAL : 1.6);
    if (found.outcome.bytes <= wanted && (!best || is_better(coding, found.outcome, best->outcome)))
      best = std::move(found);
    if (best && best->outcome.bytes > enough * wanted) break;
    double slope = -1.3;  // of the logarithms of bytes and step
    if (step_before > 0 && step != step_before)
      slope = std::clamp(coarse_log2(off / off_before) / coarse_log2(step / step_before), -4.0, -0.5);
    step_before = step;
    off_before = off;
    step *= off > 1 ? power_of_eighths(off, -1 / slope) : 1 / power_of_eighths(1 / off, -1 / slope);
  }
  return best;
}

}  // namespace jsq

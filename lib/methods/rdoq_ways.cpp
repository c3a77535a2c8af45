#include "lib/methods/rdoq_ways.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "lib/methods/rdoq_within.hpp"

namespace jsq {

std::optional<RdoqMeasured> RdoqWays::best_within(double wanted, bool again) {
  std::optional<RdoqMeasured> best;
  if (again) best = fuller(wanted);
  if (!best || best->outcome.bytes < 0.9 * wanted) {
    best = best_of_choices(std::move(best), wanted);
    if (!coding_.plain().whole() && !coding_.transforms()) plain_won_at_ = wanted;
  }
  if (coding_.transforms() && (!best || best->outcome.squared_error > 0.9 * chooser_.plain_expected() ||
                               best->outcome.bytes < 0.97 * wanted))
    hold_against_plain(best, wanted);
  if (!coding_.plain().whole()) chooser_.forget();
  return best;
}

/// Too near for estimates to tell, or bytes that transforms leave and others may use.
void RdoqWays::hold_against_plain(std::optional<RdoqMeasured>& best, double wanted) {
  const bool whole = coding_.plain().whole();
  const RdoqAdapted with = coding_.adapted;
  RdoqPool* const transformed = coding_.code_plain();
  coding_.adapt(wanted);
  std::optional<RdoqMeasured> without = fullest_within(coding_, wanted);
  // What a sample expects is a few hundredths off, and transforms promise not to lose.
  const double doubt = whole ? 1 : 0.97;
  if (!best || (without && doubt * without->outcome.squared_error < best->outcome.squared_error)) {
    best = std::move(without);
    coding_.drop_transforms();
    alone_aim_ = 0;
    if (!whole) plain_won_at_ = wanted;
  } else {
    coding_.adapted = with;
    coding_.code(transformed);
  }
}

/// Makes the way what is coded.
std::optional<RdoqMeasured> RdoqWays::take(std::optional<Way> way) {
  if (!way) return {};
  coding_.adapted = std::move(way->adapted);
  coding_.take(std::move(way->pool));
  alone_aim_ = way->alone_aim;
  return std::move(way->measured);
}

RdoqWays::Way RdoqWays::present(RdoqMeasured measured) {
  return {std::move(measured), coding_.adapted, coding_.release(), alone_aim_};
}

void RdoqWays::choose(double aim, bool factors_alone) {
  // Aims of a large pool follow each other widely, and a search through its transforms takes seconds.
  if (plain_won_at_ > 0 && std::abs(aim - plain_won_at_) <= 0.3 * plain_won_at_) {
    coding_.drop_transforms();
    return;
  }
  chooser_.choose({.find = [&] { return coding_.step_for(aim, usual_lambda); },
                   .excess = [&](const CodingCost& cost, double) { return cost.bits / (8 * aim); },
                   .trained_excess =
                       [&](const Trained& trained) { return coding_.coded().expected_bytes(trained) / aim; },
                   .expected = [](const Trained& trained) { return trained.squared_error; },
                   .coarsest = 13,
                   .factors_alone = factors_alone});
}

/// Chooses transforms as for `aim` bytes, and codes with them in `wanted` ones; into `best` where that is
/// better. Returns what is taken without levels.
double RdoqWays::consider(std::optional<Way>& best, double aim, bool factors_alone, double wanted) {
  choose(aim, factors_alone);
  coding_.adapt_layouts(wanted);
  coding_.adapted.lambda = coding_.settings().lambda.value_or(0.1);
  const double fixed = coding_.bytes_without_levels();
  if (fixed > wanted + 8) return fixed;
  if (fixed < 0.97 * wanted) coding_.adapt_to_levels(wanted);  // otherwise there are hardly any
  std::optional<RdoqMeasured> found = jsq::best_within(coding_, wanted, best ? 3 : 7);
  if (found && (!best || found->outcome.squared_error < best->measured.outcome.squared_error))
    best = Way{*std::move(found), coding_.adapted, coding_.transforms() ? coding_.release() : nullptr,
               factors_alone ? aim / fixed : 0};
  return fixed;
}

/// Factors come in lumps: where they leave room, other choices may fit better.
void RdoqWays::fill_with_factors(std::optional<Way>& best, double wanted, size_t attempts) {
  static constexpr double nudges[] = {1.0, 1.01, 0.985};
  for (const double nudge : std::span(nudges).first(attempts)) {
    if (!best || !(best->alone_aim > 0) || best->measured.outcome.bytes > 0.9975 * wanted) return;
    consider(best, nudge * wanted * best->alone_aim, true, wanted);
  }
}

/// What the present way comes to, or where it is all factors and leaves room, one with others.
std::optional<RdoqMeasured> RdoqWays::fuller(double wanted) {
  std::optional<RdoqMeasured> found = fullest_within(coding_, wanted);
  if (!found || !(alone_aim_ > 0)) return found;
  std::optional<Way> best = present(*std::move(found));
  fill_with_factors(best, wanted, 1);
  return take(std::move(best));
}

/// By how much more than there is transforms are chosen for: estimates of a few bytes are off.
std::span<const double> RdoqWays::shares_to_try(double wanted) const {
  static constexpr double shares[] = {1.0, 1.2, 1.35, 1.05, 1.1, 0.9, 1.5};
  const double rate = coding_.bits_an_element(wanted);
  if (!coding_.plain().whole() || rate > 0.5) return std::span(shares).first(1);
  if (coding_.settings().preset == RdoqPreset::best) return shares;
  return std::span(shares).first(rate < 0.05 ? 3 : 1);
}

/// The best of some choices of transforms, which is what is coded then; `found`: what the present one comes
/// to.
std::optional<RdoqMeasured> RdoqWays::best_of_choices(std::optional<RdoqMeasured> found, double wanted) {
  std::optional<Way> best;
  if (found) best = present(*std::move(found));
  consider(best, wanted, false, wanted);
  const double plain_expected = chooser_.plain_expected();
  const bool transforms = coding_.transforms();
  if (transforms)
    for (const double share : shares_to_try(wanted).subspan(1)) consider(best, share * wanted, false, wanted);
  // At low rates what blocks and scales take apart from levels may be too much: all for factors then.
  const bool sparse = coding_.bits_an_element(wanted) < 0.05;
  if (transforms && (sparse || !best || best->measured.outcome.bytes < 0.8 * wanted)) {
    double aim = wanted;
    for (int attempt = 0; attempt < 3; ++attempt) {
      const double fixed = consider(best, aim, true, wanted);
      if (fixed <= wanted && fixed > 0.97 * wanted) break;
      aim *= std::clamp(0.985 * wanted / fixed, 0.7, 1.4);
    }
  }
  fill_with_factors(best, wanted, 3);
  chooser_.set_plain_expected(plain_expected);
  std::optional<RdoqMeasured> measured = take(std::move(best));
  if (measured && measured->outcome.bytes < 0.9 * wanted) {
    std::optional<RdoqMeasured> other = fullest_within(coding_, wanted);
    if (other && other->outcome.squared_error < measured->outcome.squared_error) measured = std::move(other);
  }
  return measured;
}

}  // namespace jsq

#include "lib/methods/rdoq_choice.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "lib/methods/rdoq_scales.hpp"

namespace jsq {
namespace {

/// Where excess(step), which falls with the step, is 1: by lines through the logarithms on both sides, of
/// which one that stays weighs less each time. Its last call is with what it returns.
template <class Excess>
double search_step(double step, Excess excess) {
  struct End {
    double step = 0, octaves = 0;
  } fine, coarse;
  constexpr double most_octaves = 2;  // beyond which lines say little
  bool was_fine = false;
  for (int round = 0; round < 8; ++round) {
    const double found = excess(step), octaves = coarse_log2(std::max(found, 0x1p-40));
    if (std::abs(found - 1) < 0.02 || round == 7) break;
    const bool is_fine = found > 1, between = fine.step > 0 && coarse.step > 0;
    End& end = is_fine ? fine : coarse;
    const End before = end;
    if (between && is_fine == was_fine) (is_fine ? coarse : fine).octaves /= 2;
    end = {step, std::clamp(octaves, -most_octaves, most_octaves)};
    was_fine = is_fine;
    if (fine.step > 0 && coarse.step > 0) {
      if (coarse.step < 1.005 * fine.step) break;
      const double share = std::clamp(fine.octaves / (fine.octaves - coarse.octaves), 0.05, 0.95);
      step = fine.step + share * (coarse.step - fine.step);
      continue;
    }
    double factor = std::clamp(std::sqrt(found), 0.25, 4.0);
    if (before.step > 0) {
      const double slope = (end.octaves - before.octaves) / coarse_log2(step / before.step);
      if (slope < -0.05) factor = std::clamp(power_of_eighths(found, -1 / slope), 0.125, 8.0);
    }
    // Where bytes hardly follow the step, on to where they do.
    step *= is_fine ? std::max(factor, 1.1) : std::min(factor, 0.9);
  }
  return step;
}

/// A step, and the octaves by which it missed.
struct Miss {
  double step = 0, octaves = 0;
};

}  // namespace

void TransformChooser::choose(const TransformAim& aim) {
  coding_.drop_transforms();
  const RdoqTransforming wanted = coding_.settings().transforming;
  if (wanted == RdoqTransforming::none) return;
  if (sites_.empty()) sites_ = pool_sites(coding_.pool());
  if (sites_.empty()) return;
  if (wanted == RdoqTransforming::dct) {
    take_dct();
    return;
  }
  std::optional<Trained> trained = train_plain(aim);
  if (!trained) return;
  follow(aim, *std::move(trained));
}

void TransformChooser::take_dct() {
  std::vector<TransformChoice> choices(sites_.size());
  for (size_t j = 0; j < sites_.size(); ++j) choices[j].dct = sites_[j].site.takes_dct();
  coding_.take(sites_, choices, {});
}

/// Tables for the aim without transforms; nothing where they would code no level.
std::optional<Trained> TransformChooser::train_plain(const TransformAim& aim) {
  RdoqPool& plain = coding_.plain();
  plain.gather();
  coding_.adapted.step_guess = 0;
  coding_.adapted.correction = 1;
  Trained trained = aim.find();
  plain_expected_ = aim.expected(trained);
  // Where nothing can be coded without transforms, choices begin at the step at which something is.
  if (trained.model.tables.empty() && coding_.adapted.step_guess > 0)
    trained = coding_.trained_at(0.97 * coding_.adapted.step_guess, trained.lambda);
  if (trained.model.tables.empty()) return {};
  // Of a large pool this is all that transforms are held against: by the layouts that it would be coded with.
  if (!plain.whole() && plain.improve_layouts(plain.make_plan(trained, trained.lambda))) {
    plain.gather();
    plain_expected_ = aim.expected(aim.find());
    plain.begin_layouts();
    plain.gather();
  }
  return trained;
}

/// Choices follow the step, and the step that meets the aim the choices.
void TransformChooser::follow(const TransformAim& aim, Trained trained) {
  double step = trained.values.step();
  const bool best = coding_.settings().preset == RdoqPreset::best, whole = coding_.coded().whole();
  // In a small pool all directions are at hand, and kept for the next aim; in a large one, no more of them
  // than pay.
  if (!search_)
    search_.emplace(coding_.pool(), sites_,
                    TransformSearchOptions{coding_.settings().transforming == RdoqTransforming::automatic,
                                           {.rank = 64,
                                            .iterations = best || !whole ? 2u : 1u,
                                            .first = whole ? 64u : 16u,
                                            .sparing = !best},
                                           uint64_t(1) << (best ? 16 : 14),
                                           aim.coarsest},
                    step, trained.lambda);
  TransformSearch& search = *search_;
  bool near = false;
  double found = aim.trained_excess(trained);
  // Steps that turned out too fine and too coarse; the choices that came nearest.
  Miss fine, coarse, nearest{0, HUGE_VAL};
  std::vector<TransformChoice> nearest_choices;
  bool was_fine = false;
  for (int round = 0; round < 7; ++round) {
    const bool between = fine.step > 0 && coarse.step > 0;
    const ContextCoder coder(trained.model, trained.values);
    const CodingCosts costs(coder, RdQuantizer(coder, trained.lambda));
    if (!between && (round == 0 || std::abs(nearest.octaves) < 1)) {
      const double calibration =
          found / aim.excess(round == 0 ? search.plain_cost(costs, step) : search.cost(costs, step), step);
      // Bytes fall faster with the step than they would with the choices of another one.
      const auto excess = [&](double tried) {
        const CodingCost cost = search.choose(costs, tried, std::exchange(near, true));
        return calibration * aim.excess(cost, tried);
      };
      step = search_step(step, excess);
      if (search.look_further(step, trained.lambda)) {
        near = false;
        step = search_step(step, excess);
      }
    } else {
      // Estimates that led far astray, or to both sides, are not asked again where to go.
      const double share = between ? std::clamp(fine.octaves / (fine.octaves - coarse.octaves), 0.1, 0.9) : 0;
      const double factor = power_of_eighths(2.0, std::min(0.6 * std::abs(nearest.octaves), 1.0));
      step = between ? fine.step * power_of_eighths(coarse.step / fine.step, share)
                     : (nearest.octaves > 0 ? step * factor : step / factor);
      search.look_further(step, trained.lambda);
      search.choose(costs, step, near);
    }
    std::vector<TransformChoice> choices = search.choices();
    coding_.take(sites_, choices, stored_step(step));
    coding_.coded().gather();
    Trained next = coding_.trained_at(step, trained.lambda);
    if (!coding_.transforms() || next.model.tables.empty()) break;
    found = aim.trained_excess(aim.factors_alone ? coding_.trained_at(2 * coding_.largest(), trained.lambda)
                                                 : next);
    const Miss miss{step, coarse_log2(std::max(found, 0x1p-40))};
    const bool is_fine = found > 1;
    // An end that stays where it is weighs less each time, lest the steps creep towards it.
    if (between && is_fine == was_fine) (is_fine ? coarse : fine).octaves /= 2;
    (is_fine ? fine : coarse) = miss;
    was_fine = is_fine;
    const bool nearer = std::abs(miss.octaves) < std::abs(nearest.octaves);
    if (nearer) {
      nearest = miss;
      nearest_choices = std::move(choices);
    }
    // Tables that know next to nothing but zeros, or no zeros, are of no use elsewhere.
    if (nearer && std::abs(miss.octaves) < 1) trained = std::move(next);
    if (std::abs(miss.octaves) < (between ? 0.15 : whole ? 0.03 : 0.1)) break;
  }
  if (step != nearest.step && !nearest_choices.empty()) {
    coding_.take(sites_, nearest_choices, stored_step(nearest.step));
    coding_.coded().gather();
  }
  coding_.adapted.step_guess = nearest.step;
}

}  // namespace jsq

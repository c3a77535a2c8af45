// rdoq: rate-distortion optimised quantization. One uniform quantizer step for all tensors of the pool (equal
// slope everywhere), levels without limit, entropy-coded with the scale that rows, columns or runs predict
// for each element, and chosen by true code lengths: the least |g - g^|^2 + lambda bits. Composition:
//   scale field (rows x columns, runs)  x  RD or trellis quantizer  x  context streams.
// This file holds the definition and the search for the step that meets a target.
// Sources: entropy-constrained quantization, Chou, Lookabaugh and Gray, IEEE Trans. ASSP 37 (1989); RDOQ as
// in the reference encoders of H.264 and HEVC; equal slopes, Shoham and Gersho, IEEE Trans. ASSP 36 (1988).

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <utility>

#include "jsq/error.hpp"
#include "kernels/cpu/error_sums.hpp"
#include "kernels/element/float_bits.hpp"
#include "lib/core/stored_values.hpp"
#include "lib/methods/method.hpp"
#include "lib/methods/options.hpp"
#include "lib/methods/rdoq_decoder.hpp"
#include "lib/methods/rdoq_parameters.hpp"
#include "lib/methods/rdoq_pool.hpp"
#include "lib/methods/rdoq_scales.hpp"
#include "lib/methods/rdoq_training.hpp"
#include "lib/methods/rdoq_transform_search.hpp"

namespace jsq {
namespace {

constexpr MethodOption options[] = {
    {"preset", "fast|default|best", "default", "how much time the encoder may take"},
    {"transform", "none|dct|lowrank|auto|preset", "preset",
     "of kernels and matrices; auto chooses for each tensor by what it saves; preset: none with "
     "preset=fast, otherwise auto"},
    {"levels", "independent|dependent|preset", "preset",
     "dependent: levels of two quantizers, chosen along paths of least error and bits: 4 to 8 % fewer bytes, "
     "several times the time; preset: dependent with preset=best, and by default in small pools at a bit an "
     "element or "
     "more, otherwise independent"},
    {"lambda", "auto|0..1", "auto", "weight of a bit in squared steps; auto takes the best of several"},
};

enum class Preset : uint8_t { fast, balanced, best };
constexpr std::pair<std::string_view, Preset> presets[] = {
    {"fast", Preset::fast}, {"default", Preset::balanced}, {"best", Preset::best}};

enum class Levels : uint8_t { independent, dependent, by_preset };
constexpr std::pair<std::string_view, Levels> level_kinds[] = {
    {"independent", Levels::independent}, {"dependent", Levels::dependent}, {"preset", Levels::by_preset}};

enum class Transforming : uint8_t { none, dct, lowrank, automatic, by_preset };
constexpr std::pair<std::string_view, Transforming> transformings[] = {{"none", Transforming::none},
                                                                       {"dct", Transforming::dct},
                                                                       {"lowrank", Transforming::lowrank},
                                                                       {"auto", Transforming::automatic},
                                                                       {"preset", Transforming::by_preset}};

/// x^(exponent rounded to eighths, of 0..8), by products and square roots: the same on every machine.
double power(double x, double exponent) {
  auto eighths = uint32_t(std::clamp(exponent, 0.0, 8.0) * 8 + 0.5);
  double result = 1;
  for (double factor = std::sqrt(std::sqrt(std::sqrt(x))); eighths > 0; eighths /= 2, factor *= factor)
    if (eighths & 1) result *= factor;
  return result;
}

class RdoqEncoder final : public MethodEncoder {
 public:
  RdoqEncoder(const TensorPool& pool, const MethodSpec& spec, const EncoderContext& context)
      : pool_(pool),
        preset_(OptionReader(spec).choice("preset", presets)),
        transforming_(transforming(spec, preset_)),
        dependent_levels_(takes_dependent_levels(spec, preset_)),
        dependent_by_rate_(preset_ == Preset::balanced && pool.summary().elements <= most_by_rate &&
                           OptionReader(spec).choice("levels", level_kinds) == Levels::by_preset),
        plain_(pool, chooses_scales(pool, preset_)) {
    if (preset_ == Preset::fast) plain_.limit_runs(fast_least_run);
    const OptionReader read(spec);
    if (!read.is("lambda", "auto")) fixed_lambda_ = read.number("lambda", 0, 1, "auto or a number of 0..1");
    if (context.rounding != Rounding::stochastic) return;
    // Levels that are random on their own: no paths, and no predictions whose integers round.
    dither_ = context.stream;
    plain_.limit_columns();
    dependent_levels_ = dependent_by_rate_ = false;
    transforming_ = Transforming::none;
  }

  void aim_native() override {
    throw Error(Errc::usage,
                "rdoq has no size of its own: give a target, such as ratio=32, bpw=1 or nmse=1e-3");
  }

  uint64_t aim_bytes(uint64_t body_bytes) override {
    // What a sample expects may be a little off, and a frame too large costs a pass.
    const double wanted = double(body_bytes) * (plain_.whole() ? 1.0 : learned_ ? *learned_ : 0.9975);
    if (pool_.summary().max_key == 0 || body_bytes < 8) return drop_all();
    if (prepare(wanted)) adapted_.trained.reset();
    exact_ = false;
    tail_.reset();
    if (std::optional<RdoqPlan> exact = plain_.exact_plan(wanted)) {
      const double bytes = plain_.exact_bytes(*exact);
      if (bytes <= double(body_bytes)) {
        coded_ = &plain_;
        adapted_.trained.reset();
        use(*std::move(exact));
        exact_ = true;
        return uint64_t(bytes);
      }
    }
    // Near the last aim, the way to code that was best there is taken again.
    const bool near = adapted_.trained && std::abs(wanted - aimed_) <= 0.05 * aimed_;
    aimed_ = wanted;
    std::optional<Measured> best;
    if (near) best = fuller_way(wanted);
    if (!best || best->outcome.bytes < 0.9 * wanted) {
      best = best_way(std::move(best), wanted);
      if (!plain_.whole() && coded_ == &plain_) plain_won_at_ = wanted;
    }
    if (coded_ != &plain_ && (!best || best->outcome.squared_error > 0.9 * plain_expected_ ||
                              best->outcome.bytes < 0.97 * wanted)) {
      // Too near for estimates to tell, or bytes that transforms leave and others may use.
      const Adapted with = adapted_;
      RdoqPool* const transformed = std::exchange(coded_, &plain_);
      adapt(wanted);
      std::optional<Measured> without = fullest(wanted);
      // What a sample expects is a few hundredths off, and transforms promise not to lose.
      const double doubt = plain_.whole() ? 1 : 0.97;
      if (!best || (without && doubt * without->outcome.squared_error < best->outcome.squared_error)) {
        best = std::move(without);
        if (!plain_.whole()) plain_won_at_ = wanted;
      } else {
        adapted_ = with;
        coded_ = transformed;
      }
    }
    if (!best) return drop_all();
    if (coded_->whole() && !dither_ && best->outcome.bytes < 0.995 * wanted) {
      Measured fuller = trim(*best, wanted, HUGE_VAL);
      if (fuller.outcome.squared_error < best->outcome.squared_error) best = std::move(fuller);
    }
    if (takes_dependent(wanted)) {
      std::optional<Measured> dependent = dependent_within(*best, wanted);
      if (dependent && dependent->outcome.squared_error < best->outcome.squared_error)
        best = std::move(dependent);
    }
    expected_ = best->outcome.bytes;
    use(std::move(best->plan));
    return uint64_t(std::ceil(expected_));
  }

  bool learn(uint64_t body_bytes) override {
    if (coded_->whole() || dropped_ || exact_ || body_bytes == 0) return false;
    learned_ = std::clamp(expected_ / double(body_bytes), 0.5, 2.0);
    return true;
  }

  std::optional<size_t> aim_tail(double more, std::span<const TakenBlock> taken) override {
    if (coded_->whole() || dropped_ || exact_ || dither_) return {};
    if (!tail_) {
      const RdoqPlan& plan = coded_->plan_in_use();
      Tail tail;
      tail.blocks.assign(taken.begin(), taken.end());
      tail.wanted = more;
      tail.tries = {{plan.lambda(), 0}};
      double whole = double(coded_->packed_bytes());
      for (const TakenBlock& block : taken) whole += double(block.bytes);
      if (plan.cut > 0 || std::abs(more) > 0.04 * whole) return {};
      tail_ = std::move(tail);
      // A tail that has to change by an eighth: then its slope is near that of the rest.
      begin_tail(std::max(8 * std::abs(more), whole / 64));
    } else {
      const double found = tail_->wanted - more, share = found / tail_->wanted;
      tail_->tries.push_back({tail_->lambda, found});
      // What is fine or coarse anyway hardly follows: then more of the pool has to.
      if (share < 0.4 && tail_->begins > 0)
        begin_tail(tail_->bytes * std::min(1.5 / std::max(share, 1e-3), 1e3));
      else
        tail_->lambda = tail_->next();
    }
    if (tail_->bytes < 2 * std::abs(tail_->wanted)) return {};
    use(with_lambda(coded_->plan_in_use(), tail_->lambda, tail_->tries.front().first, tail_->begins));
    return tail_->first;
  }

  void aim_payload_bits(uint64_t payload_bits) override {
    // Tables and scales of columns are no payload, and what they take depends on the aim.
    uint64_t apart = 64;
    for (int round = 0; round < 4; ++round) {
      const uint64_t allowed = payload_bits / 8 + apart, expected = aim_bytes(allowed);
      const uint64_t found = dropped_ ? 0 : parameters_.size() - coded_->packed_bytes();
      if (dropped_ || expected <= payload_bits / 8 + found) {
        if (dropped_ || found <= apart + payload_bits / 4096 || round == 3) return;
      }
      apart = found > 2 ? found - 2 : 0;
    }
    aim_bytes(payload_bits / 8);
  }

  void aim_error(const Target& target) override {
    if (target.kind == TargetKind::hprime)
      throw Error(Errc::usage, to_string(target) +
                                   ": hprime is the noise model of methods with width classes, such as "
                                   "jointsq; give rdoq an nmse, maxabs or cosine target");
    if (pool_.summary().max_key == 0) {
      drop_all();
      return;
    }
    prepare(double(pool_.summary().elements) / 8);
    search_.reset();  // factors of another coarseness
    adapted_.lambda = fixed_lambda_ ? *fixed_lambda_ : 0.13;
    if (target.kind == TargetKind::maxabs)
      aim_largest_error(target);
    else
      aim_loss(target);
  }

  StoredSet stored_set(size_t) const override { return {rdoq_row.info.wire_id, parameters_}; }
  uint8_t block_log2(size_t) const override { return std::max<uint8_t>(coded_->block_log2(), 16); }

  void encode_block(size_t t, uint64_t first, std::span<const float> values, std::string& out,
                    BlockSums& sums) const override {
    static thread_local std::vector<float> decoded_of_thread;
    std::vector<float>& decoded = decoded_of_thread;
    decoded.resize(values.size());
    const size_t before = out.size();
    if (dropped_)
      std::fill(decoded.begin(), decoded.end(), 0.0f);
    else
      coded_->encode_block(t, first, values, out, decoded);
    round_to_stored(pool_.tensors()[t].info->dtype, decoded);
    const cpu::ErrorSums errors = cpu::error_sums(values, decoded);
    sums.squared_error += errors.squared_error;
    sums.dot += errors.dot;
    sums.decoded_energy += errors.decoded_energy;
    sums.error_sum += errors.error_sum;
    sums.max_error = std::max(sums.max_error, errors.max_error);
    sums.nominal_bits += 8 * (out.size() - before);
    sums.entropy_bits += 8 * double(out.size() - before);
    sums.expected_error += errors.squared_error;
  }

  PoolReport report(const BlockSums& total) const override {
    PoolReport report;
    report.noise.per_element = report.noise.eq6 = report.noise.eq6_nonzero = report.noise.uniform =
        std::numeric_limits<double>::quiet_NaN();
    const uint64_t packed = dropped_ ? 0 : 8 * coded_->packed_bytes();
    report.payload_bits = total.nominal_bits + packed;
    report.entropy_bits = total.entropy_bits + double(packed);
    report.expected_squared_error = total.expected_error;
    return report;
  }

 private:
  struct Measured {
    RdoqPlan plan;
    RdoqOutcome outcome;
  };

  /// Of what is coded, for the last aim.
  struct Adapted {
    std::optional<Trained> trained;
    double lambda = 0.13;
    double correction = 1;  ///< wanted bytes as training expects them / as they turn out
    double step_guess = 0;  ///< where the last search ended
  };

  static Transforming transforming(const MethodSpec& spec, Preset preset) {
    const auto asked = OptionReader(spec).choice("transform", transformings);
    if (asked != Transforming::by_preset) return asked;
    return preset == Preset::fast ? Transforming::none : Transforming::automatic;
  }
  static bool takes_dependent_levels(const MethodSpec& spec, Preset preset) {
    const Levels asked = OptionReader(spec).choice("levels", level_kinds);
    return asked == Levels::by_preset ? preset == Preset::best : asked == Levels::dependent;
  }
  static bool chooses_scales(const TensorPool& pool, Preset preset) {
    return preset == Preset::best ||
           (preset == Preset::balanced && pool.summary().elements <= (uint64_t(1) << 20));
  }

  /// Layouts, the weight of a bit and tables for what is coded.
  void adapt(double wanted) {
    choose_layouts(wanted);
    adapt_to_levels(wanted);
  }
  /// What is left of that once there are layouts.
  void adapt_to_levels(double wanted) {
    choose_lambda(wanted);
    rows_choose_ = coded_->whole();
    if (!rows_choose_) return;
    // At high rates rows may choose scales that are dear together; a measured trial tells.
    const double rate = bits_an_element(wanted);
    const double without = rate > 2 ? trial(wanted, rate) : HUGE_VAL;
    // Tables for the scales that rows choose, which in turn depend on tables.
    for (int round = 0; round < chosen_rounds_; ++round) {
      adapted_.trained = step_for(wanted, adapted_.lambda);
      const RdoqPlan plan = plan_of(*adapted_.trained);
      if (!plan.row_costs.empty() || plan.dither) coded_->gather_chosen(plan);
    }
    if (rate <= 2 || trial(wanted, rate) <= without + 0.1) return;
    rows_choose_ = false;
    coded_->gather();
  }

  /// By the preset only where they save much: of a few values tables take more, and far above eight bits
  /// paths take long for nothing.
  bool takes_dependent(double bytes) const {
    const double rate = bits_an_element(bytes);
    return dependent_levels_ ||
           (dependent_by_rate_ && rate >= 1 && rate <= 8.5 && pool_.summary().elements >= least_by_rate);
  }

  /// The least error; of errors that are alike, and at low rates, the one that leaves fewer bytes unused.
  bool is_better(const RdoqOutcome& one, const RdoqOutcome& other) const {
    if (bits_an_element(std::max(one.bytes, other.bytes)) < 1) return one.bytes > other.bytes;
    return one.squared_error < (one.bytes > other.bytes ? 1.02 : 0.98) * other.squared_error;
  }

  double bits_an_element(double bytes) const { return 8 * bytes / double(pool_.summary().elements); }

  /// The error, in octaves, that the present tables and scales leave in `wanted` bytes.
  double trial(double wanted, double rate) {
    RdoqPlan plan = plan_of(step_for(wanted, adapted_.lambda));
    coded_->fix_scales(plan);
    const RdoqOutcome outcome = coded_->measure(plan);
    return coarse_log2(std::max(outcome.squared_error, 0x1p-1000)) + 2 * rate * (outcome.bytes / wanted - 1);
  }

  void choose_for_bytes(double wanted, bool factors_alone) {
    // Aims of a large pool follow each other widely, and a search through its transforms takes seconds.
    if (plain_won_at_ > 0 && std::abs(wanted - plain_won_at_) <= 0.3 * plain_won_at_) {
      coded_ = &plain_;
      transformed_.reset();
      return;
    }
    choose_transforms([&] { return step_for(wanted, 0.13); },
                      [&](const CodingCost& cost, double) { return cost.bits / (8 * wanted); },
                      [&](const Trained& trained) { return coded_->expected_bytes(trained) / wanted; },
                      [&](const Trained& trained) { return trained.squared_error; }, 13, factors_alone);
  }

  /// What factors, tables and scales take where no level is coded.
  double bytes_without_levels() {
    return coded_->expected_bytes(
        train(coded_->atoms(), stored_step(2 * largest()), training_options(adapted_.lambda)));
  }

  /// A choice of transforms with what it comes to.
  struct Way {
    Measured measured;
    Adapted adapted;
    std::unique_ptr<RdoqPool> pool;  ///< null without transforms
    double alone_aim = 0;            ///< of one that is all factors: aimed at / taken without levels
  };
  /// Makes the way what is coded.
  std::optional<Measured> taken(std::optional<Way> way) {
    if (!way) return {};
    adapted_ = std::move(way->adapted);
    transformed_ = std::move(way->pool);
    coded_ = transformed_ ? transformed_.get() : &plain_;
    alone_aim_ = way->alone_aim;
    return std::move(way->measured);
  }

  /// Chooses transforms as for `aim` bytes, and codes with them in `wanted` ones; into `best` where that is
  /// better. Returns what is taken without levels.
  double consider(std::optional<Way>& best, double aim, bool factors_alone, double wanted) {
    choose_for_bytes(aim, factors_alone);
    choose_layouts(wanted);
    adapted_.lambda = fixed_lambda_ ? *fixed_lambda_ : 0.1;
    const double fixed = bytes_without_levels();
    if (fixed > wanted + 8) return fixed;
    if (fixed < 0.97 * wanted) adapt_to_levels(wanted);  // otherwise there are hardly any
    std::optional<Measured> found = best_within(wanted, best ? 3 : 7);
    if (found && (!best || found->outcome.squared_error < best->measured.outcome.squared_error))
      best = Way{*std::move(found), adapted_, coded_ == &plain_ ? nullptr : std::move(transformed_),
                 factors_alone ? aim / fixed : 0};
    return fixed;
  }

  /// Factors come in lumps: where they leave room, other choices may fit better.
  void fill_with_factors(std::optional<Way>& best, double wanted, size_t attempts) {
    static constexpr double nudges[] = {1.0, 1.01, 0.985};
    for (const double nudge : std::span(nudges).first(attempts)) {
      if (!best || !(best->alone_aim > 0) || best->measured.outcome.bytes > 0.9975 * wanted) return;
      consider(best, nudge * wanted * best->alone_aim, true, wanted);
    }
  }

  /// What the present way comes to, or where it is all factors and leaves room, one with others.
  std::optional<Measured> fuller_way(double wanted) {
    std::optional<Measured> present = fullest(wanted);
    if (!present || !(alone_aim_ > 0)) return present;
    std::optional<Way> best = Way{*std::move(present), adapted_, std::move(transformed_), alone_aim_};
    fill_with_factors(best, wanted, 1);
    return taken(std::move(best));
  }

  /// By how much more than there is transforms are chosen for: estimates of a few bytes are off.
  std::span<const double> shares_to_try(double wanted) const {
    static constexpr double shares[] = {1.0, 1.2, 1.35, 1.05, 1.1, 0.9, 1.5};
    const double rate = bits_an_element(wanted);
    if (!plain_.whole() || rate > 0.5) return std::span(shares).first(1);
    if (preset_ == Preset::best) return shares;
    return rate < 0.05 ? std::span(shares).first(3) : std::span(shares).subspan(0, 1);
  }

  /// The best of some choices of transforms, which is what is coded then; `present`: what the present one
  /// comes to.
  std::optional<Measured> best_way(std::optional<Measured> present, double wanted) {
    std::optional<Way> best;
    if (present) best = Way{*std::move(present), adapted_, std::move(transformed_), alone_aim_};
    consider(best, wanted, false, wanted);
    const double plain_expected = plain_expected_;
    const bool transforms = coded_ != &plain_;
    if (transforms)
      for (const double share : shares_to_try(wanted).subspan(1))
        consider(best, share * wanted, false, wanted);
    // At low rates what blocks and scales take apart from levels may be too much: all for factors then.
    const bool sparse = bits_an_element(wanted) < 0.05;
    if (transforms && (sparse || !best || best->measured.outcome.bytes < 0.8 * wanted)) {
      double aim = wanted;
      for (int attempt = 0; attempt < 3; ++attempt) {
        const double fixed = consider(best, aim, true, wanted);
        if (fixed <= wanted && fixed > 0.97 * wanted) break;
        aim *= std::clamp(0.985 * wanted / fixed, 0.7, 1.4);
      }
    }
    fill_with_factors(best, wanted, 3);
    plain_expected_ = plain_expected;
    std::optional<Measured> measured = taken(std::move(best));
    if (measured && measured->outcome.bytes < 0.9 * wanted) {
      std::optional<Measured> other = fullest(wanted);
      if (other && other->outcome.squared_error < measured->outcome.squared_error)
        measured = std::move(other);
    }
    return measured;
  }

  /// The plan that comes closest to `wanted` from below.
  std::optional<Measured> fullest(double wanted) {
    std::optional<Measured> best = best_within(wanted);
    // At low rates a heavy bit can make nothing worth coding at any step.
    double& weight = adapted_.lambda;
    for (double lambda = weight / 2;
         !fixed_lambda_ && !dither_ && (!best || best->outcome.bytes < 0.9 * wanted) && lambda > 0.01;
         lambda /= 2) {
      std::swap(lambda, weight);
      std::optional<Measured> other = best_within(wanted);
      if (other && (!best || other->outcome.squared_error < best->outcome.squared_error)) {
        best = std::move(other);
        lambda = weight;
      } else {
        std::swap(lambda, weight);
      }
    }
    return best;
  }

  /// The plan of the present weight of a bit that comes closest to `wanted` from below.
  std::optional<Measured> best_within(double wanted, int attempts = 7) {
    std::optional<Measured> best;
    const double enough = coded_->whole() ? 0.9991 : 0.997;
    double step_before = 0, off_before = 0;
    for (int attempt = 0; attempt < attempts; ++attempt) {
      // Rows that choose their scales can turn many elements on and off at once: the last attempts do
      // without.
      const bool chosen_rows = attempt < 4 && rows_choose_;
      if (attempt == 4 && !dither_) adapted_.correction = 1;
      adapted_.trained = step_for(wanted * adapted_.correction, adapted_.lambda);
      Measured found{plan_of(*adapted_.trained), {}};
      if (!chosen_rows) found.plan.row_costs.clear();
      coded_->fix_scales(found.plan);
      found.outcome = coded_->measure(found.plan);
      const double off = found.outcome.bytes / wanted;
      // Bytes jump where the step passes a half octave: then another weight of a bit has to fill the gap.
      // Where next to nothing is coded at one step and too much at the next, from the latter.
      const bool jumped = off > 1 && best && best->outcome.bytes < 0.7 * wanted;
      const double near = jumped ? 1.5 : attempt < 2 ? 0.015 : 0.3;
      if (!dither_ && std::abs(off - 1) < near && !(off > enough && off <= 1))
        found = trim(found, wanted, jumped || attempt >= 4 || bits_an_element(wanted) < 1 ? HUGE_VAL : 1.6);
      if (found.outcome.bytes <= wanted && (!best || is_better(found.outcome, best->outcome)))
        best = std::move(found);
      if (best && best->outcome.bytes > enough * wanted - near_bytes) break;
      // Nothing but factors at any step: all elements are alike, and some of them have to do.
      const double step = adapted_.trained->values.step();
      if (adapted_.trained->model.tables.empty() && off == off_before && step == step_before) {
        if (!dither_ && off < 0.5) take_some(best, wanted);
        break;
      }
      off_before = off;
      step_before = step;
      adapted_.correction = std::clamp(adapted_.correction * std::min(0.9993 / off, 1.4), 0.1, 10.0);
    }
    return best;
  }

  /// Where no step codes a part of the elements: as many as fit, coded at the coarsest step that codes them.
  void take_some(std::optional<Measured>& best, double wanted) const {
    coded_->take_runs();
    coded_->gather();
    const Trained trained =
        train(coded_->atoms(), stored_step(0.97 * adapted_.step_guess), training_options(adapted_.lambda));
    Measured some{plan_of(trained), {}};
    coded_->fix_scales(some.plan);
    some.outcome = coded_->measure(some.plan);
    if (best && some.outcome.bytes > wanted) best = fill_rows(*std::move(best), some, wanted);
  }

  RdoqPlan plan_of(const Trained& trained) const {
    return dither_ ? coded_->dithered_plan(trained, trained.lambda, *dither_)
                   : coded_->make_plan(trained, trained.lambda);
  }

  RdoqPlan dependent_at(double step, double lambda) const {
    const Trained trained = train(coded_->atoms(), stored_step(step), training_options(lambda));
    return coded_->dependent_plan(coded_->make_plan(trained, lambda), dependent_weight * lambda);
  }

  /// The plan with dependent levels of the fewest bytes for an error of at most `wanted`, near one without.
  std::optional<Measured> dependent_for_error(const Measured& independent, const Target& target,
                                              double wanted) const {
    std::optional<Measured> best;
    double step = independent.plan.coder.values().step(), step_before = 0, error_before = 0;
    for (int attempt = 0; attempt < 7; ++attempt) {
      Measured found{dependent_at(step, independent.plan.quantizer.lambda()), {}};
      if (!found.plan.trellis) return {};
      found.outcome = coded_->measure_errors(found.plan);
      const double error = loss_of(target, found.outcome) / wanted;
      if (error <= 1 && (!best || found.outcome.bytes < best->outcome.bytes)) best = std::move(found);
      if (error <= 1 && error >= 0.994) break;
      double slope = 1.5;  // of the logarithms of error and step
      if (step_before > 0 && step != step_before && error > 0 && error_before > 0)
        slope = std::clamp(coarse_log2(error / error_before) / coarse_log2(step / step_before), 0.3, 2.0);
      step_before = step;
      error_before = error;
      const double aim = 0.997 / std::max(error, 1e-6);
      step *= aim > 1 ? power(aim, 1 / slope) : 1 / power(1 / aim, 1 / slope);
    }
    return best;
  }

  /// The plan with dependent levels that comes closest to `wanted` bytes from below, near one without.
  std::optional<Measured> dependent_within(const Measured& independent, double wanted) const {
    std::optional<Measured> best;
    const double enough = coded_->whole() ? 0.9991 : 0.997;
    const RdoqPlan& plan = independent.plan;
    double step = plan.coder.values().step(), step_before = 0, off_before = 0;
    for (int attempt = 0; attempt < 7; ++attempt) {
      Measured found{dependent_at(step, plan.quantizer.lambda()), {}};
      if (!found.plan.trellis) return {};
      found.outcome = coded_->measure(found.plan);
      const double off = found.outcome.bytes / wanted;
      if (std::abs(off - 1) < (attempt < 4 ? 0.003 : 0.3) && !(off > enough && off <= 1))
        found = trim(found, wanted, attempt >= 4 || bits_an_element(wanted) < 1 ? HUGE_VAL : 1.6);
      if (found.outcome.bytes <= wanted && (!best || is_better(found.outcome, best->outcome)))
        best = std::move(found);
      if (best && best->outcome.bytes > enough * wanted) break;
      double slope = -1.3;  // of the logarithms of bytes and step
      if (step_before > 0 && step != step_before)
        slope = std::clamp(coarse_log2(off / off_before) / coarse_log2(step / step_before), -4.0, -0.5);
      step_before = step;
      off_before = off;
      step *= off > 1 ? power(off, -1 / slope) : 1 / power(1 / off, -1 / slope);
    }
    return best;
  }

  bool prepare(double wanted) {
    if (!plain_.prepare(wanted)) return false;
    coded_ = &plain_;
    transformed_.reset();
    prepared_ = wanted;
    return true;
  }

  std::unique_ptr<RdoqPool> pool_with(Transforms transforms) {
    auto result = std::make_unique<RdoqPool>(
        std::make_shared<TransformStage>(pool_, std::move(transforms), plain_.cut_log2()),
        chooses_scales(pool_, preset_));
    if (preset_ == Preset::fast) result->limit_runs(fast_least_run);
    result->prepare(prepared_);
    return result;
  }

  /// Makes the choices what is coded.
  void take_choices(std::span<const PoolSite> sites, std::span<const TransformChoice> choices,
                    const Reconstruction& unit) {
    coded_ = &plain_;
    transformed_.reset();
    if (std::none_of(choices.begin(), choices.end(),
                     [](const TransformChoice& choice) { return choice.any(); }))
      return;
    transformed_ = pool_with(make_transforms(pool_, sites, choices, unit));
    coded_ = transformed_.get();
  }

  /// For every part the transform with the least error + lambda bits. `find` trains for the target on what is
  /// coded; `excess` tells by how much bytes, or the error that is left to lose, are too many: of an estimate
  /// at a step, and as trained. `expected`: what is compared at the end. `coarsest`: kappa of factors;
  /// `factors_alone`: for a residual of which nothing is coded.
  template <class Find, class Excess, class TrainedExcess, class Expected>
  void choose_transforms(Find find, Excess excess, TrainedExcess trained_excess, Expected expected,
                         uint32_t coarsest, bool factors_alone = false) {
    coded_ = &plain_;
    transformed_.reset();
    if (transforming_ == Transforming::none) return;
    if (sites_.empty()) sites_ = pool_sites(pool_);
    const std::vector<PoolSite>& sites = sites_;
    if (sites.empty()) return;
    if (transforming_ == Transforming::dct) {
      std::vector<TransformChoice> choices(sites.size());
      for (size_t j = 0; j < sites.size(); ++j) choices[j].dct = sites[j].site.takes_dct();
      take_choices(sites, choices, {});
      return;
    }
    plain_.gather();
    adapted_.step_guess = 0;
    adapted_.correction = 1;
    Trained trained = find();
    plain_expected_ = expected(trained);
    // Of a large pool this is all that transforms are held against: by the layouts that it would be coded
    // with.
    if (!plain_.whole() && !trained.model.tables.empty() &&
        plain_.improve_layouts(plain_.make_plan(trained, trained.lambda))) {
      plain_.gather();
      plain_expected_ = expected(find());
      plain_.begin_layouts();
      plain_.gather();
    }
    if (trained.model.tables.empty()) return;
    double step = trained.values.step();
    const bool best = preset_ == Preset::best;
    // In a small pool all directions are at hand, and kept for the next aim; in a large one, no more of them
    // than pay.
    if (!search_)
      search_.emplace(pool_, sites,
                      TransformSearchOptions{
                          transforming_ == Transforming::automatic,
                          {.rank = 64, .iterations = best ? 2u : 1u, .first = coded_->whole() ? 64u : 16u},
                          uint64_t(1) << (best ? 16 : 14),
                          coarsest},
                      step, trained.lambda);
    TransformSearch& search = *search_;
    bool near = false;
    double found = trained_excess(trained);
    // Steps that turned out too fine and too coarse, with the octaves by which they missed; the choices that
    // came nearest.
    struct Miss {
      double step = 0, octaves = 0;
    } fine, coarse, nearest{0, HUGE_VAL};
    std::vector<TransformChoice> nearest_choices;
    bool was_fine = false;
    for (int round = 0; round < 7; ++round) {
      const bool between = fine.step > 0 && coarse.step > 0;
      const ContextCoder coder(trained.model, trained.values);
      const CodingCosts costs(coder, RdQuantizer(coder, trained.lambda));
      if (!between && (round == 0 || std::abs(nearest.octaves) < 1)) {
        const double calibration =
            found / excess(round == 0 ? search.plain_cost(costs, step) : search.cost(costs, step), step);
        // Choices follow the step: bytes fall faster than they would with those of another step.
        step = search_step(step, [&](double tried) {
          if (search.look_further(tried, trained.lambda)) near = false;
          const CodingCost cost = search.choose(costs, tried, std::exchange(near, true));
          return calibration * excess(cost, tried);
        });
      } else {
        // Estimates that led far astray, or to both sides, are not asked again where to go.
        const double share =
            between ? std::clamp(fine.octaves / (fine.octaves - coarse.octaves), 0.1, 0.9) : 0;
        const double factor = power(2.0, std::min(0.6 * std::abs(nearest.octaves), 1.0));
        step = between ? fine.step * power(coarse.step / fine.step, share)
                       : (nearest.octaves > 0 ? step * factor : step / factor);
        search.look_further(step, trained.lambda);
        search.choose(costs, step, near);
      }
      std::vector<TransformChoice> choices = search.choices();
      take_choices(sites, choices, stored_step(step));
      coded_->gather();
      const TrainingOptions training = training_options(trained.lambda);
      Trained next = train(coded_->atoms(), stored_step(step), training);
      if (coded_ == &plain_ || next.model.tables.empty()) break;
      found =
          trained_excess(factors_alone ? train(coded_->atoms(), stored_step(2 * largest()), training) : next);
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
      if (std::abs(miss.octaves) < (between ? 0.15 : 0.07)) break;
    }
    if (step != nearest.step && !nearest_choices.empty()) {
      take_choices(sites, nearest_choices, stored_step(nearest.step));
      coded_->gather();
    }
    forget_search();
  }

  /// What was found of a small pool stays for the next aim.
  void forget_search() {
    if (!plain_.whole()) search_.reset();
  }

  /// Where excess(step), which falls with the step, is 1: by secants. Its last call is with what it returns.
  template <class Excess>
  double search_step(double step, Excess excess) {
    double low = 0, high = HUGE_VAL, step_before = 0, found_before = 0;
    for (int round = 0; round < 7; ++round) {
      const double found = excess(step);
      if (std::abs(found - 1) < 0.02 || round == 6) break;
      (found > 1 ? low : high) = step;
      double next = step * std::clamp(std::sqrt(found), 0.25, 4.0);
      if (step_before > 0 && (found > found_before) == (step < step_before)) {
        const double slope = coarse_log2(found / found_before) / coarse_log2(step / step_before);
        if (slope < -0.05) next = step * std::clamp(power(found, -1 / slope), 0.125, 8.0);
      }
      // Where bytes hardly follow the step, on to where they do.
      if (high == HUGE_VAL) next = std::max(next, 1.1 * step);
      if (!(next > low && next < high)) next = high == HUGE_VAL ? 1.5 * low : std::sqrt(low * high);
      if (low > 0 && high < 1.005 * low) break;
      step_before = step;
      found_before = found;
      step = next;
    }
    return step;
  }

  double largest() const { return coded_->largest(); }

  /// A tail of at least so many bytes, and the weight of a bit with which it should take what is wanted.
  void begin_tail(double least) {
    Tail& tail = *tail_;
    uint64_t packed = 0, elements = 0;
    for (const TakenBlock& block : tail.blocks) packed += block.bytes == 0 ? elements_of(block) : 0;
    // Of packed tensors each element has its share of the pack.
    const double of_packed = packed ? double(coded_->packed_bytes()) / double(packed) : 0;
    tail.bytes = 0;
    for (tail.first = tail.blocks.size(); tail.first > 0 && tail.bytes < least;) {
      const TakenBlock& block = tail.blocks[--tail.first];
      tail.bytes += block.bytes ? double(block.bytes) : of_packed * double(elements_of(block));
    }
    if (tail.first < tail.blocks.size())
      elements = pool_.tensors()[tail.blocks[tail.first].tensor].first + tail.blocks[tail.first].first;
    tail.begins = tail.first > 0 ? elements : 0;
    tail.tries.resize(1);
    tail.lambda = lambda_for(with_lambda(coded_->plan_in_use(), tail.tries[0].first),
                             1 + tail.wanted / std::max(tail.bytes, 1.0));
  }
  uint64_t elements_of(const TakenBlock& block) const {
    return std::min(uint64_t(1) << block_log2(block.tensor),
                    pool_.tensors()[block.tensor].info->elements() - block.first);
  }

  /// The weight of a bit with which the plan's blocks are expected to take `factor` times the bytes.
  double lambda_for(const RdoqPlan& plan, double factor) const {
    const double fixed = double(parameters_.size()), whole = coded_->measure(plan).bytes - fixed;
    double before = plan.lambda(), bytes_before = whole, lambda = before * (factor > 1 ? 0.8 : 1.25);
    for (int round = 0;; ++round) {
      const double bytes = coded_->measure(with_lambda(plan, lambda)).bytes - fixed;
      const double slope = (bytes - bytes_before) / (lambda - before);
      if (round == 3 || !(slope < 0) || std::abs(bytes / whole - factor) < 2e-4) return lambda;
      before = lambda;
      bytes_before = bytes;
      lambda = std::clamp(lambda + (factor * whole - bytes) / slope, plan.lambda() / 8, 8 * plan.lambda());
      if (lambda == before) return lambda;
    }
  }

  TrainingOptions training_options(double lambda) const {
    TrainingOptions training;
    training.lambda = lambda;
    training.open = !coded_->whole() || dither_;
    training.signs = coded_->signs();
    training.dithered = training.uniform = dither_.has_value();
    return training;
  }

  /// The step whose expected bytes are nearest to `wanted` from below.
  Trained step_for(double wanted, double lambda) {
    const TrainingOptions training = training_options(lambda);
    // Without a dead zone, what is rarely met still takes bits at steps far beyond the largest value.
    double high = dither_ ? 0x1p+20 * largest() : 2 * largest(),
           low = std::max(largest() * 0x1p-30, 0x1p-119);  // bytes at `high` fit
    Trained best = train(coded_->atoms(), stored_step(high), training);
    double guess =
        adapted_.step_guess > low && adapted_.step_guess < high ? adapted_.step_guess : std::sqrt(low * high);
    double reach = 1.02, bytes_low = 0, bytes_high = 0;  // 0: not known
    for (int round = 0; round < 40 && high > low * 1.0003; ++round) {
      Trained trained = train(coded_->atoms(), stored_step(guess), training);
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
    adapted_.step_guess = high;
    return best;
  }

  void choose_layouts(double wanted) {
    coded_->gather();
    adapted_.step_guess = 0;
    adapted_.correction = 1;
    adapted_.trained = step_for(wanted, 0.13);
    for (int round = 0; round < 4; ++round) {
      // Where scales alone take more than there is, nothing is coded, and no layout is better than another:
      // they are chosen for the step at which something is.
      const bool nothing =
          adapted_.trained->model.tables.empty() || coded_->expected_bytes(*adapted_.trained) < 0.5 * wanted;
      if (round >= 2 && !nothing) break;
      const Trained chosen_for =
          nothing ? train(coded_->atoms(), stored_step(0.97 * adapted_.step_guess), training_options(0.13))
                  : *adapted_.trained;
      if (!coded_->improve_layouts(coded_->make_plan(chosen_for, chosen_for.lambda))) break;
      coded_->gather();
      adapted_.trained = step_for(wanted, 0.13);
    }
  }

  /// The weight of a bit: the slope of the best quantizer is near 0.13 step^2 and varies with the rate.
  void choose_lambda(double wanted) {
    adapted_.lambda = fixed_lambda_ ? *fixed_lambda_ : 0.13;
    if (fixed_lambda_ || preset_ == Preset::fast || dither_) return;
    double least = HUGE_VAL;
    for (double lambda : {0.07, 0.1, 0.13, 0.17, 0.22}) {
      const Trained trained = step_for(wanted, lambda);
      if (trained.squared_error >= least) continue;
      least = trained.squared_error;
      adapted_.lambda = lambda;
    }
  }

  /// Moves the weight of a bit until the bytes meet the budget: tables and step stay. The best that fits, or
  /// what was given. `widest`: by how much the weight may change; far from the one that tables were trained
  /// for, it costs more error than another step does.
  Measured trim(const Measured& given, double wanted, double widest) const {
    Measured best = given;
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
      Measured candidate{with_lambda(given.plan, lambda), {}};
      if (std::abs(lambda / given.plan.lambda() - 1) > 0.1) coded_->fix_scales(candidate.plan);
      candidate.outcome = coded_->measure(candidate.plan);
      if (candidate.outcome.bytes > wanted) {
        exceeds = lambda;
        continue;
      }
      fits = lambda;
      if (best.outcome.bytes > wanted || candidate.outcome.bytes > best.outcome.bytes)
        best = std::move(candidate);
      if (best.outcome.bytes > 0.9995 * wanted - near_bytes) break;
    }
    // The tail of a large pool fills it with real bytes.
    if (coded_->whole() && fits > 0 && exceeds > 0 && best.outcome.bytes <= wanted &&
        best.outcome.bytes < 0.9991 * wanted)
      return fill(std::move(best), fits, exceeds, wanted);
    return best;
  }

  /// Where next to nothing fits and everything is too much, as many rows as fit have the scales of the
  /// latter.
  Measured fill_rows(Measured best, const Measured& all, double wanted) const {
    uint64_t low = 0, high = pool_.summary().elements;
    while (high - low > 16 && !(best.outcome.bytes > 0.9995 * wanted - near_bytes)) {
      Measured candidate{all.plan, {}};
      candidate.plan.coded = low + (high - low) / 2;
      candidate.plan.scales.reset();
      coded_->fix_scales(candidate.plan);
      candidate.outcome = coded_->measure(candidate.plan);
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
  Measured fill(Measured best, double fits, double exceeds, double wanted) const {
    uint64_t low = 0, high = pool_.summary().elements;
    for (int round = 0; round < 12 && high - low > 1; ++round) {
      Measured candidate{with_lambda(best.plan, fits, exceeds, low + (high - low) / 2), {}};
      candidate.outcome = coded_->measure(candidate.plan);
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

  /// What an error target is held to, as a sum of squares: the error itself, or what the best multiple of the
  /// decoded values would leave, which is what the angle says.
  double loss_of(const Target& target, const RdoqOutcome& outcome) const {
    if (target.kind != TargetKind::cosine) return outcome.squared_error;
    const double energy = pool_.summary().energy;
    if (!(outcome.dot > 0)) return energy;
    return energy - outcome.dot / outcome.decoded_energy * outcome.dot;
  }
  double share_of_loss(const Target& target, double loss) const {
    const double share = loss / pool_.summary().energy;
    return target.kind == TargetKind::cosine ? std::sqrt(std::max(0.0, 1 - share)) : share;
  }

  void aim_loss(const Target& target) {
    const Target squared = target.kind == TargetKind::cosine ? nmse_within(target) : target;
    // Sums are added in another order in the end.
    const double wanted =
        squared.value * pool_.summary().energy * (target.kind == TargetKind::cosine ? 1 - 1e-9 : 1);
    const TrainingOptions training = training_options(adapted_.lambda);
    const auto at_step = [&](double step) { return train(coded_->atoms(), stored_step(step), training); };
    const auto step_within = [&](double error) {
      double low = std::max(largest() * 0x1p-30, 0x1p-119), high = 4 * largest();
      for (int round = 0; round < 48 && high > low * 1.0002; ++round) {
        const double middle = std::sqrt(low * high);
        (at_step(middle).squared_error <= error ? low : high) = middle;
      }
      return low;
    };
    choose_transforms(
        [&] { return at_step(step_within(wanted)); },
        [&](const CodingCost& cost, double step) {
          return wanted / std::max(cost.error * step * step, 1e-300);
        },
        [&](const Trained& trained) { return wanted / std::max(trained.squared_error, 1e-300); },
        [&](const Trained& trained) { return coded_->expected_bytes(trained); }, 11);
    std::optional<Measured> best = cheapest(target, wanted, step_within, at_step);
    if (coded_ != &plain_ && (!best || best->outcome.bytes > 0.95 * plain_expected_)) {
      RdoqPool* const transformed = std::exchange(coded_, &plain_);
      std::optional<Measured> without = cheapest(target, wanted, step_within, at_step);
      if (!best || (without && without->outcome.bytes < best->outcome.bytes))
        best = std::move(without);
      else
        coded_ = transformed;
    }
    if (!best) unreachable(target, loss_of(target, coded_->measure_errors(plan_of(*adapted_.trained))));
    if (takes_dependent(best->outcome.bytes)) {
      std::optional<Measured> dependent = dependent_for_error(*best, target, wanted);
      if (dependent && dependent->outcome.bytes < best->outcome.bytes) best = std::move(dependent);
    }
    use(std::move(best->plan));
  }

  /// The plan with the fewest bytes whose error is at most `wanted`.
  template <class StepWithin, class AtStep>
  std::optional<Measured> cheapest(const Target& target, double wanted, StepWithin step_within,
                                   AtStep at_step) {
    coded_->gather();
    double correction = 1;
    std::optional<Measured> best;
    for (int pass = 0; pass < 7 || (pass == 7 && !best); ++pass) {
      // At last the finest, where what is left is the rounding of values.
      const double low = step_within(pass < 7 ? wanted * correction : 0);
      adapted_.trained = at_step(low);
      Measured found{plan_of(*adapted_.trained), {}};
      if (pass < 2 && coded_->improve_layouts(found.plan)) {
        coded_->gather();
        continue;
      }
      for (int round = 0; pass == 7 && round < 2 && coded_->improve_layouts(found.plan); ++round) {
        coded_->gather();
        adapted_.trained = at_step(low);
        found.plan = plan_of(*adapted_.trained);
      }
      if (!found.plan.possible) break;
      found.outcome = coded_->measure_errors(found.plan);
      const double error = loss_of(target, found.outcome);
      if (error <= wanted && (!best || found.outcome.bytes < best->outcome.bytes))
        best = std::move(found);
      else if (!best && low <= largest() * 0x1p-29)
        pass = std::max(pass, 6);
      if (error <= wanted && error >= 0.994 * wanted) break;
      correction *= 0.997 * wanted / std::max(error, 1e-300);
    }
    return best;
  }

  [[noreturn]] void unreachable(const Target& target, double loss) const {
    throw UnreachableTarget::below(share_of_loss(target, loss), target, "rdoq");
  }

  /// Without transforms: errors of coefficients add up in an element.
  void aim_largest_error(const Target& target) {
    coded_ = &plain_;
    if (largest() <= target.value) {
      drop_all();
      return;
    }
    coded_->gather();
    TrainingOptions training = training_options(0);
    training.uniform = true;
    double step = dither_ ? target.value : 2 * target.value, nearest = HUGE_VAL;
    double holds = 0, fails = HUGE_VAL;  // steps
    std::optional<Measured> best;
    for (int attempt = 0; attempt < 12; ++attempt) {
      adapted_.trained = train(coded_->atoms(), stored_step(step), training);
      Measured found{plan_of(*adapted_.trained), {}};
      if (attempt == 0 && coded_->improve_layouts(found.plan)) {
        coded_->gather();
        continue;
      }
      found.outcome = coded_->measure_errors(found.plan);
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
    if (best) {
      use(std::move(best->plan));
      return;
    }
    throw UnreachableTarget::below(nearest, target, "rdoq");
  }

  void use(RdoqPlan plan) {
    dropped_ = false;
    parameters_ = coded_->use(std::move(plan));
  }

  uint64_t drop_all() {
    dropped_ = true;
    parameters_ = write_rdoq_parameters({});
    return parameters_.size();
  }

  const TensorPool& pool_;
  Preset preset_;
  std::optional<double> fixed_lambda_;
  Transforming transforming_;
  bool dependent_levels_;
  /// Dependent where they save most, an eighth of the error or more, and tenths of a second do not matter.
  bool dependent_by_rate_;
  static constexpr uint64_t least_by_rate = uint64_t(1) << 17, most_by_rate = uint64_t(1) << 19;
  /// Scales of 64 elements: half as many as of 32, and some 1 % more error where the latter would be chosen.
  static constexpr ScaleLayout fast_least_run = 5;
  /// Best weight of a bit with dependent levels / without, measured at 8x to 100x.
  static constexpr double dependent_weight = 1.15;
  RdoqPool plain_;  ///< without transforms
  std::unique_ptr<RdoqPool> transformed_;
  RdoqPool* coded_ = &plain_;  ///< what is coded
  Adapted adapted_;
  std::vector<PoolSite> sites_;  ///< where transforms may be
  std::optional<TransformSearch> search_;
  double plain_won_at_ = 0;    ///< the aim at which a large pool was better off without transforms
  double plain_expected_ = 0;  ///< what the target leaves open without transforms: the error, or bytes
  std::string parameters_ = write_rdoq_parameters({});
  double aimed_ = 0, prepared_ = 0, expected_ = 0;
  double alone_aim_ = 0;                   ///< of the way that is coded
  std::optional<double> learned_;          ///< of a sample: bytes expected / bytes that the last aim took
  static constexpr double near_bytes = 2;  ///< of a small budget, as near as makes no difference
  static constexpr int chosen_rounds_ = 2;
  bool rows_choose_ = true;  ///< whether scales that rows choose are better than measured ones
  bool dropped_ = true;
  /// The last elements, where they are coded with another weight of a bit than the others.
  struct Tail {
    std::vector<TakenBlock> blocks;  ///< all, as they were at first
    double wanted = 0;               ///< bytes that all of them should take more than at first
    size_t first = 0;                ///< number of the first block of the tail
    uint64_t begins = 0;             ///< pool index of its first element
    double bytes = 0;                ///< that the tail took at first
    double lambda = 0;               ///< of the last try
    std::vector<std::pair<double, double>>
        tries;  ///< weights, and bytes more than at first; that of the others leads

    /// The weight to try next: between the tries beside what is wanted, or beyond them all.
    double next() const {
      std::pair<double, double> over{0, HUGE_VAL}, under{HUGE_VAL, -HUGE_VAL};
      for (const auto& [weight, more] : tries) {
        if (more > wanted && weight > over.first) over = {weight, more};
        if (more <= wanted && weight < under.first) under = {weight, more};
      }
      if (over.first > 0 && under.first < HUGE_VAL) {
        const double share = std::clamp((over.second - wanted) / (over.second - under.second), 0.1, 0.9);
        return over.first + share * (under.first - over.first);
      }
      const auto& [a, of_a] = tries[tries.size() - 2];
      const auto& [b, of_b] = tries.back();
      const double step = (wanted - of_b) / (of_b - of_a) * (b - a);
      return std::isfinite(step) ? std::clamp(b + step, b / 2, 2 * b) : b / 2;
    }
  };
  std::optional<Tail> tail_;
  std::optional<uint64_t> dither_;  ///< stream of random numbers, with stochastic rounding
  bool exact_ = false;              ///< the last aim took an exact copy
};

}  // namespace

const MethodRow rdoq_row = {
    {"rdoq",
     24,
     "rdoq: rate-distortion optimised quantization with scale contexts",
     "jsq; quantization by rate and distortion: Chou, Lookabaugh and Gray, IEEE Trans. ASSP 37, 1989; equal "
     "slopes: Shoham and Gersho, IEEE Trans. ASSP 36, 1988",
     "biased: decisions by rate and distortion shrink what is small; with stochastic rounding unbiased",
     "error feedback to converge",
     "allgather",
     "none",
     "all bits of the blocks",
     "nominal + step, tables and column scales, a few hundred bytes a frame",
     "cpu only: its context coder is one chain of steps",
     options,
     Sizing::continuous,
     {},
     false,
     Feedback::residual},
    nullptr,
    [](const TensorPool& pool, const MethodSpec& spec, const EncoderContext& context)
        -> std::unique_ptr<MethodEncoder> { return std::make_unique<RdoqEncoder>(pool, spec, context); },
    make_rdoq_decoder,
    nullptr,
    true,
    true};

}  // namespace jsq

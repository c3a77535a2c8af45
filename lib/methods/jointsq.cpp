// JointSQ (Xie et al., CVPR 2024): sparsification and quantization chosen together. Composition:
//   allocator (exact | literal | sampled, then reallocation)  x  class quantizer (cell | mid | offmag | sym)
//   x  class-block packers (map: raw | bitmap | rice | entropy; values: planes | entropy).
// This file holds the definition and the search for the payload budget that meets a byte or error target;
// what the noun modules do is not repeated here.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "jsq/error.hpp"
#include "lib/allocators/allocator.hpp"
#include "lib/core/bytes.hpp"
#include "lib/core/device.hpp"
#include "lib/methods/jointsq_errors.hpp"
#include "lib/methods/jointsq_parameters.hpp"
#include "lib/methods/jointsq_tally.hpp"
#include "lib/methods/method.hpp"
#include "lib/methods/options.hpp"
#include "lib/methods/scheme.hpp"
#include "lib/packers/class_block.hpp"
#include "lib/packers/class_device.hpp"

namespace jsq {
namespace {

using element::ClassQuantizer;

constexpr MethodOption options[] = {
    {"alloc", "exact|literal|sampled", "exact",
     "allocator: the optimum, the paper's text, or a sampled threshold trimmed by magnitude"},
    {"realloc", "none|paper|hill", "none",
     "reallocation after it: the paper's adaptive R, or a hill climb (widths 0248 only)"},
    {"rounds", "0..1000", "10", "rounds of reallocation at most (the paper's T)"},
    {"quant", "cell|mid|offmag|sym", "cell",
     "quantizer inside a class: cell has the least error, the others are unbiased on kept elements"},
    {"widths", "ascending digits 0..8", "0248", "the set B of widths in bits"},
    {"map", "auto|raw|bitmap|rice|entropy", "auto", "class map packer; auto takes the smallest"},
    {"values", "auto|planes|entropy", "auto",
     "value packer: fixed-width planes, or magnitude indices entropy-coded where it pays"},
    {"aware", "auto|0..64", "auto",
     "map bits charged to an element's first width (index-aware densities); auto tries several"},
    {"sample", "0.0001..1", "0.01", "share of the elements that alloc=sampled looks at"},
};

struct Options {
  AllocationOptions allocation;
  WidthSet widths;
  ClassQuantizer quantizer = ClassQuantizer::cell;
  bool stochastic = false;
  std::optional<MapPacker> map;
  bool values_coded = true;
  std::vector<double> extra_bits;  // candidates for q
};

Options parse_options(const MethodSpec& spec, const EncoderContext& context) {
  Options parsed;
  const OptionReader read(spec);
  const auto value = [&](std::string_view key) { return spec.option(key); };
  parsed.allocation.allocator = read.choice<AllocatorKind>("alloc", {{"exact", AllocatorKind::exact},
                                                                     {"literal", AllocatorKind::literal},
                                                                     {"sampled", AllocatorKind::sampled}});
  parsed.allocation.reallocation =
      read.choice<ReallocationKind>("realloc", {{"none", ReallocationKind::none},
                                                {"paper", ReallocationKind::paper},
                                                {"hill", ReallocationKind::hill}});
  parsed.allocation.rounds = uint32_t(read.integer("rounds", 0, 1000));
  parsed.allocation.sample_ratio = read.number("sample", 0.0001, 1, "a share of 0.0001..1");
  parsed.allocation.seed = context.stream;

  std::vector<uint32_t> widths;
  for (char digit : value("widths")) {
    if (digit < '0' || digit > '8') read.bad("widths", "ascending digits of 0..8, such as 0248");
    widths.push_back(uint32_t(digit - '0'));
  }
  parsed.widths = WidthSet(widths);
  parsed.quantizer = read.choice("quant", joint_quantizers);
  const bool has_width_1 = std::find(widths.begin(), widths.end(), 1u) != widths.end();
  if (parsed.quantizer == ClassQuantizer::sym && has_width_1)
    read.bad("quant", "a quantizer other than sym with width 1, since sym's only 1-bit level is zero");
  if (parsed.quantizer == ClassQuantizer::cell && context.rounding == Rounding::stochastic)
    throw Error(Errc::usage,
                "jointsq: quant=cell is deterministic; for stochastic rounding use quant=mid, offmag or sym");
  parsed.stochastic = parsed.quantizer != ClassQuantizer::cell && context.rounding != Rounding::nearest;

  if (value("map") != "auto") parsed.map = read.choice("map", joint_maps);
  if (parsed.map && (*parsed.map == MapPacker::bitmap || *parsed.map == MapPacker::rice) && widths[0] != 0)
    read.bad("map", "raw or entropy when no width is 0");
  const std::string_view values = value("values");
  if (values != "auto" && values != "planes" && values != "entropy")
    read.bad("values", "auto, planes or entropy");
  parsed.values_coded = values != "planes";
  if (value("aware") == "auto") {
    parsed.extra_bits = {0, 3, 8, 20};
  } else {
    parsed.extra_bits = {read.number("aware", 0, 64, "auto or a number of 0..64")};
  }
  if (widths[0] != 0 || parsed.allocation.allocator != AllocatorKind::exact) parsed.extra_bits = {0};
  return parsed;
}

/// One choice of payload budget, fully evaluated on a population.
struct Evaluation {
  uint64_t payload_bits = 0;
  double extra_bits = 0;
  Allocation allocation;
  JointSqParameters stored;
  std::array<bool, element::max_classes> present{};
  PoolTally tally;
  std::vector<ReallocationStep> log;
  double map_bits = 0, value_bits = 0;
  double expected_bytes = 0;  // parameters and blocks
};

/// The pool's blocks from the device.
class JointSqDeviceBlocks final : public DeviceBlocks {
 public:
  JointSqDeviceBlocks(cuda::PoolValues& values, const ClassCoder& coder,
                      const std::vector<cuda::BlockRange>& blocks)
      : plan_(coder.plan),
        coded_(on_device([&] { return values.encode(device_composition(coder), coder.symbols(), blocks); })) {
  }
  void next(std::string& out, BlockSums& sums) override {
    cuda::ClassSums found;
    out.append(on_device([&] { return coded_->next(found); }));
    sums = block_sums(plan_, found, true);
  }

 private:
  element::ClassPlan plan_;
  std::unique_ptr<cuda::CodedBlocks> coded_;
};

class JointSqEncoder final : public MethodEncoder {
 public:
  JointSqEncoder(const TensorPool& pool, const MethodSpec& spec, const EncoderContext& context)
      : pool_(pool), options_(parse_options(spec, context)), seed_(context.stream) {}

  void aim_native() override {
    throw Error(Errc::usage,
                "jointsq has no size of its own: give a target, such as ratio=32, bpw=1 or nmse=1e-3");
  }

  void shape_blocks(uint64_t body_bytes) override {
    if (!small()) set_block_size(double(body_bytes));
  }

  uint64_t aim_bytes(uint64_t body_bytes) override {
    set_block_size(double(body_bytes));
    const double wanted = double(body_bytes);
    const auto bytes = [&](const Evaluation& e) { return e.expected_bytes; };
    // The best charge q at this size, on the sample; later aims at nearly the same size keep it.
    if (!sample_choice_ || std::abs(wanted - aimed_) > 0.05 * aimed_) {
      std::optional<Evaluation> best;
      // The error on the sample is that of drawn roundings for some quantizers, so one charge that is no
      // better than the one before may be chance: two in a row end the search.
      const bool whole = elements_of(true) == elements_of(false);  // small: every charge is looked at closely
      const int most_no_better = options_.stochastic || whole ? 2 : 1;
      int no_better = 0;
      bool falls =
          seeks_least_error();  // whether less payload than fits has less error, as the charge before found
      // Of large pools less than half of the bytes are payload, nearly always.
      const uint64_t first_guess = whole ? 0 : uint64_t(0.4 * 8 * wanted / sample_->drawn.scale);
      for (double extra : options_.extra_bits) {
        Evaluation e =
            largest_within(true, extra, wanted, 0.005, bytes, best ? best->payload_bits : first_guess);
        if (falls || (whole && seeks_least_error())) {
          const uint64_t fullest = e.payload_bits;
          e = least_error_below(std::move(e), 0.85, true, wanted);
          falls = e.payload_bits < fullest;
        }
        if (best && e.tally.sums.squared_error >= best->tally.sums.squared_error) {
          if (++no_better == most_no_better) break;
          continue;
        }
        no_better = 0;
        best = std::move(e);
      }
      // The first charge has been looked at whether it falls or not.
      if (seeks_least_error() && !falls && !whole && best->extra_bits != options_.extra_bits.front())
        best = least_error_below(*std::move(best), 0.85, true, wanted);
      sample_choice_ = std::move(best);
      below_budget_ = sample_choice_->expected_bytes < 0.97 * wanted;
      least_error_bits_.reset();
      calibrate();
    }
    aimed_ = wanted;
    const auto scaled = uint64_t(double(sample_choice_->payload_bits) * sample_->drawn.scale);
    const uint64_t guess =
        chosen_ ? uint64_t(double(chosen_->payload_bits) * wanted / chosen_->expected_bytes) : scaled;
    if (below_budget_) {
      // More bits would add error here: the best allocation that fits is not the fullest.
      by_threshold_ = thresholds_do();
      chosen_ = seeks_least_error() && !least_error_bits_
                    ? least_error_of_pool(scaled, wanted)
                    : evaluate(false, least_error_bits_.value_or(scaled), sample_choice_->extra_bits);
      if (chosen_->expected_bytes <= wanted) {
        finish();
        return uint64_t(std::ceil(chosen_->expected_bytes));
      }
    }
    by_threshold_ = thresholds_do();
    // What a large pool takes is told a little off.
    chosen_ = largest_within(false, sample_choice_->extra_bits, small() ? wanted : 0.9985 * wanted,
                             small() ? 0.0005 : 0.003, bytes, guess, by_threshold_ ? 5 : 40);
    if (by_threshold_ && (chosen_->expected_bytes < 0.985 * wanted || chosen_->expected_bytes > wanted)) {
      // Thresholds alone cannot split the ties of this population: count elements instead.
      by_threshold_ = false;
      chosen_ =
          largest_within(false, sample_choice_->extra_bits, wanted, 0.004, bytes, chosen_->payload_bits);
    }
    if (sample_misleads()) {
      Evaluation best = least_error_of_pool(chosen_->payload_bits, wanted);
      if (best.payload_bits < chosen_->payload_bits) {
        below_budget_ = true;
        chosen_ = std::move(best);
      }
    }
    finish();
    return chosen_->expected_bytes <= wanted ? uint64_t(std::ceil(chosen_->expected_bytes)) : drop_all();
  }

  void aim_payload_bits(uint64_t payload_bits) override {
    if (payload_bits < least_bits(false))
      throw Error(Errc::unreachable_target,
                  fmt::format("a payload of {} bits is below the {} bits that width {} takes for {} "
                              "elements; add width 0 or allow more",
                              payload_bits, least_bits(false), options_.widths[0], pool_.summary().elements));
    set_block_size(double(payload_bits) / 8);
    by_threshold_ = false;
    sample_choice_ = evaluate(true, uint64_t(double(payload_bits) / sample_->drawn.scale), 0);
    chosen_ = evaluate(false, payload_bits, 0);
    finish();
  }

  void aim_error(const Target& asked) override {
    // The tallies of classes have no angles: a squared error that keeps the angle.
    const Target target = asked.kind == TargetKind::cosine ? nmse_within(asked) : asked;
    by_threshold_ = false;
    errors_ = Errors::measured;
    set_block_size(double(pool_.summary().elements) / 4);
    const auto metric = [&](const Evaluation& e) {
      double energy = 0;
      for (double class_energy : e.tally.sums.class_energy) energy += class_energy;
      switch (target.kind) {
        case TargetKind::maxabs:
          return double(e.tally.sums.max_error);
        case TargetKind::hprime:
          return noise_of(*e.tally.counts, e.tally.sums).per_element;
        default:
          return energy > 0 ? e.tally.sums.squared_error / energy
                            : (e.tally.sums.squared_error > 0 ? HUGE_VAL : 0.0);
      }
    };
    // The sample tells which charges q meet the target, in how few bytes, and about how many bits that takes.
    std::vector<Evaluation> candidates;
    for (double extra : options_.extra_bits) {
      const uint64_t most =
          target.kind == TargetKind::hprime
              ? most_bits(true)
              : least_error_below(evaluate(true, most_bits(true), extra), 0.95).payload_bits;
      candidates.push_back(smallest_within(true, extra, target.value, metric, least_bits(true), most));
    }
    const auto rank = [&](const Evaluation& e) {
      const bool meets = metric(e) <= target.value;
      return std::pair(!meets, meets ? e.expected_bytes : metric(e));
    };
    std::stable_sort(candidates.begin(), candidates.end(),
                     [&](const Evaluation& a, const Evaluation& b) { return rank(a) < rank(b); });
    std::vector<std::pair<double, uint64_t>> tried;  // charge and bits
    for (const Evaluation& candidate : candidates)
      tried.emplace_back(candidate.extra_bits, candidate.payload_bits);
    chosen_.reset();
    for (Evaluation& candidate : candidates) {
      Evaluation e = meet_error(candidate.extra_bits, target.value, metric,
                                uint64_t(double(candidate.payload_bits) * sample_->drawn.scale));
      if (!chosen_ || metric(e) < metric(*chosen_)) {
        chosen_ = std::move(e);
        sample_choice_ = std::move(candidate);
      }
      if (metric(*chosen_) <= target.value) break;
    }
    // An error may rise with the payload: the bits that the sample names can be better than those above them.
    for (size_t i = 0; i < tried.size() && metric(*chosen_) > target.value; ++i) {
      const auto [extra, bits] = tried[i];
      const auto whole = uint64_t(double(bits) * sample_->drawn.scale);
      Evaluation e = evaluate(false, std::clamp(whole, least_bits(false), most_bits(false)), extra);
      if (metric(e) >= metric(*chosen_)) continue;
      chosen_ = std::move(e);
      sample_choice_ = evaluate(true, bits, extra);
    }
    if (metric(*chosen_) > target.value)
      throw UnreachableTarget::below(
          metric(*chosen_), target,
          fmt::format("jointsq with widths up to {} bits", options_.widths.widest()));
    const double extra = chosen_->extra_bits;
    set_block_size(chosen_->expected_bytes);
    chosen_ = evaluate(false, chosen_->payload_bits, extra);
    errors_ = Errors::none;
    finish();
  }

  StoredSet stored_set(size_t) const override { return {jointsq_row.info.wire_id, parameters_}; }
  uint8_t block_log2(size_t) const override { return block_log2_; }

  void encode_block(size_t t, uint64_t first, std::span<const float> values, std::string& out,
                    BlockSums& sums) const override {
    const PoolTensor& tensor = pool_.tensors()[t];
    coder_.encode(values, tensor.first + first, first, tensor.number, tensor.info->dtype, out, sums);
  }

  void encode_unmeasured(size_t t, uint64_t first, std::span<const float> values, std::string& out,
                         BlockSums& sums) const override {
    const PoolTensor& tensor = pool_.tensors()[t];
    coder_.encode_unmeasured(values, tensor.first + first, first, tensor.number, out, sums);
  }

  size_t blocks_together(size_t) const override { return ClassCoder::encoded_together; }

  void encode_together(std::span<const Uncoded> blocks, bool measured) const override {
    std::array<UncodedBlock, ClassCoder::encoded_together> parts;
    for (size_t i = 0; i < blocks.size(); ++i) {
      const Uncoded& block = blocks[i];
      const PoolTensor& tensor = pool_.tensors()[block.tensor];
      parts[i] = {block.values,  tensor.first + block.first, block.first,
                  tensor.number, tensor.info->dtype,         block.out,
                  block.sums};
    }
    if (measured)
      coder_.encode(std::span(parts).first(blocks.size()));
    else
      coder_.encode_unmeasured(std::span(parts).first(blocks.size()));
  }

  std::unique_ptr<DeviceBlocks> encode_on_device() const override {
    if (pool_.device() == nullptr) return nullptr;
    return std::make_unique<JointSqDeviceBlocks>(*pool_.device(), coder_, pool_blocks(pool_, block_log2_));
  }

  PoolReport report(const BlockSums& total) const override {
    const uint32_t classes = options_.widths.size();
    PoolReport report;
    report.widths = options_.widths.widths();
    // What was dropped whole is in no block.
    report.expected_squared_error = dropped_ ? pool_.summary().energy : total.expected_error;
    // Counted while coding; what was not kept is in class 0.
    report.members.assign(total.members.begin(), total.members.begin() + classes);
    uint64_t kept = 0;
    for (uint64_t members : report.members) kept += members;
    report.members[0] += pool_.summary().elements - kept;
    report.noise = noise_of_classes(
        options_.widths, report.members,
        std::vector<double>(total.class_energy.begin(), total.class_energy.begin() + classes));
    if (dropped_) {
      // Everything decodes to zero, whatever the narrowest width is.
      report.payload_bits = 0;
      report.noise = {1, double(pool_.summary().elements), 1, 0, 0};
      report.map_packer = "none";
      return report;
    }
    for (uint32_t j = 0; j < classes; ++j) report.payload_bits += report.members[j] * options_.widths[j];
    report.entropy_bits = chosen_->map_bits + chosen_->value_bits;
    report.map_bytes = uint64_t(chosen_->map_bits / 8);
    report.value_bytes = uint64_t(chosen_->value_bits / 8);
    report.reallocation = chosen_->log;
    report.map_packer = choice_name(coder_.map, joint_maps);
    return report;
  }

 private:
  static constexpr size_t sample_elements = 1u << 16;
  static constexpr size_t own_sample_elements = 1u << 17;  ///< pools up to this size are their own sample
  static constexpr size_t whole_elements =
      MagnitudeIndex::sorted_elements;  ///< pools up to this size are tallied in full
  static constexpr size_t sample_block = 1u << 16;

  /// How evaluate() finds a pool's squared error.
  enum class Errors : uint8_t { none, modelled, measured };

  bool small() const { return pool_.summary().elements <= whole_elements; }

  uint64_t elements_of(bool on_sample) const {
    return on_sample ? sample_->drawn.values.size() : pool_.summary().elements;
  }
  uint64_t most_bits(bool on_sample) const { return elements_of(on_sample) * options_.widths.widest(); }
  uint64_t least_bits(bool on_sample) const { return elements_of(on_sample) * options_.widths[0]; }

  struct Sample {
    PoolSample drawn;
    SpanPopulation population;
    MagnitudeIndex index;
    Sample(const TensorPool& pool, size_t elements)
        : drawn(with_largest(sample_pool(pool, elements), pool.summary().max_key)),
          population(drawn.values, drawn.values.size() > MagnitudeIndex::sorted_elements),
          index(population) {}

    /// The largest magnitude says how coarse the cells of its class are, so the sample holds it.
    static PoolSample with_largest(PoolSample sample, uint32_t max_key) {
      uint32_t largest = 0;
      for (float g : sample.values) largest = std::max(largest, element::magnitude_key(g));
      if (largest < max_key) sample.values.back() = element::magnitude_of_key(max_key);
      return sample;
    }
  };

  /// Half of a sample holds enough kept elements where more than one in some dozens is kept.
  void draw_sample(double bytes_per_element) {
    if (sample_) return;
    const bool own = pool_.summary().elements <= own_sample_elements, half = bytes_per_element >= 1.0 / 32;
    sample_ = std::make_unique<Sample>(pool_, own    ? own_sample_elements
                                              : half ? sample_elements / 2
                                                     : sample_elements);
  }

  /// Blocks of 65,536 elements, or more at high ratios so that a block holds at least 16 KiB of code; at most
  /// 2^20.
  void set_block_size(double body_bytes) {
    const double bytes_per_element = body_bytes / double(std::max<uint64_t>(1, pool_.summary().elements));
    draw_sample(bytes_per_element);
    block_log2_ = 16;
    while (block_log2_ < 20 && std::ldexp(bytes_per_element, block_log2_) < 16384) ++block_log2_;
    uint64_t largest = 1;
    for (const PoolTensor& tensor : pool_.tensors()) largest = std::max(largest, tensor.info->elements());
    const double block_bytes = std::min(std::ldexp(1.0, block_log2_), double(largest)) * bytes_per_element;
    lanes_ = block_bytes >= 4096 ? 8 : block_bytes >= 1024 ? 4 : block_bytes >= 256 ? 2 : 1;
  }

  NoiseReport noise_of(const ClassTally& tally, const BlockSums& sums) const {
    const uint32_t classes = options_.widths.size();
    return noise_of_classes(
        options_.widths, std::vector<uint64_t>(tally.members.begin(), tally.members.begin() + classes),
        std::vector<double>(sums.class_energy.begin(), sums.class_energy.begin() + classes));
  }

  /// Of the whole pool: another pass, where the summary has counted the largest alone.
  MagnitudeIndex& index() {
    if (!index_) index_.emplace(pool_);
    return *index_;
  }

  /// From bins as they are, whatever has been split meanwhile: of the largest alone, as long as no others are
  /// kept, which gives the same allocation.
  Allocation allocate_pool_by_threshold(uint64_t payload_bits, double extra_bits) {
    const auto allocate_by_bins = [&] {
      return allocate_by_threshold(*bins_, options_.widths, payload_bits, extra_bits);
    };
    if (!bins_ && pool_.least_counted_key() > 0)
      bins_.emplace(pool_, pool_.histogram_of_largest(), pool_.least_counted_key());
    if (bins_ && bins_->first_key() > 0) {
      Allocation allocation = allocate_by_bins();
      const auto& keys = allocation.threshold_key;
      if (std::all_of(keys.begin() + 1, keys.end(), [&](uint32_t key) { return key >= bins_->first_key(); }))
        return allocation;
      bins_.reset();
    }
    if (!bins_) bins_.emplace(pool_, pool_.histogram(), 0);
    return allocate_by_bins();
  }

  Evaluation evaluate(bool on_sample, uint64_t payload_bits, double extra_bits) {
    Evaluation e;
    e.payload_bits = std::clamp(payload_bits, least_bits(on_sample), most_bits(on_sample));
    e.extra_bits = extra_bits;
    AllocationOptions allocation_options = options_.allocation;
    // A charge of next to nothing spares the last exchanges between elements, which say nothing about the
    // pool.
    const bool only_sample = on_sample && elements_of(true) < elements_of(false);
    allocation_options.first_extra_bits = only_sample ? std::max(extra_bits, 1e-6) : extra_bits;
    e.allocation = !on_sample && by_threshold_
                       ? allocate_pool_by_threshold(e.payload_bits, extra_bits)
                       : allocate(on_sample ? sample_->index : index(), options_.widths, e.payload_bits,
                                  allocation_options, &e.log);

    ClassCoder& coder = e.stored.coder;
    coder.plan.classes = options_.widths.size();
    coder.plan.quantizer = options_.quantizer;
    coder.plan.stochastic = options_.stochastic;
    coder.plan.seed = seed_;
    coder.lanes = lanes_;
    for (uint32_t j = 0; j < coder.plan.classes; ++j) {
      coder.plan.width[j] = options_.widths[j];
      coder.plan.threshold[j] = e.allocation.threshold_key[j];
      coder.plan.cutoff[j] = e.allocation.cutoff_index[j];
      e.present[j] = e.allocation.high_key[j] > 0;
      if (coder.plan.width[j] > 0)
        coder.plan.scale[j] = element::make_class_scale(options_.quantizer, coder.plan.width[j],
                                                        element::magnitude_of_key(e.allocation.low_key[j]),
                                                        element::magnitude_of_key(e.allocation.high_key[j]));
    }
    e.stored.widths = options_.widths.widths();
    e.stored.provenance =
        uint8_t(uint8_t(options_.allocation.allocator) | uint8_t(options_.allocation.reallocation) << 4);
    if (on_sample)
      tally_sample(e);
    else
      e.tally = tally_pool(pool_, coder, e.allocation, block_log2_,
                           errors_ == Errors::measured ? Tallied::all_with_errors
                           : small()                   ? Tallied::all
                                                       : Tallied::part);
    if (!on_sample && errors_ == Errors::modelled)
      e.tally.sums.squared_error = modelled_squared_error(index(), coder.plan);
    choose_packers(e, on_sample);
    return e;
  }

  void tally_sample(Evaluation& e) const {
    const std::span<const float> values = sample_->drawn.values;
    for (size_t at = 0; at < values.size(); at += sample_block) {
      BlockSums sums;
      e.stored.coder.tally(values.subspan(at, std::min(sample_block, values.size() - at)), at, at, 0,
                           DType::f32, *e.tally.counts, sums);
      e.tally.sums.add(sums);
    }
  }

  /// Picks the map packer (the smallest, unless one is asked for), the value coders, and what they are
  /// expected to take.
  void choose_packers(Evaluation& e, bool on_sample) const {
    ClassCoder& coder = e.stored.coder;
    const double scale = on_sample ? sample_->drawn.scale : 1.0;
    const double n = double(elements_of(on_sample));
    double blocks = 0;
    for (const PoolTensor& tensor : pool_.tensors())
      blocks += double((tensor.info->elements() + (uint64_t(1) << block_log2_) - 1) >> block_log2_);
    const double occupied = occupied_blocks(coder.plan);
    double prefix_bits = 0, kept = 0;
    for (uint32_t j = 1; j < coder.plan.classes; ++j) {
      prefix_bits += double(e.tally.counts->members[j]) * std::min(j, coder.plan.classes - 2);
      kept += double(e.tally.counts->members[j]);
    }
    if (options_.widths[0] > 0) kept = n;

    // Magnitudes are modelled the same way whatever the map is.
    const EntropyModel with_map = fit_entropy_model(e.tally.counts->entropy, coder.plan.classes,
                                                    widths_array(), true, options_.values_coded);
    const EntropyModel::Cost cost = with_map.cost(e.tally.counts->entropy),
                             of_chances =
                                 e.tally.chances ? with_map.cost(*e.tally.chances) : EntropyModel::Cost{};
    const double growth = growth_of_map(e.tally, with_map, n);
    double best = HUGE_VAL;
    for (MapPacker map : {MapPacker::entropy, MapPacker::raw, MapPacker::bitmap, MapPacker::rice}) {
      if (options_.map && *options_.map != map) continue;
      if (options_.widths[0] > 0 && (map == MapPacker::bitmap || map == MapPacker::rice)) continue;
      double map_bits = 0;
      switch (map) {
        case MapPacker::raw:
          map_bits = n * raw_map_bits(coder.plan.classes) + 4 * blocks / scale;
          break;
        case MapPacker::bitmap:
          map_bits = n + prefix_bits + 8 * blocks / scale;
          break;
        case MapPacker::rice:
          map_bits = growth * double(e.tally.counts->rice_bits);
          break;
        case MapPacker::entropy:
          map_bits = growth * double(cost.map_q16 - of_chances.map_q16) / 65536;
          break;
        case MapPacker::index32:
        case MapPacker::packed:
          break;  // not among jointsq's
      }
      double value_bits = double(cost.magnitudes_q16 - of_chances.magnitudes_q16) / 65536;
      if (options_.widths[0] > 0) value_bits += double(e.tally.counts->members[0]) * options_.widths[0];
      map_bits *= scale;
      value_bits *= scale;
      const EntropyModel model = map == MapPacker::entropy ? with_map : with_map.without_map();
      const double block_bytes =
          kept > 0 ? fixed_bytes(model, (map_bits + value_bits) / 8 / std::max(occupied, 1.0)) : 0.0;
      const double parameter_bytes = double(size_of_parameters(coder.plan, e.present, model));
      const double bytes =
          calibration_ * (map_bits + value_bits) / 8 + block_bytes * occupied + parameter_bytes;
      if (bytes >= best) continue;
      best = bytes;
      e.expected_bytes = bytes;
      e.map_bits = map_bits;
      e.value_bits = value_bits;
      coder.map = map;
      coder.model = model;
    }
  }

  /// Blocks that keep anything: of short tensors, which are one, many may have only small magnitudes.
  double occupied_blocks(const element::ClassPlan& plan) const {
    double occupied = 0;
    for (size_t t = 0; t < pool_.tensors().size(); ++t) {
      const PoolTensor& tensor = pool_.tensors()[t];
      const uint64_t blocks = (tensor.info->elements() + (uint64_t(1) << block_log2_) - 1) >> block_log2_;
      const bool empty = blocks == 1 && plan.width[0] == 0 &&
                         pool_.statistics(t).max_key < element::effective_threshold(plan, 1, tensor.first);
      occupied += empty ? 0.0 : double(blocks);
    }
    return occupied;
  }

  /// Of a block that keeps anything, in `average` bytes beside these: the stream has a length, the planes
  /// padding. States start at 2^16 and end anywhere below 2^32, evenly in logarithms, so three of each lane's
  /// four bytes are lost; where the sample is coded, the third is found there.
  double fixed_bytes(const EntropyModel& model, double average) const {
    const double length = average < 128 ? 1 : 2;
    return (model.uses_rans() ? length + (small() ? 2.0 : 3.0) * lanes_ : 0.0) + 1.0;
  }

  /// Codes the sample with the choice made on it: what a coded bit really takes, beside what the model
  /// expects of it. That hardly differs; of large pools a sample's few bytes would say less.
  void calibrate() {
    if (!small()) return;
    ClassCoder coder = sample_choice_->stored.coder;
    coder.prepare_encoding();
    std::string coded;
    const std::span<const float> values = sample_->drawn.values;
    double blocks = 0;
    for (size_t at = 0; at < values.size(); at += sample_block, ++blocks) {
      BlockSums sums;
      coder.encode(values.subspan(at, std::min(sample_block, values.size() - at)), at, at, 0, DType::f32,
                   coded, sums);
    }
    const double expected =
        (sample_choice_->map_bits + sample_choice_->value_bits) / 8 / sample_->drawn.scale;
    const double measured = double(coded.size()) -
                            blocks * fixed_bytes(coder.model, double(coded.size()) / std::max(blocks, 1.0));
    if (expected > 0 && measured > 0) calibration_ = std::clamp(measured / expected, 0.95, 1.05);
  }

  std::array<uint8_t, element::max_classes> widths_array() const {
    std::array<uint8_t, element::max_classes> widths{};
    for (uint32_t j = 0; j < options_.widths.size(); ++j) widths[j] = uint8_t(options_.widths[j]);
    return widths;
  }

  /// The evaluation with the largest payload budget whose `size` is at most `wanted`, within `slack` of it
  /// where the size can be reached; or the smallest budget when none fits. Deterministic; about six
  /// evaluations from a fair guess.
  template <class Size>
  Evaluation largest_within(bool on_sample, double extra_bits, double wanted, double slack, Size size,
                            uint64_t guess, int rounds = 40) {
    const uint64_t least = least_bits(on_sample), most = most_bits(on_sample);
    uint64_t low = least,
             high = most;  // sizes at `low` fit (or low is the least), at `high` do not (or high is the most)
    std::optional<Evaluation> fits, exceeds;
    uint64_t next =
        std::clamp(guess > 0 ? guess : uint64_t(wanted * 8 / (on_sample ? sample_->drawn.scale : 1.0) * 0.6),
                   least, most);
    for (int round = 0; round < rounds; ++round) {
      Evaluation e = evaluate(on_sample, next, extra_bits);
      if (size(e) <= wanted) {
        const bool close = size(e) >= wanted * (1 - slack);
        low = next;
        fits = std::move(e);
        if (close || next == most) return *std::move(fits);
      } else {
        high = next;
        exceeds = std::move(e);
        if (next == least) return fits ? *std::move(fits) : *std::move(exceeds);
      }
      if (high - low <= 1 && fits) return *std::move(fits);
      // Interpolate size(bits) in logarithms between the two sides (or scale from one), aiming inside the
      // slack.
      const double aim = wanted * (1 - slack / 2);
      double estimate = 0;
      if (fits && exceeds && size(*fits) > 0 && low > 0) {
        const double slope = std::log(double(high) / double(low)) / std::log(size(*exceeds) / size(*fits));
        estimate = double(low) * std::exp(std::clamp(slope * std::log(aim / size(*fits)), -3.0, 3.0));
        if (high < low * 5 / 4) elasticity_ = std::clamp(slope, 0.5, 3.0);
        if (round % 4 == 3) estimate = 0.5 * (double(low) + double(high));
      } else if (fits) {
        estimate =
            double(low) * std::clamp(std::pow(aim / std::max(size(*fits), 1.0), elasticity_), 1.0001, 8.0) +
            2;
      } else {
        estimate = double(high) * std::clamp(std::pow(aim / size(*exceeds), elasticity_), 0.05, 0.9999) - 2;
      }
      const uint64_t rounded = estimate < double(least)  ? least
                               : estimate > double(most) ? most
                                                         : uint64_t(estimate);
      next = std::clamp(rounded, fits ? low + 1 : least, exceeds ? high - 1 : most);
      if (exceeds && !fits && next >= high) next = least;
    }
    return fits ? *std::move(fits) : *std::move(exceeds);
  }

  /// Whether a large pool's classes need no exact numbers of members.
  bool thresholds_do() const {
    return !small() && options_.allocation.allocator == AllocatorKind::exact &&
           options_.allocation.reallocation == ReallocationKind::none;
  }

  /// Faithful variants spend the whole budget, also where that adds error; the default composition need not.
  bool seeks_least_error() const {
    return options_.allocation.allocator == AllocatorKind::exact &&
           options_.quantizer == ClassQuantizer::cell;
  }

  /// Whether the pool holds magnitudes so far above those of the sample that its classes are much coarser:
  /// their cells alone leave more error than the sample promised.
  bool sample_misleads() const {
    if (!seeks_least_error() || elements_of(true) == elements_of(false)) return false;
    double cells = 0;
    for (uint32_t j = 1; j < chosen_->stored.coder.plan.classes; ++j) {
      const double step = chosen_->stored.coder.plan.scale[j].step;
      cells += double(chosen_->tally.counts->members[j]) * step * step / 12;
    }
    return cells > 2 * sample_choice_->tally.sums.squared_error * sample_->drawn.scale;
  }

  /// The least error of the pool in at most `most_bytes`, from a payload that the sample found; errors are
  /// measured, or those of large pools modelled.
  Evaluation least_error_of_pool(uint64_t payload_bits, double most_bytes) {
    errors_ = small() ? Errors::measured : Errors::modelled;
    Evaluation best =
        least_error_below(evaluate(false, payload_bits, sample_choice_->extra_bits), 0.85, false, most_bytes);
    // What a sample of little but zeros needs says little about the pool: where less does not help, more may,
    // in growing steps.
    const bool fell = best.payload_bits < payload_bits;
    bool rose = false;
    for (double growth = 1.25; !fell && growth < 1e6; growth *= growth) {
      Evaluation e = evaluate(false, uint64_t(double(best.payload_bits) * growth), best.extra_bits);
      if (e.expected_bytes > most_bytes || e.tally.sums.squared_error >= best.tally.sums.squared_error) break;
      best = std::move(e);
      rose = true;
    }
    if (rose) best = least_error_below(std::move(best), 0.85, false, most_bytes);
    errors_ = Errors::none;
    least_error_bits_ = best.payload_bits;
    return best;
  }

  /// A class quantizer's real error does not always fall with the payload: a widest class that reaches far
  /// down has coarse cells. Follows the error downwards from the largest budget that fits, while it falls,
  /// then looks nearer.
  Evaluation least_error_below(Evaluation fullest, double step = 0.85, bool on_sample = true,
                               double most_bytes = HUGE_VAL) {
    Evaluation best = std::move(fullest);
    // What the classes take: a payload that holds all values at the widest width may leave the rest unused.
    const auto taken = [&](const Evaluation& e) {
      uint64_t bits = 0;
      for (uint32_t j = 0; j < e.stored.coder.plan.classes; ++j)
        bits += e.tally.counts->members[j] * e.stored.coder.plan.width[j];
      return double(std::min(bits, e.payload_bits));
    };
    const double end = 0.003 * taken(best);
    const auto is_better = [&](double payload_bits) {
      Evaluation e = evaluate(on_sample, uint64_t(payload_bits), best.extra_bits);
      if (e.tally.sums.squared_error >= best.tally.sums.squared_error || e.expected_bytes > most_bytes)
        return false;
      best = std::move(e);
      return true;
    };
    bool fell = false;
    while (taken(best) > end && is_better(taken(best) * step)) fell = true;
    for (double near = std::sqrt(step); fell && near < 0.985; near = std::sqrt(near)) {
      const double middle = taken(best);
      if (!is_better(middle * near)) is_better(middle / near);
    }
    return best;
  }

  /// The evaluation with the fewest payload bits in [low, high] whose error is at most `target`, to one part
  /// in 1,024; that at `high` when none is.
  template <class Metric>
  Evaluation smallest_within(bool on_sample, double extra_bits, double target, Metric metric, uint64_t low,
                             uint64_t high) {
    Evaluation best = evaluate(on_sample, low, extra_bits);
    if (metric(best) <= target) return best;
    best = evaluate(on_sample, high, extra_bits);
    if (metric(best) > target) return best;
    while (high - low > std::max<uint64_t>(1, high / 1024)) {
      const uint64_t middle =
          low > 0 && high / low < 4 ? low + (high - low) / 2 : std::max(low + 1, high / 4);
      Evaluation e = evaluate(on_sample, std::clamp(middle, low + 1, high - 1), extra_bits);
      if (metric(e) <= target) {
        high = e.payload_bits;
        best = std::move(e);
      } else {
        low = e.payload_bits;
      }
    }
    return best;
  }

  /// Brackets the target around the sample's answer on the whole pool, then bisects. Where nothing meets the
  /// target, the evaluation with the least error that was met.
  template <class Metric>
  Evaluation meet_error(double extra_bits, double target, Metric metric, uint64_t guess) {
    const uint64_t least = least_bits(false), most = most_bits(false);
    uint64_t low = least, high = std::clamp(guess + guess / 50 + 1, least, most);
    Evaluation nearest = evaluate(false, high, extra_bits);
    while (metric(nearest) > target && high < most) {
      low = high;
      high = std::min(most, high + high / 8 + 1);
      Evaluation e = evaluate(false, high, extra_bits);
      if (metric(e) >= metric(nearest)) break;  // more bits do not help any more
      nearest = std::move(e);
    }
    if (metric(nearest) > target) return nearest;
    high = nearest.payload_bits;
    if (low == least && high > 64) {
      const uint64_t below = std::max(least, high - high / 12);
      if (metric(evaluate(false, below, extra_bits)) > target) low = below;
    }
    return smallest_within(false, extra_bits, target, metric, low, high);
  }

  void finish() {
    dropped_ = false;
    coder_ = chosen_->stored.coder;
    coder_.prepare_encoding();
    parameters_ = write_parameters(chosen_->stored, chosen_->present);
  }

  /// Nothing fits: every element in a class of width 0, which takes no bytes.
  uint64_t drop_all() {
    dropped_ = true;
    JointSqParameters nothing;
    nothing.coder.plan.classes = 1;
    nothing.coder.map = MapPacker::raw;
    nothing.coder.lanes = 1;
    parameters_ = write_parameters(nothing, {});
    coder_ = nothing.coder;
    return parameters_.size();
  }

  const TensorPool& pool_;
  Options options_;
  uint64_t seed_;
  std::unique_ptr<Sample> sample_;              ///< drawn by the first aim
  std::optional<MagnitudeIndex> index_, bins_;  ///< once asked for; of bins that are never split
  std::optional<Evaluation> sample_choice_, chosen_;
  ClassCoder coder_;
  double aimed_ = 0;
  double calibration_ = 1;                    ///< coded bytes / expected bytes, from the sample
  double elasticity_ = 1.2;                   ///< d log(payload bits) / d log(bytes) near the last aim
  std::optional<uint64_t> least_error_bits_;  ///< payload bits of the least error of the pool, once searched
  bool below_budget_ = false;                 ///< the least error lies well below the byte budget
  bool by_threshold_ = false;
  Errors errors_ = Errors::none;
  std::string parameters_;
  uint8_t block_log2_ = 16;
  uint32_t lanes_ = 8;
  bool dropped_ = false;
};

}  // namespace

const MethodRow jointsq_row = {
    {"jointsq",
     1,
     "JointSQ: joint sparsification-quantization",
     "Xie et al., JointSQ: Joint Sparsification-Quantization for Distributed Learning, CVPR 2024, Eqs. 3-16",
     "biased: elements of width 0 are dropped; mid, offmag and sym are unbiased on the others",
     "error feedback to converge",
     "allgather",
     "none (cell), one a kept element (mid, offmag, sym)",
     "sum of the widths / elements",
     "nominal + class map, 1.2 to 1.7 at 8x to 32x, 0.12 at 1000x, less with run activities",
     "cpu, cuda",
     options,
     Sizing::continuous,
     {},
     false,
     Feedback::residual},
    nullptr,
    [](const TensorPool& pool, const MethodSpec& spec, const EncoderContext& context)
        -> std::unique_ptr<MethodEncoder> { return std::make_unique<JointSqEncoder>(pool, spec, context); },
    make_jointsq_decoder,
    nullptr,
    false,
    true,
    // An element that is kept takes five bits or more, all in all, where few are; half again as many, since
    // what the budget does keep is known later.
    [](const MethodSpec& spec, double bits) {
      const bool by_threshold = spec.option("alloc") == "exact" && spec.option("realloc") == "none" &&
                                spec.option("widths").starts_with('0');
      return by_threshold ? std::min(1.0, 0.3 * bits) : 1.0;
    }};

}  // namespace jsq

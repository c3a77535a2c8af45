// JointSQ (Xie et al., CVPR 2024): sparsification and quantization chosen together. Composition:
//   allocator (exact | literal | sampled, then reallocation)  x  class quantizer (cell | mid | offmag | sym)
//   x  class-block packers (map: raw | bitmap | rice | entropy; values: planes | entropy).
// This file holds the definition and the search for the payload budget that meets a byte or error target;
// what the noun modules do is not repeated here.
#include <fmt/format.h>
#include <tbb/enumerable_thread_specific.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <optional>

#include "jsq/error.hpp"
#include "lib/allocators/allocator.hpp"
#include "lib/core/bytes.hpp"
#include "lib/core/device.hpp"
#include "lib/core/scattered.hpp"
#include "lib/methods/jointsq_errors.hpp"
#include "lib/methods/jointsq_parameters.hpp"
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
  // Apart, since evaluations are moved about.
  std::unique_ptr<ClassTally> tally = std::make_unique<ClassTally>();
  std::unique_ptr<EntropyCounts>
      chances;  ///< what the tally counts of symbols that were given a chance, not met
  BlockSums sums;
  std::vector<ReallocationStep> log;
  double map_bits = 0, value_bits = 0;
  double growth_of_kept = 1;  ///< elements that are kept / those that the tally's map stands for
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
        if (best && e.sums.squared_error >= best->sums.squared_error) {
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
      for (double class_energy : e.sums.class_energy) energy += class_energy;
      switch (target.kind) {
        case TargetKind::maxabs:
          return double(e.sums.max_error);
        case TargetKind::hprime:
          return noise_of(*e.tally, e.sums).per_element;
        default:
          return energy > 0 ? e.sums.squared_error / energy : (e.sums.squared_error > 0 ? HUGE_VAL : 0.0);
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

  size_t blocks_together(size_t) const override {
    return ClassCoder::encoded_together(size_t(1) << block_log2_);
  }

  void encode_together(size_t t, std::span<const Uncoded> blocks, bool measured) const override {
    const PoolTensor& tensor = pool_.tensors()[t];
    std::vector<UncodedBlock> parts;
    for (const Uncoded& block : blocks)
      parts.push_back(
          {block.values, tensor.first + block.first, block.first, tensor.number, block.out, block.sums});
    if (measured)
      coder_.encode(parts, tensor.info->dtype);
    else
      coder_.encode_unmeasured(parts);
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

  static constexpr uint64_t plenty = uint64_t(1) << 21,
                            most_counted = 8 * plenty;  ///< elements of a pool that are tallied, counted

  /// Ranges that are counted of a large pool, whatever its blocks are: short, so that those of which the
  /// magnitudes are tallied, or even the classes are counted, come from every layer.
  static constexpr uint8_t range_log2 = 13, spread_log2 = 12;
  /// Of so many ranges one is counted where not all are: two counts and two whole passes, which is what
  /// coding takes, read the values less than 2.2 times.
  static constexpr uint32_t spread = 20;

  /// One range of each spread, not in step with the rows of a matrix.
  std::vector<cuda::BlockRange> spread_ranges() const {
    constexpr uint64_t length = uint64_t(1) << spread_log2;
    std::vector<cuda::BlockRange> ranges;
    uint32_t number = 0;
    for (size_t t = 0; t < pool_.tensors().size(); ++t) {
      const uint64_t elements = pool_.tensors()[t].info->elements();
      for (uint64_t first = 0; first < elements; first += length, ++number)
        if (number % spread == scattered_place(number / spread, spread))
          ranges.push_back({t, first, size_t(std::min(length, elements - first))});
    }
    return ranges;
  }

  /// How evaluate() finds a pool's squared error.
  enum class Errors : uint8_t { none, modelled, measured };

  template <class Counts>
  static uint64_t sum_of(const Counts& counts) {
    return std::accumulate(counts.begin(), counts.end(), uint64_t(0));
  }

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
      tally_pool(e);
    if (!on_sample && errors_ == Errors::modelled)
      e.sums.squared_error = modelled_squared_error(index(), coder.plan);
    choose_packers(e, on_sample);
    return e;
  }

  void tally_sample(Evaluation& e) const {
    const std::span<const float> values = sample_->drawn.values;
    for (size_t at = 0; at < values.size(); at += sample_block) {
      BlockSums sums;
      e.stored.coder.tally(values.subspan(at, std::min(sample_block, values.size() - at)), at, at, 0,
                           DType::f32, *e.tally, sums);
      e.sums.add(sums);
    }
  }

  /// Small pools, and searches for an error, are tallied in full. Otherwise classes are counted in every
  /// block, or in a part of the blocks at even distances where that is plenty, and magnitudes in fewer; both
  /// stand in for the whole, every symbol being given a chance.
  void tally_pool(Evaluation& e) const {
    const bool in_full = small() || errors_ == Errors::measured;
    // Of a dozen large blocks a third would say little about the rest: ranges are counted in their place.
    // Only where all are counted is it known which symbols occur.
    const uint64_t elements = pool_.summary().elements, tallied_elements = std::min(plenty, elements / 4);
    const bool sampled = !in_full && elements >= most_counted;
    const std::vector<cuda::BlockRange> blocks =
        sampled ? spread_ranges() : pool_blocks(pool_, in_full ? block_log2_ : range_log2);
    const size_t stride =
        in_full ? 1 : size_t(std::max<uint64_t>(1, elements / (sampled ? spread : 1) / tallied_elements));
    std::vector<BlockSums> sums(blocks.size());
    struct Tallies {
      ClassTally counted, tallied;
    };
    ClassTally tallied;
    if (pool_.device() != nullptr) {
      Tallies found = tally_on_device<Tallies>(e.stored.coder, blocks, stride, sums);
      tallied = found.tallied;
      e.tally->merge(found.counted);
    } else {
      tbb::enumerable_thread_specific<Tallies> tallies;
      tbb::parallel_for(size_t(0), blocks.size(), [&](size_t i) {
        static thread_local std::vector<float> scratch;
        const cuda::BlockRange& block = blocks[i];
        const PoolTensor& tensor = pool_.tensors()[block.tensor];
        const std::span<const float> values = pool_.read(block.tensor, block.first, block.count, scratch);
        const ClassCoder& coder = e.stored.coder;
        Tallies& local = tallies.local();
        if (errors_ == Errors::measured)
          coder.tally(values, tensor.first + block.first, block.first, tensor.number, tensor.info->dtype,
                      local.tallied, sums[i]);
        else if (i % stride == 0)
          coder.tally_symbols(values, tensor.first + block.first, block.first, tensor.number, local.tallied);
        else
          coder.count(values, tensor.first + block.first, local.counted);
      });
      for (const Tallies& local : tallies) {
        tallied.merge(local.tallied);
        e.tally->merge(local.counted);
      }
    }
    for (const BlockSums& block : sums) e.sums.add(block);
    e.tally->merge(tallied);
    if (!in_full) e.chances = std::make_unique<EntropyCounts>();
    if (sampled)
      extrapolate_classes(e, blocks.size());
    else if (!in_full && block_log2_ > range_log2)
      join_ranges(e);
    if (sampled || stride > 1) extrapolate_magnitudes(e, tallied);
  }

  /// Counts blocks on the device, every stride-th in full.
  template <class Tallies>
  Tallies tally_on_device(const ClassCoder& coder, const std::vector<cuda::BlockRange>& blocks, size_t stride,
                          std::vector<BlockSums>& sums) const {
    std::vector<uint8_t> in_full(blocks.size());
    for (size_t i = 0; i < blocks.size(); i += stride) in_full[i] = 1;
    cuda::ClassCounts tallied_counts, counted_counts;
    std::vector<cuda::ClassSums> found(blocks.size());
    on_device([&] {
      pool_.device()->tally(device_composition(coder), blocks, in_full, tallied_counts, counted_counts,
                            found);
    });
    for (size_t i = 0; i < blocks.size(); i += stride) sums[i] = block_sums(coder.plan, found[i], false);
    return {class_tally(counted_counts), class_tally(tallied_counts)};
  }

  /// Inside a block the runs on both sides of a range's end follow each other, which no range has counted:
  /// every activity that occurs may follow every other.
  static void join_ranges(Evaluation& e) {
    std::array<bool, element::max_activity_buckets> occurs{};
    for (const SymbolCounts& following : e.tally->entropy.activity)
      for (uint32_t b = 0; b < element::max_activity_buckets; ++b) occurs[b] |= following[b] > 0;
    for (uint32_t b = 0; b < element::max_activity_buckets; ++b)
      for (uint32_t next = 0; next < element::max_activity_buckets; ++next) {
        e.chances->activity[b][next] = occurs[b] && occurs[next];
        e.tally->entropy.activity[b][next] += e.chances->activity[b][next];
      }
  }

  /// Counts of `ranges` ranges become those of the pool, of which the allocation knows how many elements are
  /// in every class.
  void extrapolate_classes(Evaluation& e, size_t ranges) const {
    const uint32_t classes = e.stored.coder.plan.classes;
    ClassTally& tally = *e.tally;
    const double elements = double(pool_.summary().elements);
    const double scale = elements / double(std::max<uint64_t>(1, sum_of(tally.members)));
    const double kept_of_ranges = scale * double(sum_of(tally.members) - tally.members[0]);
    for (uint32_t j = 0; j < classes; ++j) tally.members[j] = e.allocation.members(j) + 1;
    const double kept = double(sum_of(tally.members) - tally.members[0]);
    if (kept_of_ranges > 0) e.growth_of_kept = kept / kept_of_ranges;

    const uint32_t buckets = element::activity_bucket(element::run_length * (classes - 1)) + 1;
    const auto extend = [](uint64_t& count, double by) { count = uint64_t(double(count) * by) + 1; };
    // Blocks, of which there are few, begin as if a quiet run came before. So do ranges, but in a block their
    // first runs follow others as all runs do.
    SymbolCounts follows{};
    for (const SymbolCounts& row : tally.entropy.activity)
      for (uint32_t b = 0; b < buckets; ++b) follows[b] += row[b];
    const double first = double(ranges) / double(std::max<uint64_t>(1, sum_of(follows)));
    for (uint32_t b = 0; b < buckets; ++b) {
      uint64_t& count = tally.entropy.activity[0][b];
      count -= std::min(count, uint64_t(first * double(follows[b])));
    }
    for (uint32_t b = 0; b < buckets; ++b) {
      for (uint32_t next = 0; next < buckets; ++next)
        extend(tally.entropy.activity[b][next], scale / (1 - first));
      for (uint32_t j = 0; j < classes; ++j) extend(tally.entropy.classes[b][j], scale);
    }
  }

  /// By how much the bits of a map grow with what it keeps: as runs of each activity bring both, but no
  /// faster than where elements are independent.
  static double growth_of_map(const Evaluation& e, const EntropyModel& model, double elements) {
    if (e.growth_of_kept == 1) return 1;
    const EntropyCounts& counts = e.tally->entropy;
    double kept_bits = 0, kept_squared = 0, all_kept = 0, all_bits = 0;
    for (uint32_t b = 0; b < model.buckets; ++b) {
      double runs = 0, kept = 0;
      EntropyCounts of_bucket;
      for (uint32_t previous = 0; previous < model.buckets; ++previous) {
        of_bucket.activity[previous][b] = counts.activity[previous][b];
        runs += double(counts.activity[previous][b]);
      }
      of_bucket.classes[b] = counts.classes[b];
      for (uint32_t j = 1; b > 0 && j < model.classes; ++j) kept += double(counts.classes[b][j]);
      const double bits = double(model.cost(of_bucket).map_q16) / 65536;
      kept_bits += kept * bits / std::max(runs, 1.0);
      kept_squared += kept * kept / std::max(runs, 1.0);
      all_kept += kept;
      all_bits += bits;
    }
    if (kept_squared == 0 || all_bits == 0) return 1;
    const double p = all_kept / elements;
    const double by_runs = kept_bits / kept_squared * all_kept / all_bits;
    const double alone =
        p < 0.5 ? p * std::log2(1 / p - 1) / (p * std::log2(1 / p) + (1 - p) * std::log2(1 / (1 - p))) : 0;
    return std::pow(e.growth_of_kept, std::min(by_runs, alone));
  }

  void extrapolate_magnitudes(Evaluation& e, const ClassTally& known) const {
    uint64_t known_elements = 0;
    for (uint64_t members : known.members) known_elements += members;
    e.tally->rice_bits = uint64_t(double(known.rice_bits) * double(pool_.summary().elements) /
                                  double(std::max<uint64_t>(1, known_elements)));
    for (uint32_t j = 0; j < e.stored.coder.plan.classes; ++j) {
      if (e.tally->members[j] == 0) continue;
      const uint32_t symbols = 1u << element::coded_magnitude_bits(e.stored.coder.plan.width[j]);
      const double scale = known.members[j] ? double(e.tally->members[j]) / double(known.members[j]) : 0.0;
      for (uint32_t b = 0; b < element::max_activity_buckets; ++b)
        for (uint32_t s = 0; s < symbols; ++s) {
          e.tally->entropy.magnitude[j][b][s] =
              uint64_t(double(known.entropy.magnitude[j][b][s]) * scale) + 1;
          e.chances->magnitude[j][b][s] = 1;
        }
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
    double prefix_bits = 0, kept = 0;
    for (uint32_t j = 1; j < coder.plan.classes; ++j) {
      prefix_bits += double(e.tally->members[j]) * std::min(j, coder.plan.classes - 2);
      kept += double(e.tally->members[j]);
    }
    if (options_.widths[0] > 0) kept = n;

    // Magnitudes are modelled the same way whatever the map is.
    const EntropyModel with_map =
        fit_entropy_model(e.tally->entropy, coder.plan.classes, widths_array(), true, options_.values_coded);
    const EntropyModel::Cost cost = with_map.cost(e.tally->entropy),
                             of_chances = e.chances ? with_map.cost(*e.chances) : EntropyModel::Cost{};
    const double growth = growth_of_map(e, with_map, n);
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
          map_bits = growth * double(e.tally->rice_bits);
          break;
        case MapPacker::entropy:
          map_bits = growth * double(cost.map_q16 - of_chances.map_q16) / 65536;
          break;
        case MapPacker::index32:
        case MapPacker::packed:
          break;  // not among jointsq's
      }
      double value_bits = double(cost.magnitudes_q16 - of_chances.magnitudes_q16) / 65536;
      if (options_.widths[0] > 0) value_bits += double(e.tally->members[0]) * options_.widths[0];
      map_bits *= scale;
      value_bits *= scale;
      const EntropyModel model = map == MapPacker::entropy ? with_map : with_map.without_map();
      const double block_bytes = kept > 0 ? fixed_bytes(model) : 0.0;
      const double parameter_bytes = double(size_of_parameters(coder.plan, e.present, model));
      const double bytes =
          calibration_ * (map_bits + value_bits) / 8 + block_bytes * blocks + parameter_bytes;
      if (bytes >= best) continue;
      best = bytes;
      e.expected_bytes = bytes;
      e.map_bits = map_bits;
      e.value_bits = value_bits;
      coder.map = map;
      coder.model = model;
    }
  }

  /// Of a block that keeps anything: the stream has a length, the planes padding. States start at 2^16 and
  /// end anywhere below 2^32, evenly in logarithms, so three of each lane's four bytes are lost; where the
  /// sample is coded, the third is found there.
  double fixed_bytes(const EntropyModel& model) const {
    return (model.uses_rans() ? 2.0 + (small() ? 2.0 : 3.0) * lanes_ : 0.0) + 1.0;
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
    const double measured = double(coded.size()) - blocks * fixed_bytes(coder.model);
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
      cells += double(chosen_->tally->members[j]) * step * step / 12;
    }
    return cells > 2 * sample_choice_->sums.squared_error * sample_->drawn.scale;
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
      if (e.expected_bytes > most_bytes || e.sums.squared_error >= best.sums.squared_error) break;
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
        bits += e.tally->members[j] * e.stored.coder.plan.width[j];
      return double(std::min(bits, e.payload_bits));
    };
    const double end = 0.003 * taken(best);
    const auto is_better = [&](double payload_bits) {
      Evaluation e = evaluate(on_sample, uint64_t(payload_bits), best.extra_bits);
      if (e.sums.squared_error >= best.sums.squared_error || e.expected_bytes > most_bytes) return false;
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

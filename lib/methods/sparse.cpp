#include "lib/methods/sparse.hpp"

#include <fmt/format.h>
#include <tbb/enumerable_thread_specific.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <bit>
#include <cfloat>
#include <cmath>

#include "jsq/error.hpp"
#include "kernels/cpu/classify.hpp"
#include "kernels/cpu/dither.hpp"
#include "kernels/cpu/uniforms.hpp"
#include "kernels/element/dither.hpp"
#include "lib/core/bytes.hpp"
#include "lib/methods/sparse_block.hpp"
#include "lib/methods/sparse_values.hpp"
#include "lib/packers/level_block.hpp"

namespace jsq {
namespace {

using cpu::BitWriter;
using element::ClassQuantizer;
using element::RandomPurpose;

/// A search asks for a handful of ranks: larger populations are not sorted for that.
constexpr uint64_t most_sorted = 8192;

/// Bits of the binary entropy of m of n; for reports.
double subset_bits(size_t n, size_t m) {
  if (m == 0 || m >= n) return 0;
  const double p = double(m) / double(n);
  return -double(n) * (p * std::log2(p) + (1 - p) * std::log2(1 - p));
}

}  // namespace

/// The blocks that a draft looks at, as a population of their own.
struct SparseScheme::Draft {
  std::vector<PoolBlock> blocks;
  std::vector<float> values;
  std::vector<uint64_t> starts;       ///< index in `values` of each block's first element
  std::vector<uint64_t> pool_starts;  ///< its pool index
  std::unique_ptr<SpanPopulation> population;
  std::unique_ptr<MagnitudeIndex> index;
  std::unique_ptr<RandomSubset> subset;

  /// The pool index just behind an element, from the draft's index just behind it.
  uint64_t pool_index(uint64_t behind) const {
    if (behind == 0 || behind > values.size()) return behind == 0 ? 0 : UINT64_MAX;
    const size_t b = size_t(std::lower_bound(starts.begin(), starts.end(), behind) - starts.begin()) - 1;
    return pool_starts[b] + (behind - starts[b]);
  }
};

MagnitudeCut largest_magnitudes(MagnitudeIndex& index, uint64_t k) {
  k = std::min(k, index.elements());
  if (k == 0) return {element::first_nonfinite_key, 0};
  const uint32_t key = index.keys_of_ranks(std::array{k})[0];
  if (key == 0) return {0, 0};
  const uint64_t quota = k - index.counts_at_least(std::array{key + 1})[0];
  if (quota == index.ties(key)) return {key, UINT64_MAX};
  return {key, index.population().index_after_tie(key, quota)};
}

SparseScheme::SparseScheme(const TensorPool& pool, const EncoderContext& context, const MethodInfo& info)
    : pool_(pool), context_(context), info_(info) {
  // Dumps of half precision leave the low bits of every key zero; sending them would be a waste.
  for (size_t t = 0; t < pool.tensors().size(); ++t) {
    const DType dtype = pool.tensors()[t].info->dtype;
    uint32_t shift = dtype == DType::f16 ? 13 : dtype == DType::bf16 ? 16 : 0;
    if (shift > 0)
      for (uint32_t block : per_block(pool, t, [](uint64_t, std::span<const float> values) {
             uint32_t bits = 0;
             for (float g : values) bits |= element::magnitude_key(g);
             return bits;
           }))
        if (block & ((1u << shift) - 1)) shift = 0;
    shifts_.push_back(shift);
  }
}

SparseScheme::~SparseScheme() = default;

MagnitudeCut SparseScheme::select(MagnitudeIndex& index, uint64_t k) const {
  return largest_magnitudes(index, k);
}

bool SparseScheme::deterministic() const {
  return plan_.positions == Positions::magnitude && (is_exact(plan_.values) || !plan_.stochastic);
}

double SparseScheme::share_kept() const {
  return k_ == 0 ? 0.0 : double(k_) / double(pool_.summary().elements);
}

float SparseScheme::gain() const {
  return plan_.scaled && k_ > 0 ? float(double(pool_.summary().elements) / double(k_)) : 1.0f;
}

void SparseScheme::outline(uint64_t size) {
  outlining_ = true;
  set_size(size, false);
  outlining_ = false;
}

void SparseScheme::keep(uint64_t k, bool draft) {
  const Prepared wanted{k, plan_.steps, draft};
  if (prepared_ == wanted) return;
  prepared_.reset();
  k_ = std::min(k, pool_.summary().elements);
  on_draft_ = draft;
  const BlockShape shape = block_shape(k_, draft);
  block_log2_ = shape.log2;
  coder_.lanes = shape.lanes;
  if (outlining_) return;
  Draft* sample = draft ? &draft_of(block_log2_) : nullptr;
  const double share =
      sample ? double(sample->values.size()) / double(std::max<uint64_t>(1, pool_.summary().elements)) : 1.0;
  const uint64_t kept =
      sample && k_ > 0 ? std::max<uint64_t>(1, uint64_t(std::llround(double(k_) * share))) : k_;
  choose_positions(kept, sample);
  choose_value_range(kept, sample);
  forget_lists(draft);
  const std::vector<PoolBlock> blocks = sample ? sample->blocks : pool_blocks(pool_, block_log2_);
  if (!draft && lists_on_device()) list_on_device(blocks);
  if (plan_.values == SparseValues::levels) choose_scales(blocks, share);
  if (plan_.values == SparseValues::quantized && plan_.width == 1 && scale_has_low(plan_.quantizer))
    choose_mean(blocks);
  if (stores_map()) choose_packers(blocks);
  prepared_ = wanted;
}

BlockPlace SparseScheme::place_of(const PoolBlock& block) const {
  const PoolTensor& tensor = pool_.tensors()[block.tensor];
  return {tensor.number, block.first, tensor.info, context_.seed};
}

template <class Use>
void SparseScheme::for_blocks(std::span<const PoolBlock> blocks, Use use) const {
  tbb::parallel_for(size_t(0), blocks.size(), [&](size_t b) {
    static thread_local std::vector<float> scratch;
    const PoolBlock& place = blocks[b];
    const std::span<const float> values = on_device_ || takes_listed()
                                              ? std::span<const float>()
                                              : pool_.read(place.tensor, place.first, place.count, scratch);
    Block& block = Block::of_thread();
    list_kept(place.tensor, place.first, place.count, values, block);
    use(b, place, block);
  });
}

SparseScheme::Draft& SparseScheme::draft_of(uint8_t block_log2) {
  std::unique_ptr<Draft>& draft = drafts_[block_log2];
  if (draft) return *draft;
  draft = std::make_unique<Draft>();
  draft->blocks = pool_blocks(pool_, block_log2, draft_elements);
  std::vector<float> scratch;
  for (const PoolBlock& block : draft->blocks) {
    const std::span<const float> values = pool_.read(block.tensor, block.first, block.count, scratch);
    draft->starts.push_back(draft->values.size());
    draft->pool_starts.push_back(pool_.tensors()[block.tensor].first + block.first);
    draft->values.insert(draft->values.end(), values.begin(), values.end());
  }
  return *draft;
}

/// A block holds at least 16 KiB of code, where 2^20 elements do; drafts take short stretches from many
/// places.
SparseScheme::BlockShape SparseScheme::block_shape(uint64_t k, bool draft) const {
  const uint64_t elements = std::max<uint64_t>(1, pool_.summary().elements);
  const double density = double(k) / double(elements);
  const double value_bits = plan_.values == SparseValues::f32 ? 27.0
                            : is_exact(plan_.values)          ? 14.0
                            : plan_.values == SparseValues::quantized
                                ? double(plan_.width)
                                : double(std::bit_width(plan_.steps)) + 1;
  const double map_bits =
      stores_map() ? double(std::bit_width(elements / std::max<uint64_t>(1, k))) + 1 : 0.0;
  const double bytes = density * (value_bits + map_bits) / 8;
  const auto smallest = [&](uint8_t low, uint8_t high, double wanted) {
    while (low < high && std::ldexp(bytes, low) < wanted) ++low;
    return low;
  };
  const uint8_t log2 = draft ? smallest(13, 16, 512) : smallest(16, 20, 16384);
  uint64_t largest = 1;
  for (const PoolTensor& tensor : pool_.tensors()) largest = std::max(largest, tensor.info->elements());
  const double coded = std::min(std::ldexp(1.0, log2), double(largest)) * density * map_bits / 8;
  return {log2, coded >= 4096 ? 8u : coded >= 1024 ? 4u : coded >= 256 ? 2u : 1u};
}

/// Of a map that is entropy-coded: lengths, ends of bit streams, and half of each lane's 32 bits.
double SparseScheme::fixed_bytes(bool draft) const {
  if (!stores_map() || coder_.map != MapPacker::entropy) return 0;
  const BlockShape shape = block_shape(k_, draft);
  const std::vector<PoolBlock> blocks = pool_blocks(pool_, shape.log2, draft ? draft_elements : UINT64_MAX);
  return (6.0 + 2.0 * shape.lanes) * double(blocks.size());
}

void SparseScheme::choose_positions(uint64_t k, Draft* draft) {
  if (plan_.positions != Positions::magnitude) {
    const uint64_t seed = plan_.positions == Positions::shared_random ? context_.seed : context_.stream;
    std::unique_ptr<RandomSubset>& subset = draft ? draft->subset : subset_;
    if (!subset) {
      std::vector<SubsetStretch> stretches;
      for (const PoolBlock& block : draft ? draft->blocks : pool_blocks(pool_, 16))
        stretches.push_back({pool_.tensors()[block.tensor].number, block.first, block.count});
      subset = std::make_unique<RandomSubset>(seed, std::move(stretches));
    }
    subset->use(!draft && lists_on_device() ? words_on_device(seed) : nullptr);
    subset_cut_ = subset->cut(k);
    cut_subset_ = subset.get();
    return;
  }
  if (!draft) {
    list_largest(k);
    if (!index_) index_ = std::make_unique<MagnitudeIndex>(pool_, most_sorted);
    cut_ = select(*index_, k);
    return;
  }
  if (!draft->index) {
    draft->population = std::make_unique<SpanPopulation>(draft->values);
    draft->index = std::make_unique<MagnitudeIndex>(*draft->population, most_sorted);
  }
  cut_ = select(*draft->index, k);
  cut_.cutoff = draft->pool_index(cut_.cutoff);
  cut_.end = draft->pool_index(cut_.end);
}

/// Of large pools what k elements may be is listed by a threshold from the draft, with room for what draft
/// and pool differ in and for the sizes that a search tries.
void SparseScheme::list_largest(uint64_t k) {
  const uint64_t elements = pool_.summary().elements;
  if (largest_ && largest_->listed() >= k) return;
  if (largest_) index_.reset();
  largest_.reset();
  if (index_ || !selects_largest() || k == 0 || pool_.device() != nullptr || elements < 4 * draft_elements)
    return;
  Draft& draft = draft_of(block_log2_);
  std::vector<float> magnitudes = draft.values;
  const double share = double(k) * double(magnitudes.size()) / double(elements);
  const auto rank = size_t(1.2 * share + 4 * std::sqrt(share) + 8);
  if (rank > magnitudes.size() / 4) return;  // much of the pool
  std::nth_element(magnitudes.begin(), magnitudes.begin() + std::ptrdiff_t(rank), magnitudes.end(),
                   [](float a, float b) { return element::magnitude_key(a) > element::magnitude_key(b); });
  largest_ = std::make_unique<ListedElements>(pool_, element::magnitude_key(magnitudes[rank]), most_listed);
  if (largest_->listed() < k)
    largest_.reset();
  else
    index_ = std::make_unique<MagnitudeIndex>(*largest_, most_sorted);
}

void SparseScheme::choose_value_range(uint64_t k, Draft* draft) {
  const bool largest = plan_.positions == Positions::magnitude;
  const uint32_t low = largest && k > 0 ? std::min(cut_.threshold_key, element::first_nonfinite_key - 1) : 0;
  const uint32_t high = std::max(low, std::min(pool_.summary().max_key, element::first_nonfinite_key - 1));
  if (is_exact(plan_.values)) {
    least_key_ = key_of(plan_.values, element::magnitude_of_key(low));
    most_key_ = key_of(plan_.values, element::magnitude_of_key(high));
  }
  coder_.plan = element::ClassPlan();
  if (plan_.values != SparseValues::quantized) {
    set_signs(coder_);
    return;
  }
  set_classes(coder_, plan_.width);
  coder_.plan.quantizer = plan_.quantizer;
  coder_.plan.stochastic = plan_.stochastic;
  coder_.plan.seed = context_.stream;
  const float top =
      draft ? element::magnitude_of_key(std::max(low, std::min(draft->population->summary().max_key, high)))
            : element::magnitude_of_key(high);
  const float bottom = scale_has_low(plan_.quantizer) ? element::magnitude_of_key(low) : 0.0f;
  coder_.plan.scale[1] = element::make_class_scale(plan_.quantizer, plan_.width, bottom, top);
}

/// A single bit is the sign: then the least error has the mean of the kept magnitudes as the range (sparse
/// ternary compression, Sattler et al., 2019).
void SparseScheme::choose_mean(std::span<const PoolBlock> blocks) {
  struct Kept {
    double sum = 0;
    uint64_t count = 0;
  };
  std::vector<Kept> parts(blocks.size());
  for_blocks(blocks, [&](size_t b, const PoolBlock&, const Block& block) {
    for (float g : block.kept_values) parts[b].sum += std::abs(double(g));
    parts[b].count = block.kept.size();
  });
  Kept total;
  for (const Kept& part : parts) {
    total.sum += part.sum;
    total.count += part.count;
  }
  const float mean = total.count ? float(total.sum / double(total.count)) : 0.0f;
  coder_.plan.scale[1] = element::make_class_scale(plan_.quantizer, plan_.width, mean, mean);
}

void SparseScheme::choose_scales(std::span<const PoolBlock> blocks, double share) {
  struct Kept {
    double energy = 0;
    float largest = 0;
    uint64_t count = 0;
  };
  std::vector<Kept> parts(blocks.size());
  const float factor = gain();
  for_blocks(blocks, [&](size_t b, const PoolBlock&, const Block& block) {
    for (float value : block.kept_values) {
      const float g = finite(value * factor);
      parts[b].energy += double(g) * double(g);
      parts[b].largest = std::max(parts[b].largest, std::abs(g));
    }
    parts[b].count = block.kept.size();
  });
  std::vector<Kept> tensors(pool_.tensors().size());
  for (size_t b = 0; b < parts.size(); ++b) {
    Kept& tensor = tensors[blocks[b].tensor];
    tensor.energy += parts[b].energy;
    tensor.largest = std::max(tensor.largest, parts[b].largest);
    tensor.count += parts[b].count;
  }
  scales_.assign(tensors.size(), {});
  for (size_t t = 0; t < tensors.size(); ++t) {
    Scale& scale = scales_[t];
    scale.norm =
        plan_.norm == ScaleNorm::l2 ? stored_scale(std::sqrt(tensors[t].energy / share)) : tensors[t].largest;
    scale.stored = scale.norm;
    const double kept = double(tensors[t].count) / share, s = double(plan_.steps);
    const double beta = std::min(kept / (s * s), std::sqrt(kept) / s);
    if (plan_.beta == ScaleBeta::on || (plan_.beta == ScaleBeta::automatic && beta >= 1))
      scale.stored = scale.norm / float(1 + beta);
  }
}

/// Counts every block, then takes the map packer of the fewest bytes unless one is asked for.
void SparseScheme::choose_packers(std::span<const PoolBlock> blocks) {
  struct Counts {
    ClassTally tally;
    uint64_t blocks = 0;  ///< with kept elements
    uint64_t bitmap_bits = 0, packed_bits = 0;
    uint64_t value_bits = 0;
  };
  tbb::enumerable_thread_specific<Counts> counts;
  for_blocks(blocks, [&](size_t, const PoolBlock& place, Block& block) {
    code_values(place.tensor, place_of(place), place.count, block, false);
    if (block.coded == 0) return;
    Counts& local = counts.local();
    coder_.tally_codes(place.count, block.sent, block.codes, local.tally);
    ++local.blocks;
    local.bitmap_bits += (place.count + 7) / 8 * 8;
    local.packed_bits += 32 + block.coded * packed_index_bits(place.count);
    local.value_bits += uint64_t(block.value_entropy_bits);
  });
  Counts total;
  for (const Counts& local : counts) {
    total.tally.merge(local.tally);
    total.blocks += local.blocks;
    total.bitmap_bits += local.bitmap_bits;
    total.packed_bits += local.packed_bits;
    total.value_bits += local.value_bits;
  }
  const uint32_t width = coder_.plan.width[1];
  const bool quantized = plan_.values == SparseValues::quantized;
  double best = HUGE_VAL;
  for (const auto& [name, map] : sparse_map_names) {
    if (plan_.map && *plan_.map != map) continue;
    EntropyModel model =
        fit_entropy_model(total.tally.entropy, 2, {0, uint8_t(width)}, map == MapPacker::entropy, quantized);
    const EntropyModel::Cost cost = model.cost(total.tally.entropy);
    double bits = 0;
    switch (map) {
      case MapPacker::index32:
        bits = 32 * double(total.blocks + total.tally.members[1]);
        break;
      case MapPacker::packed:
        bits = double(total.packed_bits);
        break;
      case MapPacker::bitmap:
        bits = double(total.bitmap_bits);
        break;
      case MapPacker::rice:
        bits = double(total.tally.rice_bits);
        break;
      default:
        bits = double(cost.map_q16) / 65536;
        break;
    }
    // The stream has a length, and half of each lane's 32 bits is lost.
    const double streams = model.uses_rans() ? double(total.blocks) * (16.0 + 16.0 * coder_.lanes) : 0.0;
    const double all = bits + double(cost.magnitudes_q16) / 65536 + streams + double(model.table_bits());
    if (all >= best) continue;
    best = all;
    coder_.map = map;
    coder_.model = model;
    map_bits_ = bits;
    value_bits_ = quantized ? double(cost.magnitudes_q16) / 65536 : double(total.value_bits);
    // Lengths of two bytes, ends of bit streams, and three quarters of each lane's 32 bits.
    const double ends = 3 + (model.uses_rans() ? 2 + 3.0 * coder_.lanes : 0.0);
    told_bytes_ = (map_bits_ + value_bits_) / 8 + ends * double(total.blocks);
  }
  coder_.prepare_encoding();
}

/// Sizes are coded in up to three passes, each of which needs the lists; drafts and large pools list again.
void SparseScheme::forget_lists(bool draft) {
  lists_.clear();
  on_device_ = false;
  const bool asked_again = stores_map() || plan_.values == SparseValues::levels;
  if (draft || !(lists_on_device() || (k_ <= most_listed && asked_again))) return;
  first_list_.clear();
  size_t blocks = 0;
  for (const PoolTensor& tensor : pool_.tensors()) {
    first_list_.push_back(blocks);
    blocks += size_t((tensor.info->elements() + (uint64_t(1) << block_log2_) - 1) >> block_log2_);
  }
  lists_.resize(blocks);
}

SparseScheme::KeptList* SparseScheme::list_of(size_t t, uint64_t first) const {
  return lists_.empty() ? nullptr : &lists_[first_list_[t] + size_t(first >> block_log2_)];
}

bool SparseScheme::takes_listed() const {
  return plan_.positions == Positions::magnitude && largest_ && !on_draft_;
}

void SparseScheme::list_kept(size_t t, uint64_t first, size_t n, std::span<const float> values,
                             Block& block) const {
  if (takes_listed()) {
    largest_->take(cut_, pool_.tensors()[t].first + first, n, block.kept, block.kept_values);
    return;
  }
  KeptList* list = list_of(t, first);
  if (list != nullptr && list->known) {
    block.kept = list->indices;
    if (on_device_)
      block.kept_values = list->values;
    else
      block.take_values(values);
    return;
  }
  select_in_block(t, first, values, block);
  block.take_values(values);
  if (list == nullptr) return;
  list->indices = block.kept;
  list->known = true;
}

void SparseScheme::select_in_block(size_t t, uint64_t first, std::span<const float> values,
                                   Block& block) const {
  const PoolTensor& tensor = pool_.tensors()[t];
  if (plan_.positions != Positions::magnitude) {
    if (cut_subset_->list(tensor.number, first, values.size(), block.kept)) return;
    list_subset(subset_cut_, plan_.positions == Positions::shared_random ? context_.seed : context_.stream,
                tensor.number, first, values.size(), block.kept);
    return;
  }
  const uint64_t pool_index = tensor.first + first;
  const size_t n =
      cut_.end <= pool_index ? 0 : size_t(std::min<uint64_t>(values.size(), cut_.end - pool_index));
  element::ClassPlan plan;
  plan.classes = 2;
  plan.threshold[1] = cut_.threshold_key;
  plan.cutoff[1] = cut_.cutoff;
  block.classes.resize(n);
  cpu::classify(values.first(n), pool_index, plan, block.classes);
  block.kept.resize(n + 16);
  block.kept.resize(cpu::list_nonzero(block.classes, block.kept.data()));
}

/// Quantizes what list_kept selected of a block of n elements; `decodes`: what it decodes to is wanted too.
void SparseScheme::code_values(size_t t, const BlockPlace& place, size_t n, Block& block,
                               bool decodes) const {
  block.start(decodes);
  if (plan_.values == SparseValues::levels)
    code_levels(t, place, n, block);
  else if (plan_.values == SparseValues::quantized)
    code_quantized(place, block);
  else
    code_exact(t, block);
}

void SparseScheme::code_exact(size_t t, Block& block) const {
  const uint32_t shift = plan_.values == SparseValues::f32 ? shifts_[t] : 0;
  const uint32_t base = least_key_ >> shift;
  const auto bits = uint32_t(std::bit_width((most_key_ >> shift) - base));
  const bool mapped = stores_map(), decodes = !block.decoded.empty();
  const float factor = gain();
  BitWriter plane(block.plane);
  if (mapped) block.send_signs(plan_.values);
  for (size_t k = 0; (decodes || !mapped) && k < block.kept.size(); ++k) {
    const float g = block.kept_values[k];
    const uint32_t key = key_of(plan_.values, g);
    if (mapped && key == 0) continue;
    const bool negative = is_negative(g) && key > 0;
    if (!mapped) plane.put(negative, 1);
    plane.put((key >> shift) - base, bits);
    const float value = value_of_key(plan_.values, key, negative);
    if (!mapped) block.coded += key > 0;
    if (decodes) block.decoded[k] = mapped ? value : finite(value * factor);
  }
  plane.align();
  block.value_entropy_bits = double(bits + 1) * double(mapped ? block.coded : block.kept.size());
}

void SparseScheme::code_quantized(const BlockPlace& place, Block& block) const {
  const element::ClassPlan& plan = coder_.plan;
  const uint32_t width = plan.width[1];
  const auto code_of = [&](float g, float u) {
    return element::quantize_in_class(plan.quantizer, width, plan.scale[1], g, u);
  };
  const auto value_of = [&](uint32_t code) {
    return element::dequantize_in_class(plan.quantizer, width, plan.scale[1], code);
  };
  block.levels.clear();
  for (size_t k = 0; k < block.kept.size(); ++k) {
    const uint32_t i = block.kept[k];
    const float g = block.kept_values[k];
    if (element::magnitude_key(g) == 0) continue;
    // The range of a single bit is one magnitude, which the kept ones need not be near.
    const float coded = width == 1 && scale_has_low(plan.quantizer) ? std::copysign(plan.scale[1].low, g) : g;
    float u = 0.5f;
    if (plan.stochastic)
      u = element::uniform_of_word(
          element::random_word(plan.seed, place.first + i, place.tensor, RandomPurpose::rounding));
    const uint32_t code = code_of(coded, u);
    block.send(i, code);
    if (!block.decoded.empty()) block.decoded[k] = value_of(code);
    ++block.coded;
    block.levels.push_back(int32_t(code));
    block.moments.energy += double(g) * double(g);
    if (!plan.stochastic) continue;
    // Two neighbouring points: the mean is g, so the variance is (up - g)(g - down).
    const double down = value_of(code_of(coded, 1.0f)), up = value_of(code_of(coded, 0.0f));
    block.moments.error += std::abs((up - g) * (g - down));
  }
  block.value_entropy_bits = level_entropy_bits(block.levels);
}

/// The levels of the kept, and what is expected of their errors.
void SparseScheme::draw_levels(size_t t, const BlockPlace& place, size_t n, Block& block) const {
  const size_t kept = block.kept.size();
  const float factor = gain(), s = float(plan_.steps), norm = scales_[t].norm;
  block.scaled.resize(kept);
  block.levels.resize(kept);
  block.level_values.resize(kept);
  for (size_t k = 0; k < kept; ++k) block.scaled[k] = finite(block.kept_values[k] * factor);
  block.uniforms.resize(plan_.stochastic ? kept : 0);
  // All of a block at once takes what one in sixteen takes alone.
  if (plan_.stochastic && kept > n / 16) {
    static thread_local std::vector<float> all;
    all.resize(n);
    cpu::fill_uniforms(context_.stream, place.first, place.tensor, RandomPurpose::rounding, all);
    for (size_t k = 0; k < kept; ++k) block.uniforms[k] = all[block.kept[k]];
  } else if (plan_.stochastic) {
    for (size_t k = 0; k < kept; ++k)
      block.uniforms[k] = element::uniform_of_word(element::random_word(
          context_.stream, place.first + block.kept[k], place.tensor, RandomPurpose::rounding));
  }
  const double spread = cpu::uniform_levels(block.scaled, norm, s, block.uniforms, block.levels);
  if (plan_.scaled && plan_.stochastic && scales_[t].stored == norm) {
    block.moments.variance = spread;  // which is all that is asked for
    cpu::uniform_values(block.levels, block.scale, s, block.level_values);
    return;
  }
  cpu::uniform_values(block.levels, block.scale, s, block.level_values);
  for (size_t k = 0; k < kept; ++k) {
    const double g = std::abs(double(block.kept_values[k]));
    block.moments.energy += g * g;
    if (plan_.stochastic) {
      const float y = element::uniform_position(block.scaled[k], norm, s);
      const double whole = std::floor(double(y)), fraction = double(y) - whole;
      const double down = double(block.scale) * (whole / double(s)),
                   up = double(block.scale) * ((whole + 1) / double(s));
      block.moments.error += (1 - fraction) * (down - g) * (down - g) + fraction * (up - g) * (up - g);
      block.moments.variance += fraction * (1 - fraction) * (up - down) * (up - down);
    } else {
      const double error = std::abs(double(block.level_values[k])) - g;
      block.moments.error += error * error;
    }
  }
}

void SparseScheme::code_levels(size_t t, const BlockPlace& place, size_t n, Block& block) const {
  const size_t kept = block.kept.size();
  const auto s = float(plan_.steps);
  block.scale = scales_[t].stored;
  KeptList* list = list_of(t, place.first);
  if (list != nullptr && list->drawn) {
    block.levels = list->levels;
    block.moments = list->moments;
    block.level_values.resize(kept);
    cpu::uniform_values(block.levels, block.scale, s, block.level_values);
  } else {
    draw_levels(t, place, n, block);
    if (list != nullptr) {
      list->levels = block.levels;
      list->moments = block.moments;
      list->drawn = true;
    }
  }
  if (!block.decoded.empty()) block.decoded = block.level_values;
  block.send_levels();
  block.value_entropy_bits = 32 + (stores_map() ? double(block.coded) + level_entropy_bits(block.magnitudes)
                                                : level_entropy_bits(block.levels));
}

/// Exact: over the rounding, and over random positions of which the block's own are a draw.
double SparseScheme::expected_error(const Energy& energy, const Moments& kept) const {
  if (plan_.positions == Positions::magnitude) return std::max(0.0, energy.values - kept.energy) + kept.error;
  if (is_exact(plan_.values) && plan_.values != SparseValues::f32) return energy.random_sent_error;
  const double p = share_kept(), factor = double(gain());
  if (is_exact(plan_.values) || (plan_.scaled && plan_.stochastic))
    return (p * (factor - 1) * (factor - 1) + (1 - p)) * energy.values + kept.variance;
  return (1 - p) * energy.values + kept.error;
}

SparseScheme::Energy SparseScheme::energy_of(std::span<const float> values) const {
  Energy energy;
  energy.values = cpu::sum_squares(values);
  if (plan_.positions == Positions::magnitude || !is_exact(plan_.values) || plan_.values == SparseValues::f32)
    return energy;
  const double share = share_kept(), factor = double(gain());
  for (size_t at = 0; at < values.size(); at += cpu::sum_chunk)
    energy.random_sent_error +=
        lane_sum(values.subspan(at, std::min(cpu::sum_chunk, values.size() - at)), [&](float g) {
          const double sent =
              factor * double(value_of_key(plan_.values, key_of(plan_.values, g), is_negative(g)));
          return element::random_keep_error(double(g), sent, share);
        });
  return energy;
}

void SparseScheme::encode(size_t t, const BlockPlace& place, std::span<const float> values, std::string& out,
                          std::span<float> decoded, BlockSums& sums) const {
  Block& block = Block::of_thread();
  const bool measured = !decoded.empty();
  list_kept(t, place.first, values.size(), values, block);
  code_values(t, place, values.size(), block, true);
  std::fill(decoded.begin(), decoded.end(), 0.0f);
  for (size_t k = 0; measured && k < block.kept.size(); ++k) decoded[block.kept[k]] = block.decoded[k];
  if (measured && !deterministic()) sums.expected_error += expected_error(energy_of(values), block.moments);
  pack(place, values.size(), block, out, sums);
}

/// The bytes of a block of n elements whose values are coded.
void SparseScheme::pack(const BlockPlace& place, size_t n, Block& block, std::string& out,
                        BlockSums& sums) const {
  sums.nominal_bits += uint64_t(std::ceil(plan_.nominal_value_bits * double(block.kept.size()) +
                                          (place.first == 0 && k_ > 0 ? plan_.nominal_tensor_bits : 0.0)));
  if (block.coded == 0) return;
  sums.entropy_bits += block.value_entropy_bits;
  if (!stores_map()) {
    if (plan_.values == SparseValues::levels)
      write_level_block(std::span(&block.scale, 1), block.levels,
                        {-int32_t(plan_.steps), int32_t(plan_.steps)}, std::nullopt, out);
    else
      out.append(block.plane);
    return;
  }
  sums.entropy_bits += subset_bits(n, block.coded);
  coder_.encode_codes(n, block.sent, block.codes, block.map);
  if (plan_.values == SparseValues::quantized) {
    out.append(block.map);
    return;
  }
  ByteWriter head;
  if (plan_.values == SparseValues::levels) head.f32(block.scale);
  head.string(block.map);
  out.append(head.bytes());
  if (plan_.values == SparseValues::levels)
    write_level_block({}, block.magnitudes, {0, int32_t(plan_.steps) - 1}, std::nullopt, out);
  else
    out.append(block.plane);
}

StoredSet SparseScheme::stored_set(size_t t) const {
  return {info_.wire_id, write_parameters(plan_.values == SparseValues::f32 ? shifts_[t] : 0)};
}

std::string SparseScheme::write_parameters(uint32_t shift) const {
  ByteWriter out;
  out.u8(uint8_t(uint8_t(plan_.values) | (stores_map() ? 0 : 16)));
  if (is_exact(plan_.values)) {
    const uint32_t base = least_key_ >> shift;
    out.u8(uint8_t(shift));
    out.uvarint(base);
    out.u8(uint8_t(std::bit_width((most_key_ >> shift) - base)));
  } else if (plan_.values == SparseValues::quantized) {
    out.u8(uint8_t(plan_.width));
    out.u8(uint8_t(uint8_t(plan_.quantizer) | (plan_.stochastic ? 16 : 0)));
    if (scale_has_low(plan_.quantizer)) out.f32(coder_.plan.scale[1].low);
    out.f32(coder_.plan.scale[1].high);
  } else {
    out.uvarint(plan_.steps);
  }
  if (!stores_map()) {
    out.u32(subset_cut_.word);
    out.uvarint(subset_cut_.tensor);
    out.uvarint(subset_cut_.element);
    if (is_exact(plan_.values)) out.f32(gain());
    return out.take();
  }
  out.u8(uint8_t(uint8_t(coder_.map) | std::countr_zero(coder_.lanes) << 4));
  out.u8(uint8_t(coder_.model.magnitudes_coded | coder_.model.magnitudes_by_activity << 1));
  std::string tables;
  BitWriter bits(tables);
  coder_.model.write(bits);
  bits.align();
  out.raw(tables);
  return out.take();
}

std::optional<double> SparseScheme::told_bytes() const {
  if (!prepared_ || on_draft_ || !stores_map() || plan_.values == SparseValues::levels) return std::nullopt;
  return told_bytes_;
}

void SparseScheme::describe(PoolReport& report) const {
  if (!stores_map()) return;
  report.map_packer = choice_name(coder_.map, sparse_map_names);
  report.map_bytes = uint64_t(map_bits_ / 8);
  report.value_bytes = uint64_t(value_bits_ / 8);
}

SizeRange kept_sizes(const OptionReader& read, uint64_t elements, double native_density) {
  const auto of_density = [&](double density) {
    return std::min(elements, std::max<uint64_t>(1, uint64_t(density * double(elements))));
  };
  const auto k = read.integer_or_auto("k", 1, uint64_t(1) << 62);
  if (!read.is("density", "auto")) {
    const double density = read.number("density", 0, 1, "auto or a share of 0..1");
    if (k) read.bad("density", "auto where k is given, since k names the size");
    return {of_density(density), of_density(density), of_density(density)};
  }
  if (k) return {std::min(*k, elements), std::min(*k, elements), std::min(*k, elements)};
  return {0, elements, of_density(native_density)};
}

std::optional<MapPacker> read_map(const OptionReader& read) {
  if (read.is("map", "auto")) return std::nullopt;
  for (const auto& [name, map] : sparse_map_names)
    if (read.is("map", name)) return map;
  read.bad("map", std::string(map_option.values));
}

}  // namespace jsq

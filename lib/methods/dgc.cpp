// DGC, deep gradient compression (Lin et al., ICLR 2018): the k largest of the velocity v, whose momentum
// correction and masking are the worker's feedback and not in this file. Selection is exact;
// threshold=sampled is the published one: a threshold from a strided sample, corrected up to ten times, then
// the first k in index order, so that the end of the pool may be cut off.
#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>

#include "jsq/state.hpp"
#include "kernels/cuda/sparse.hpp"
#include "kernels/element/philox.hpp"
#include "lib/core/device.hpp"
#include "lib/core/rational_power.hpp"
#include "lib/methods/sparse.hpp"

namespace jsq {
namespace {

constexpr MethodOption options[] = {
    k_option,
    {"density", "auto|0..1", "auto",
     "share of the elements that is kept, at least one; auto: what the target allows, without a target "
     "0.001"},
    {"threshold", "exact|sampled", "exact",
     "sampled: as published, from a sample of 1 %, between 0.8 k and k elements, the first in index order"},
    {"values", "f32|f16|bf16", "f32", "what is sent of a kept element"},
    map_option,
    {"momentum", "0..1", "0.9", "m of u <- m u + g, in a sequence of steps"},
    {"nesterov", "on|off", "off", "u <- m (u + g), v <- v + u + g"},
    {"clip", "0..", "0",
     "largest L2 norm of a gradient before it is added, times the root of the number of workers; 0: none"},
    {"warmup", "0..1000000", "0",
     "E: step e < E of a sequence keeps the share density^((e + 1) / (E + 1)) where no target says "
     "otherwise"},
};

/// A sample has at least this share of the elements, and two elements to keep.
constexpr double sample_share = 0.01;
constexpr double too_many = 1.3, too_few = 0.8;
constexpr float lower = 0.8f;
constexpr int corrections = 10;

uint64_t stride_of(uint64_t elements, double density) {
  const double wanted =
      std::clamp(std::max(sample_share * double(elements), 2 / density), 1.0, double(elements));
  auto stride = uint64_t(double(elements) / wanted);
  if (stride <= 32) return std::max<uint64_t>(1, stride);
  // Not a multiple of a layer's width.
  stride = stride / 32 * 32 + 1;
  const auto looked_at = [&] { return elements / stride; };
  while (stride > 8 && double(looked_at()) < wanted) stride -= 8;
  return stride;
}

/// The keys of every stride-th element.
std::vector<uint32_t> sample_keys(const Population& population, uint64_t stride, uint64_t phase) {
  std::vector<uint32_t> keys;
  std::mutex mutex;
  population.visit([&](uint64_t first, std::span<const float> values) {
    std::vector<uint32_t> found;
    for (uint64_t i = (phase + stride - first % stride) % stride; i < values.size(); i += stride)
      found.push_back(element::magnitude_key(values[i]));
    const std::lock_guard lock(mutex);
    keys.insert(keys.end(), found.begin(), found.end());
  });
  return keys;
}

/// Elements with at least this key, by stretch: the index of its first one and how many.
using StretchCounts = std::map<uint64_t, uint64_t>;
StretchCounts count_stretches(const Population& population, uint32_t key) {
  StretchCounts counts;
  std::mutex mutex;
  population.visit([&](uint64_t first, std::span<const float> values) {
    uint64_t found = 0;
    for (float g : values) found += element::magnitude_key(g) >= key;
    const std::lock_guard lock(mutex);
    counts[first] = found;
  });
  return counts;
}

/// The k-th element with at least this key: the stretch that has it, and which of that stretch's it is.
struct CountedPlace {
  uint64_t stretch = 0, left = 0;
};
CountedPlace place_of(const StretchCounts& counts, uint64_t k) {
  CountedPlace place{0, k};
  for (const auto& [first, found] : counts) {
    place.stretch = first;
    if (found >= place.left) break;
    place.left -= found;
  }
  return place;
}

/// Elements up to the `left`-th with at least this key.
uint64_t elements_to(std::span<const float> values, uint32_t key, uint64_t left) {
  for (size_t i = 0; i < values.size(); ++i)
    if (element::magnitude_key(values[i]) >= key && --left == 0) return i + 1;
  return values.size();
}

/// The index just behind the k-th element with at least this key.  \pre there are k.
uint64_t index_behind(const Population& population, uint32_t key, uint64_t k) {
  const CountedPlace place = place_of(count_stretches(population, key), k);
  uint64_t behind = 0;
  population.visit([&](uint64_t first, std::span<const float> values) {
    if (first == place.stretch) behind = first + elements_to(values, key, place.left);
  });
  return behind;
}

/// The same, counted on the device.
uint64_t index_behind_on_device(const TensorPool& pool, uint32_t key, uint64_t k) {
  const std::vector<uint32_t> found = on_device([&] { return cuda::counts_from(*pool.device(), key); });
  const std::vector<PoolBlock> stretches = pool_blocks(pool, 16);
  StretchCounts counts;
  std::map<uint64_t, PoolBlock> by_first;
  for (size_t s = 0; s < stretches.size(); ++s) {
    const uint64_t first = pool.tensors()[stretches[s].tensor].first + stretches[s].first;
    counts[first] = found[s];
    by_first[first] = stretches[s];
  }
  const CountedPlace place = place_of(counts, k);
  const PoolBlock& stretch = by_first.at(place.stretch);
  std::vector<float> scratch;
  return place.stretch +
         elements_to(pool.read(stretch.tensor, stretch.first, stretch.count, scratch), key, place.left);
}

class DgcScheme final : public SparseScheme {
 public:
  DgcScheme(const TensorPool& pool, const MethodSpec& spec, const EncoderContext& context)
      : SparseScheme(pool, context, dgc_row.info) {
    const OptionReader read(spec);
    sizes_ = kept_sizes(read, pool.summary().elements, 0.001);
    plan_.map = read_map(read);
    plan_.values = read.choice<SparseValues>(
        "values", {{"f32", SparseValues::f32}, {"f16", SparseValues::f16}, {"bf16", SparseValues::bf16}});
    plan_.nominal_value_bits = plan_.values == SparseValues::f32 ? 32 : 16;
    sampled_ = read.choice<bool>("threshold", {{"exact", false}, {"sampled", true}});
    read.number("momentum", 0, 1, "a number of 0..1");
    read.flag("nesterov");
    read.number("clip", 0, HUGE_VAL, "a number of 0 or more");
    warm_up(read.integer("warmup", 0, 1000000), context, pool.summary().elements);
  }

 private:
  MagnitudeCut select(MagnitudeIndex& index, uint64_t k) const override {
    return sampled_ && k > 0 ? select_sampled(index, k) : largest_magnitudes(index, k);
  }
  bool selects_largest() const override { return !sampled_; }

  MagnitudeCut select_sampled(MagnitudeIndex& index, uint64_t k) const {
    const double density = double(k) / double(index.elements());
    const uint64_t stride = stride_of(index.elements(), density);
    const uint64_t phase =
        element::random_word(context_.stream, 0, 0, element::RandomPurpose::sampling) % stride;
    const bool there = pool_.device() != nullptr && &index.population() == &pool_;
    std::vector<uint32_t> keys =
        there ? on_device([&] { return cuda::strided_keys(*pool_.device(), stride, phase); })
              : sample_keys(index.population(), stride, phase);
    if (keys.empty()) return largest_magnitudes(index, k);
    const auto rank = size_t(std::clamp(std::ceil(double(keys.size()) * density), 1.0, double(keys.size())));
    std::nth_element(keys.begin(), keys.begin() + std::ptrdiff_t(rank - 1), keys.end(), std::greater<>());
    uint32_t key = std::max(keys[rank - 1], 1u);
    uint64_t count = 0;
    for (int round = 0;; ++round) {
      count = index.counts_at_least(std::array{key})[0];
      if (double(count) > too_many * double(k)) return largest_magnitudes(index, k);
      if (double(count) >= too_few * double(k) || round == corrections) break;
      key = std::max(element::magnitude_key(element::magnitude_of_key(key) * lower), 1u);
    }
    if (count <= k) return {key, UINT64_MAX};
    return {key, UINT64_MAX,
            there ? index_behind_on_device(pool_, key, k) : index_behind(index.population(), key, k)};
  }

  /// Early steps keep more.
  void warm_up(uint64_t steps, const EncoderContext& context, uint64_t elements) {
    const uint64_t step = context.state ? context.state->step : steps;
    if (step >= steps || elements == 0) return;
    const double density = double(sizes_.native) / double(elements);
    const auto kept = uint64_t(rational_power(density, step + 1, steps + 1) * double(elements));
    sizes_.native = std::clamp<uint64_t>(kept, sizes_.native, elements);
    if (sizes_.least > 0 && sizes_.least == sizes_.most) sizes_.least = sizes_.most = sizes_.native;
  }

  bool sampled_ = false;
};

}  // namespace

const MethodRow dgc_row = {{.name = "dgc",
                            .wire_id = 14,
                            .title = "DGC: deep gradient compression, top-k of momentum-corrected residuals",
                            .source = "Lin et al., Deep Gradient Compression, ICLR 2018",
                            .bias = "biased: dropped elements decode to zero",
                            .needs = "a sequence: its own feedback with momentum correction and masking",
                            .aggregation = "allgather",
                            .random_numbers = "none; one a tensor pool with threshold=sampled",
                            .nominal_bits = "32 x density (or 16)",
                            .honest_bits = "density x (value bits + log2(1 / density) + 1.5)",
                            .backends = "cpu, cuda",
                            .options = options,
                            .sizing = Sizing::continuous,
                            .size_option = "k|density",
                            .feedback = Feedback::masked},
                           [](const TensorPool& pool, const MethodSpec& spec,
                              const EncoderContext& context) -> std::unique_ptr<Scheme> {
                             return std::make_unique<DgcScheme>(pool, spec, context);
                           },
                           nullptr,
                           sparse_decoder_of<dgc_row>};

}  // namespace jsq

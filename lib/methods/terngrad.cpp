// TernGrad (Wen et al., NeurIPS 2017): g^_i = s t_i, t_i = sign(g_i) with probability |g_i| / s, else 0, with
// s the largest magnitude of the tensor. Before, magnitudes are clipped to c sigma, sigma the standard
// deviation of the tensor about its mean (layer-wise clipping, c = 2.5): what is clipped is a bias, without
// clipping there is none. A tensor of equal elements has no spread to clip by and is left as it is. E |g^ -
// g|^2 = sum |g'|(s - |g'|) + (g - g')^2, g' the clipped gradient.
#include <algorithm>
#include <cmath>

#include "lib/collectives/grid.hpp"
#include "lib/methods/dithering.hpp"
#include "lib/methods/options.hpp"
#include "lib/methods/passes.hpp"

namespace jsq {
namespace {

constexpr MethodOption options[] = {
    {"clip", "0..1000", "2.5",
     "c: magnitudes are clipped to c standard deviations of the tensor; 0: not at all"},
    {"coder", "auto|fixed|base243|elias-sparse|elias-dense|entropy", "fixed",
     "how trits are stored; fixed: 2 bits each, the published stream; base243: five in a byte; auto: the "
     "smallest in each block"},
};

/// Population standard deviation of tensor t about its mean, in double.
double deviation(const TensorPool& pool, size_t t) {
  const double elements = double(pool.tensors()[t].info->elements());
  if (elements == 0) return 0;
  const auto sum_of = [&](auto term) {
    double total = 0;
    for (double block : per_block(pool, t, [&](uint64_t, std::span<const float> values) {
           return lane_sum(values, [&](float g) { return term(double(g)); });
         }))
      total += block;
    return total;
  };
  const double mean = sum_of([](double g) { return g; }) / elements;
  return std::sqrt(sum_of([mean](double g) { return (g - mean) * (g - mean); }) / elements);
}

double read_clip(const OptionReader& read) {
  return read.number("clip", 0, 1000, "a number of 0..1000");
}

/// The largest magnitude that clipping leaves; infinite where nothing is clipped.
float clipping_limit(double clip, const TensorPool& pool, size_t t) {
  const float limit = clip > 0 ? stored_scale(clip * deviation(pool, t)) : 0.0f;
  return limit > 0 ? limit : HUGE_VALF;
}

class TernGradScheme final : public DitherScheme {
 public:
  TernGradScheme(const TensorPool& pool, const MethodSpec& spec, const EncoderContext& context)
      : DitherScheme(pool, context, terngrad_row.info.wire_id) {
    const OptionReader read(spec);
    const double clip = read_clip(read);
    for (size_t t = 0; t < pool.tensors().size(); ++t) limits_.push_back(clipping_limit(clip, pool, t));
    plan_.grid = {.kind = GridKind::uniform, .steps = 1};
    plan_.bucket = 0;
    plan_.packer = read_coder(read, true);
    plan_.nominal_bits = 1.5849625007211562;  // log2 3
    plan_.nearest = context.rounding == Rounding::nearest;
    prepare_scales();
  }

  SizeRange sizes() const override { return {}; }
  void set_size(uint64_t, bool) override {}

 protected:
  std::span<const float> prepared(size_t t, std::span<const float> values,
                                  std::vector<float>& scratch) const override {
    const float limit = limits_[t];
    if (std::isinf(limit)) return values;
    scratch.resize(values.size());
    for (size_t i = 0; i < values.size(); ++i) scratch[i] = std::clamp(values[i], -limit, limit);
    return scratch;
  }
  float tensor_scale(size_t t) const override { return std::min(max_magnitude(pool_, t), limits_[t]); }

 private:
  std::vector<float> limits_;  ///< of the magnitudes of each tensor; infinite where nothing is clipped
};

/// Each worker clips its own gradient; s is the largest over the workers. Sums of trits take ceil(log2(2n +
/// 1)) bits.
std::unique_ptr<Endpoint> terngrad_endpoint(const MethodSpec& spec, const EndpointContext& context,
                                            std::span<const float> values) {
  const TensorPool pool(*context.info, values);
  const float limit = clipping_limit(read_clip(OptionReader(spec)), pool, 0);
  std::vector<float> clipped(values.begin(), values.end());
  for (float& value : clipped) value = std::clamp(value, -limit, limit);
  Grid grid;
  grid.workers = context.workers;
  return make_grid_endpoint(grid, 0, context.rounding == Rounding::nearest, context, std::move(clipped));
}

}  // namespace

const MethodRow terngrad_row = {
    {.name = "terngrad",
     .wire_id = 8,
     .title = "TernGrad: stochastic rounding to -s, 0 and s, after clipping",
     .source =
         "Wen et al., TernGrad: Ternary Gradients to Reduce Communication in Distributed Deep Learning, "
         "NeurIPS 2017",
     .bias = "biased by what clipping takes; unbiased with clip=0",
     .needs = "nothing",
     .aggregation = "allreduce: trits are added where the workers share s",
     .random_numbers = "one an element",
     .nominal_bits = "log2 3 + 32 a tensor",
     .honest_bits = "2 (1.6 with base243) + one byte a block + 32 a tensor",
     .backends = "cpu",
     .options = options,
     .sums = true},
    [](const TensorPool& pool, const MethodSpec& spec, const EncoderContext& context)
        -> std::unique_ptr<Scheme> { return std::make_unique<TernGradScheme>(pool, spec, context); },
    nullptr,
    dither_decoder_of<terngrad_row>,
    terngrad_endpoint};

}  // namespace jsq

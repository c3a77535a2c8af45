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

/// Population standard deviations of the tensors about their means, in double.
std::vector<double> deviations(const TensorPool& pool) {
  std::vector<double> means, result;
  for (size_t t = 0; t < pool.tensors().size(); ++t) {
    const uint64_t elements = pool.tensors()[t].info->elements();
    means.push_back(elements ? pool.statistics(t).sum / double(elements) : 0.0);
  }
  const std::vector<double> squares = pool.squares_about(means);
  for (size_t t = 0; t < pool.tensors().size(); ++t) {
    const uint64_t elements = pool.tensors()[t].info->elements();
    result.push_back(elements ? std::sqrt(squares[t] / double(elements)) : 0.0);
  }
  return result;
}

double read_clip(const OptionReader& read) {
  return read.number("clip", 0, 1000, "a number of 0..1000");
}

/// The largest magnitudes that clipping leaves in each tensor; infinite where nothing is clipped.
std::vector<float> clipping_limits(double clip, const TensorPool& pool) {
  std::vector<float> limits(pool.tensors().size(), HUGE_VALF);
  if (clip == 0) return limits;
  const std::vector<double> spread = deviations(pool);
  for (size_t t = 0; t < limits.size(); ++t)
    if (const float limit = stored_scale(clip * spread[t]); limit > 0) limits[t] = limit;
  return limits;
}

class TernGradScheme final : public DitherScheme {
 public:
  TernGradScheme(const TensorPool& pool, const MethodSpec& spec, const EncoderContext& context)
      : DitherScheme(pool, context, terngrad_row.info.wire_id) {
    const OptionReader read(spec);
    limits_ = clipping_limits(read_clip(read), pool);
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
  float clipping_limit(size_t t) const override { return limits_[t]; }
  float tensor_scale(size_t t) const override { return std::min(max_magnitude(pool_, t), limits_[t]); }

 private:
  std::vector<float> limits_;  ///< of the magnitudes of each tensor; infinite where nothing is clipped
};

/// Each worker clips its own gradient; s is the largest over the workers. Sums of trits take ceil(log2(2n +
/// 1)) bits.
std::unique_ptr<Endpoint> terngrad_endpoint(const MethodSpec& spec, const EndpointContext& context,
                                            std::span<const float> values) {
  const TensorPool pool(*context.info, values);
  const float limit = clipping_limits(read_clip(OptionReader(spec)), pool)[0];
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
     .backends = "cpu, cuda",
     .options = options,
     .sums = true},
    [](const TensorPool& pool, const MethodSpec& spec, const EncoderContext& context)
        -> std::unique_ptr<Scheme> { return std::make_unique<TernGradScheme>(pool, spec, context); },
    nullptr,
    dither_decoder_of<terngrad_row>,
    terngrad_endpoint};

}  // namespace jsq

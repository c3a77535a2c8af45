// Rand-k: a uniform k-subset that sender and receivers draw from the shared seed, so that values alone are sent
// (methods.md 9). Scaled by d / k it is unbiased: E |g^ - g|^2 = (d / k - 1) |g|^2; unscaled it is a contraction:
// (1 - k / d) |g|^2. Workers keep the same elements, so that their messages can be added.
#include "lib/methods/sparse.hpp"

namespace jsq {
namespace {

constexpr MethodOption options[] = {
    k_option,
    density_option,
    {"values", "f32|f16|bf16", "f32", "what is sent of a kept element"},
    {"scale", "auto|on|off", "auto", "kept values times d / k; auto: on in a single shot, off with error feedback"},
};

class RandkScheme final : public SparseScheme {
 public:
  RandkScheme(const TensorPool& pool, const MethodSpec& spec, const EncoderContext& context)
      : SparseScheme(pool, context, randk_row.info) {
    const OptionReader read(spec);
    sizes_ = kept_sizes(read, pool.summary().elements);
    plan_.positions = Positions::shared_random;
    plan_.values = read.choice<SparseValues>(
        "values", {{"f32", SparseValues::f32}, {"f16", SparseValues::f16}, {"bf16", SparseValues::bf16}});
    plan_.nominal_value_bits = plan_.values == SparseValues::f32 ? 32 : 16;
    plan_.scaled = read.is("scale", "auto") ? context.state == nullptr : read.flag("scale");
  }
};

}  // namespace

const MethodRow randk_row = {
    {.name = "randk",
     .wire_id = 13,
     .title = "Rand-k: values at random positions that the seed names",
     .source = "Wangni et al., NeurIPS 2018; Stich et al., Sparsified SGD with Memory, NeurIPS 2018",
     .bias = "unbiased with scale=on, otherwise a contraction",
     .needs = "nothing; error feedback with scale=off",
     .aggregation = "allreduce: values are added, positions are shared",
     .random_numbers = "one an element, for its position",
     .nominal_bits = "32 x density (or 16)",
     .honest_bits = "nominal",
     .backends = "cpu",
     .options = options,
     .sizing = Sizing::continuous,
     .size_option = "k",
     .unbiased = true,
     .sums = true},
    [](const TensorPool& pool, const MethodSpec& spec, const EncoderContext& context) -> std::unique_ptr<Scheme> {
      return std::make_unique<RandkScheme>(pool, spec, context);
    },
    nullptr,
    sparse_decoder_of<randk_row>};

}  // namespace jsq

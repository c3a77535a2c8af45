// Top-k: the k largest magnitudes of the pool, with their positions; of equals those of the lower index.
// Deterministic and biased; |g^ - g|^2 is the dropped energy (and what a quantizer of the
// kept adds).
#include "jsq/error.hpp"
#include "lib/methods/sparse.hpp"

namespace jsq {
namespace {

constexpr MethodOption options[] = {
    k_option,
    density_option,
    {"values", "f32|f16|bf16|q1..q8", "f32",
     "what is sent of a kept element; q1..q8: a code word of so many bits"},
    {"quant", "cell|mid|offmag|sym", "cell",
     "quantizer of q1..q8, as in jointsq, on the range of the kept magnitudes"},
    map_option,
};

class TopkScheme final : public SparseScheme {
 public:
  TopkScheme(const TensorPool& pool, const MethodSpec& spec, const EncoderContext& context)
      : SparseScheme(pool, context, topk_row.info) {
    const OptionReader read(spec);
    sizes_ = kept_sizes(read, pool.summary().elements);
    plan_.map = read_map(read);
    using element::ClassQuantizer;
    plan_.quantizer = read.choice<ClassQuantizer>("quant", {{"cell", ClassQuantizer::cell},
                                                            {"mid", ClassQuantizer::mid},
                                                            {"offmag", ClassQuantizer::offmag},
                                                            {"sym", ClassQuantizer::sym}});
    const std::string_view values = read.text("values");
    if (values.size() == 2 && values[0] == 'q' && values[1] >= '1' && values[1] <= '8') {
      plan_.values = SparseValues::quantized;
      plan_.width = uint32_t(values[1] - '0');
      plan_.nominal_value_bits = double(plan_.width);
      if (plan_.quantizer == ClassQuantizer::sym && plan_.width == 1)
        read.bad("quant", "a quantizer other than sym with values=q1, since sym's only 1-bit level is zero");
      if (plan_.quantizer == ClassQuantizer::cell && context.rounding == Rounding::stochastic)
        throw Error(
            Errc::usage,
            "topk: quant=cell is deterministic; for stochastic rounding use quant=mid, offmag or sym");
      plan_.stochastic = plan_.quantizer != ClassQuantizer::cell && context.rounding != Rounding::nearest;
      return;
    }
    if (values != "f32" && values != "f16" && values != "bf16")
      read.bad("values", "f32, f16, bf16 or q1..q8");
    plan_.values = values == "f32"   ? SparseValues::f32
                   : values == "f16" ? SparseValues::f16
                                     : SparseValues::bf16;
    plan_.nominal_value_bits = values == "f32" ? 32 : 16;
  }
};

}  // namespace

const MethodRow topk_row = {
    {.name = "topk",
     .wire_id = 12,
     .title = "Top-k: the largest magnitudes with their positions",
     .source = "Aji & Heafield, EMNLP 2017; Stich et al., Sparsified SGD with Memory, NeurIPS 2018",
     .bias = "biased: dropped elements decode to zero",
     .needs = "error feedback to converge",
     .aggregation = "allgather",
     .random_numbers = "none; one a kept element with quant=mid, offmag or sym",
     .nominal_bits = "32 x density (or 16, or the code word's bits)",
     .honest_bits = "density x (value bits + log2(1 / density) + 1.5)",
     .backends = "cpu, cuda",
     .options = options,
     .sizing = Sizing::continuous,
     .size_option = "k|density",
     .feedback = Feedback::residual},
    [](const TensorPool& pool, const MethodSpec& spec, const EncoderContext& context)
        -> std::unique_ptr<Scheme> { return std::make_unique<TopkScheme>(pool, spec, context); },
    nullptr,
    sparse_decoder_of<topk_row>};

}  // namespace jsq

// Qsparse-local-SGD's composed operator (Basu et al., NeurIPS 2019): QSGD's s levels on what Top-k or Rand-k
// keeps, with the L2 norm of a tensor's kept values as the scale. beta = min(k / s^2, sqrt(k)
// / s) bounds the rounding's relative error; divided by 1 + beta the operator is a contraction for any s.
// Elements that round to level 0 are not stored.
#include "lib/methods/sparse.hpp"

namespace jsq {
namespace {

constexpr MethodOption options[] = {
    k_option,
    density_option,
    {"select", "topk|randk", "topk", "which elements are kept; randk: positions that the seed names"},
    {"bits", "2..16", "4", "bits of a level with its sign, s = 2^(bits-1) - 1"},
    {"scale-beta", "auto|on|off", "auto",
     "decoded values divided by 1 + beta; auto: where beta is 1 or more"},
    map_option,
};

class QlsgdScheme final : public SparseScheme {
 public:
  QlsgdScheme(const TensorPool& pool, const MethodSpec& spec, const EncoderContext& context)
      : SparseScheme(pool, context, qlsgd_row.info) {
    const OptionReader read(spec);
    sizes_ = kept_sizes(read, pool.summary().elements);
    plan_.map = read_map(read);
    plan_.positions = read.choice<Positions>(
        "select", {{"topk", Positions::magnitude}, {"randk", Positions::shared_random}});
    const uint64_t bits = read.integer("bits", 2, 16);
    plan_.values = SparseValues::levels;
    plan_.steps = (1u << (bits - 1)) - 1;
    plan_.beta = read.choice<ScaleBeta>(
        "scale-beta", {{"auto", ScaleBeta::automatic}, {"on", ScaleBeta::on}, {"off", ScaleBeta::off}});
    plan_.stochastic = context.rounding != Rounding::nearest;
    plan_.nominal_value_bits = double(bits);
    plan_.nominal_tensor_bits = 32;
  }
};

}  // namespace

const MethodRow qlsgd_row = {
    {.name = "qlsgd",
     .wire_id = 15,
     .title = "Qsparse-local-SGD: QSGD on what top-k or rand-k keeps",
     .source = "Basu et al., Qsparse-local-SGD, NeurIPS 2019",
     .bias = "biased: dropped elements decode to zero; unbiased on the kept ones with scale-beta=off",
     .needs = "error feedback to converge",
     .aggregation = "allgather",
     .random_numbers = "one a kept element; one an element more with select=randk",
     .nominal_bits = "bits x density + 32 a tensor",
     .honest_bits = "positions and levels of the elements that do not round to 0",
     .backends = "cpu, cuda",
     .options = options,
     .sizing = Sizing::stepped,
     .size_option = "k|density",
     .feedback = Feedback::residual},
    [](const TensorPool& pool, const MethodSpec& spec, const EncoderContext& context)
        -> std::unique_ptr<Scheme> { return std::make_unique<QlsgdScheme>(pool, spec, context); },
    nullptr,
    sparse_decoder_of<qlsgd_row>,
    nullptr,
    false,
    true};

}  // namespace jsq

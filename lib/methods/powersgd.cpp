// PowerSGD (Vogels et al., NeurIPS 2019): one step of power iteration for the r leading directions of a
// gradient matrix M (n x m),
//   P = orth(M Q0), Q = M^T P, M^ = P Q^T,
// with Q0 ~ N(0, 1) from the seed that all workers share, or the Q of the step before. Both factors are sent;
// P and Q of workers are averaged before the next product, so both messages add. For one worker
// |M^ - M|^2 = |M|^2 - |Q|^2. Dense: tensors of fewer than two dimensions, and matrices that two factors
// would not make smaller. The published library is another algorithm: it multiplies once a step, on
// alternating sides.
#include "lib/collectives/dense.hpp"
#include "lib/methods/low_rank.hpp"
#include "lib/methods/low_rank_endpoint.hpp"
#include "lib/methods/options.hpp"

namespace jsq {
namespace {

constexpr MethodOption options[] = {
    {"rank", "auto|1..65536", "auto",
     "columns r of the factors, at most min(n, m); auto: the most that meet the target, without a target 1"},
    {"iters", "1..16", "1", "times that P and Q are computed; more come closer to the singular vectors"},
    {"factor", "f32|f16", "f32", "how the factors' numbers are stored; the paper's is f32"},
    {"dense-below", "0..1000000", "1",
     "a matrix goes dense unless its factors take this many times fewer bytes than its f32; 0: never"},
};

/// What is no matrix is added dense.
std::unique_ptr<Endpoint> powersgd_endpoint(const MethodSpec& spec, const EndpointContext& context,
                                            std::span<const float> values) {
  const OptionReader read(spec);
  if (!matrix_view(*context.info)) return make_dense_endpoint(DType::f32, context, values);
  const uint64_t rank = read.integer_or_auto("rank", 1, 65536).value_or(1);
  return make_low_rank_endpoint(LowRankAlgorithm::powersgd, rank, unsigned(read.integer("iters", 1, 16)),
                                context, values);
}

}  // namespace

const MethodRow powersgd_row = {
    {.name = "powersgd",
     .wire_id = 21,
     .title = "PowerSGD: two factors of rank r from one step of power iteration",
     .source =
         "Vogels et al., PowerSGD: Practical Low-Rank Gradient Compression for Distributed Optimization, "
         "NeurIPS 2019",
     .bias = "biased: what lies outside the r directions is lost",
     .needs = "error feedback and the Q of the step before; a single dump starts from the seed",
     .aggregation = "allreduce, twice a step: P is averaged, then Q",
     .random_numbers = "6 a number of Q0, in the first step only",
     .nominal_bits = "32 r (n + m) / (n m)",
     .honest_bits = "nominal + the rows of P that two blocks share",
     .backends = "cpu, cuda",
     .options = options,
     .sizing = Sizing::stepped,
     .size_option = "rank",
     .feedback = Feedback::residual,
     .sums = true},
    [](const TensorPool& pool, const MethodSpec& spec,
       const EncoderContext& context) -> std::unique_ptr<Scheme> {
      LowRankPlan plan = low_rank_plan(
          spec,
          {.algorithm = LowRankAlgorithm::powersgd, .wire_id = powersgd_row.info.wire_id, .native_rank = 1});
      plan.iterations = unsigned(OptionReader(spec).integer("iters", 1, 16));
      return std::make_unique<LowRankScheme>(pool, plan, context);
    },
    nullptr,
    [](std::string_view parameters, std::string_view what) {
      return make_low_rank_decoder(powersgd_row.info.name, parameters, what);
    },
    powersgd_endpoint};

}  // namespace jsq

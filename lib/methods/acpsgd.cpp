// ACP-SGD (Zhang et al., ICDCS 2023): PowerSGD with one product and one message a step. Even steps compute
//   Q = orth(Q'), P = M Q     and send P,
// odd steps
//   P = orth(P'), Q = M^T P   and send Q,
// where P' and Q' are what the step before sent, known to every worker; M^ = P Q^T. A single dump is step 0,
// whose Q' comes from the shared seed.
//
// A frame decodes alone. In step 0 it holds P only, and decoders draw Q from the seed (C order, and up to 4
// Mi numbers; otherwise it holds both). In later steps it holds both factors, though workers would send one:
// the nominal bits count that one, the file all that is in it.
#include "lib/collectives/dense.hpp"
#include "lib/methods/low_rank.hpp"
#include "lib/methods/low_rank_endpoint.hpp"
#include "lib/methods/options.hpp"

namespace jsq {
namespace {

constexpr MethodOption options[] = {
    {"rank", "auto|1..65536", "auto",
     "columns r of the factors, at most min(n, m); auto: the most that meet the target, without a target 4"},
    {"factor", "f32|f16", "f32", "how the factors' numbers are stored; the paper's is f32"},
    {"dense-below", "0..1000000", "1",
     "a matrix goes dense unless its factors take this many times fewer bytes than its f32; 0: never"},
};

/// What is no matrix is added dense.
std::unique_ptr<Endpoint> acpsgd_endpoint(const MethodSpec& spec, const EndpointContext& context,
                                          std::span<const float> values) {
  const OptionReader read(spec);
  if (!matrix_view(*context.info)) return make_dense_endpoint(DType::f32, context, values);
  const uint64_t rank = read.integer_or_auto("rank", 1, 65536).value_or(4);
  return make_low_rank_endpoint(LowRankAlgorithm::acpsgd, rank, 1, context, values);
}

}  // namespace

const MethodRow acpsgd_row = {
    {.name = "acpsgd",
     .wire_id = 22,
     .title = "ACP-SGD: PowerSGD that sends its two factors in turn",
     .source =
         "Zhang et al., Evaluation and Optimization of Gradient Compression for Distributed Deep Learning, "
         "ICDCS 2023",
     .bias = "biased: what lies outside the r directions is lost",
     .needs = "error feedback, and a sequence with the factors and the parity of the step before",
     .aggregation = "allreduce: the factor of the step is averaged",
     .random_numbers = "6 a number of Q', in the first step only",
     .nominal_bits = "32 r n / (n m) in even steps, 32 r m / (n m) in odd ones",
     .honest_bits = "nominal in step 0; later a frame holds both factors, 32 r (n + m) / (n m)",
     .backends = "cpu, cuda",
     .options = options,
     .sizing = Sizing::stepped,
     .size_option = "rank",
     .feedback = Feedback::residual,
     .sums = true},
    [](const TensorPool& pool, const MethodSpec& spec,
       const EncoderContext& context) -> std::unique_ptr<Scheme> {
      const LowRankPlan plan = low_rank_plan(
          spec,
          {.algorithm = LowRankAlgorithm::acpsgd, .wire_id = acpsgd_row.info.wire_id, .native_rank = 4});
      return std::make_unique<LowRankScheme>(pool, plan, context);
    },
    nullptr,
    [](std::string_view parameters, std::string_view what) {
      return make_low_rank_decoder(acpsgd_row.info.name, parameters, what);
    },
    acpsgd_endpoint};

}  // namespace jsq

// EF-signSGD (Karimireddy et al., ICML 2019, algorithm 1): p = g + e, sent as (||p||_1 / d) sign(p) with one
// scale a tensor; what was not sent, e <- p - sent, is added to the next gradient. A contraction with delta =
// ||p||_1^2 / (d ||p||_2^2). Zero counts as positive; a block of zeros decodes to zeros.
#include "lib/methods/signs.hpp"

namespace jsq {

const MethodRow ef_signsgd_row = {
    {.name = "ef-signsgd",
     .wire_id = 10,
     .title = "EF-signSGD: signs times the tensor's mean magnitude",
     .source =
         "Karimireddy et al., Error Feedback Fixes SignSGD and other Gradient Compression Schemes, ICML "
         "2019, algorithm 1",
     .bias = "biased; error 1 - ||p||_1^2 / (d ||p||_2^2) of the energy",
     .needs = "error feedback to converge",
     .aggregation = "allgather",
     .random_numbers = "none",
     .nominal_bits = "1 + 32 a tensor",
     .honest_bits = "nominal",
     .backends = "cpu, cuda",
     .options = {},
     .feedback = Feedback::residual},
    [](const TensorPool& pool, const MethodSpec&, const EncoderContext&) -> std::unique_ptr<Scheme> {
      return std::make_unique<SignScheme>(pool, ef_signsgd_row.info.wire_id, SignScale::mean);
    },
    nullptr,
    [](std::string_view parameters, std::string_view what) {
      return make_sign_decoder(ef_signsgd_row.info.name, parameters, what);
    }};

}  // namespace jsq

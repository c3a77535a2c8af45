// bfloat16: round to nearest even on the upper 16 bits of an f32, saturating at the largest finite number.
#include "lib/collectives/dense.hpp"
#include "lib/methods/dense.hpp"

namespace jsq {

const MethodRow bf16_row = {
    {.name = "bf16",
     .wire_id = 4,
     .title = "bf16: bfloat16, saturating",
     .source = "bfloat16, round to nearest even",
     .bias = "deterministic, relative error at most 2^-8 for normal numbers",
     .needs = "nothing",
     .aggregation = "allreduce: values are added",
     .random_numbers = "none",
     .nominal_bits = "16",
     .honest_bits = "16",
     .backends = "cpu, cuda",
     .options = {},
     .sums = true},
    [](const TensorPool&, const MethodSpec&, const EncoderContext&) -> std::unique_ptr<Scheme> {
      return std::make_unique<DenseScheme>(DType::bf16, bf16_row.info.wire_id);
    },
    nullptr,
    [](std::string_view parameters, std::string_view what) {
      return make_dense_decoder(bf16_row.info.name, DType::bf16, parameters, what);
    },
    [](const MethodSpec&, const EndpointContext& context, std::span<const float> values) {
      return make_dense_endpoint(DType::bf16, context, values);
    }};

}  // namespace jsq

// Half precision: round to nearest even, finite values beyond 65504 saturate.
#include "lib/collectives/dense.hpp"
#include "lib/methods/dense.hpp"

namespace jsq {

const MethodRow fp16_row = {
    {.name = "fp16",
     .wire_id = 3,
     .title = "fp16: IEEE half precision, saturating",
     .source = "IEEE 754 binary16, round to nearest even",
     .bias = "deterministic, relative error at most 2^-11 for normal numbers",
     .needs = "nothing",
     .aggregation = "allreduce: values are added",
     .random_numbers = "none",
     .nominal_bits = "16",
     .honest_bits = "16",
     .backends = "cpu, cuda",
     .options = {},
     .sums = true},
    [](const TensorPool&, const MethodSpec&, const EncoderContext&) -> std::unique_ptr<Scheme> {
      return std::make_unique<DenseScheme>(DType::f16, fp16_row.info.wire_id);
    },
    nullptr,
    [](std::string_view parameters, std::string_view what) {
      return make_dense_decoder(fp16_row.info.name, DType::f16, parameters, what);
    },
    [](const MethodSpec&, const EndpointContext& context, std::span<const float> values) {
      return make_dense_endpoint(DType::f16, context, values);
    }};

}  // namespace jsq

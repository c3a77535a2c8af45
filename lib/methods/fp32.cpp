// S-SGD's message: every element as it is, bit for bit.
#include "lib/collectives/dense.hpp"
#include "lib/methods/dense.hpp"

namespace jsq {

const MethodRow fp32_row = {
    {.name = "fp32",
     .wire_id = 2,
     .title = "fp32: uncompressed (S-SGD)",
     .source = "IEEE 754 binary32",
     .bias = "exact",
     .needs = "nothing",
     .aggregation = "allreduce: values are added",
     .random_numbers = "none",
     .nominal_bits = "32",
     .honest_bits = "32",
     .backends = "cpu, cuda",
     .options = {},
     .sums = true},
    [](const TensorPool&, const MethodSpec&, const EncoderContext&) -> std::unique_ptr<Scheme> {
      return std::make_unique<DenseScheme>(DType::f32, fp32_row.info.wire_id);
    },
    nullptr,
    [](std::string_view parameters, std::string_view what) {
      return make_dense_decoder(fp32_row.info.name, DType::f32, parameters, what);
    },
    [](const MethodSpec&, const EndpointContext& context, std::span<const float> values) {
      return make_dense_endpoint(DType::f32, context, values);
    }};

}  // namespace jsq

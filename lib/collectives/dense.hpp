// Allreduce of dense messages: values divided by n first, in f32, so that sums of 16-bit types do not
// overflow where the mean does not; every addition is rounded to the message's type.
#pragma once

#include "jsq/tensor.hpp"
#include "lib/collectives/endpoint.hpp"

namespace jsq {

std::unique_ptr<Endpoint> make_dense_endpoint(DType dtype, const EndpointContext& context,
                                              std::span<const float> values);

}  // namespace jsq

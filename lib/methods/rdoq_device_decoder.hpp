// Blocks of rdoq decoded on the device: the processor reads what is small (scales, and what the parameter set
// holds), the device all levels.
#pragma once

#include <functional>
#include <memory>
#include <span>

#include "lib/methods/method.hpp"
#include "lib/methods/rdoq_parameters.hpp"

namespace jsq {

/// Values of a block that the parameter set holds; empty where it does not.
using PackedValues = std::function<std::span<const float>(const BlockPlace& place, size_t count)>;

/// \pre the parameters are bound, and outlive the result  \throws Error backend_unavailable.
std::unique_ptr<DeviceBlockDecoder> make_rdoq_device_decoder(const RdoqParameters& parameters,
                                                             PackedValues packed);

}  // namespace jsq

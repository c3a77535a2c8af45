// The decoder of rdoq, for its row of the registry.
#pragma once

#include <memory>
#include <string_view>

#include "lib/methods/method.hpp"

namespace jsq {

/// \throws Error damaged, naming `what`.
std::unique_ptr<MethodDecoder> make_rdoq_decoder(std::string_view parameters, std::string_view what);

}  // namespace jsq

// Non-finite elements that `--nonfinite keep` stores beside the blocks (SPEC.md, "Exceptions"): index gaps
// and stored bits.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "jsq/tensor.hpp"

namespace jsq::wire {

struct Exceptions {
  std::vector<uint64_t> index;  ///< storage indices, ascending
  std::string bits;             ///< little-endian stored elements, in the same order
};

std::string write_exceptions(const Exceptions& exceptions, DType dtype);
/// \throws Error damaged.
Exceptions read_exceptions(std::string_view bytes, DType dtype, uint64_t count, uint64_t elements,
                           std::string_view what);

}  // namespace jsq::wire

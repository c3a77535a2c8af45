// The elements whose magnitudes reach a threshold, listed in one pass.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace jsq::cpu {

/// Lists the indices and values of the elements with at least this magnitude key, ascending, and returns how
/// many there are. Both lists have room for values.size() + 16.
size_t list_at_least(std::span<const float> values, uint32_t key, uint32_t* indices, float* listed);

}  // namespace jsq::cpu

// The Walsh-Hadamard transform and the random signs that make it a rotation.
#pragma once

#include <cstdint>
#include <span>

namespace jsq::cpu {

/// values <- H values in place: Sylvester (natural) order, unnormalised, so applying it twice multiplies by
/// the size. Every butterfly (a, b) -> (a + b, a - b) is two f32 operations, stages in the order of their
/// distance 1, 2, 4, ...: the same bits on every SIMD level. O(n log n). \pre the size is a power of two;
/// meant for blocks of up to 2^16, which stay in cache.
void walsh_hadamard(std::span<float> values);

/// Bit 31 of signs[i] <- bit e mod 32 of word e div 32 (RandomPurpose::signs), e = first_element + i. Other
/// bits of signs[i] mean nothing.
void fill_random_signs(uint64_t seed, uint64_t first_element, uint32_t tensor, std::span<uint32_t> signs);

/// Negates the values whose word in `signs` has bit 31 set. Its own inverse.
void apply_random_signs(std::span<float> values, std::span<const uint32_t> signs);

}  // namespace jsq::cpu

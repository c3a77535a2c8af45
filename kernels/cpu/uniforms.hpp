// Random words and uniforms of consecutive elements: element::random_word over arrays, many counters at a
// time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/element/philox.hpp"

namespace jsq::cpu {

/// words[i] = random_word(seed, first_element + i, tensor, purpose), whatever the place of first_element in
/// its block of four.
void fill_words(uint64_t seed, uint64_t first_element, uint32_t tensor, element::RandomPurpose purpose,
                std::span<uint32_t> words);

/// uniforms[i] = uniform_of_word(random_word(seed, first_element + i, tensor, purpose)), in [0, 1).
void fill_uniforms(uint64_t seed, uint64_t first_element, uint32_t tensor, element::RandomPurpose purpose,
                   std::span<float> uniforms);

/// The indices of the words that are at most `limit`, ascending, into `indices`; returns how many there are.
/// \pre indices has words.size() + 16 entries.
size_t list_words_up_to(std::span<const uint32_t> words, uint32_t limit, uint32_t* indices);

}  // namespace jsq::cpu

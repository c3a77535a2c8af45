// Philox4x32-10: randomness as a function of position (Salmon et al., "Parallel random numbers: as easy as 1,
// 2, 3", SC 2011). Key = seed, counter = (element / 4, tensor, purpose); never a function of schedule, thread
// or backend.
#pragma once

#include <cstdint>

#include "kernels/element/hostdevice.hpp"

namespace jsq::element {

struct PhiloxBlock {
  uint32_t word[4];
};

/// The ten-round Philox4x32 bijection of a 128-bit counter under a 64-bit key.
JSQ_HD PhiloxBlock philox4x32_10(PhiloxBlock counter, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t(0xD2511F53u) * counter.word[0];
    const uint64_t product1 = uint64_t(0xCD9E8D57u) * counter.word[2];
    counter = {{uint32_t(product1 >> 32) ^ counter.word[1] ^ key0, uint32_t(product1),
                uint32_t(product0 >> 32) ^ counter.word[3] ^ key1, uint32_t(product0)}};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

/// What a random number is for; part of the counter, so that streams never overlap. Append only.
enum class RandomPurpose : uint32_t {
  rounding = 1,
  sampling = 2,
  positions = 3,
  signs = 4,
  start = 5,
  transit = 6,
  worker = 7
};

/// The random word of one element: word (element mod 4) of the Philox block with counter
/// (low and high half of element / 4, tensor, purpose) and key (low and high half of seed).
JSQ_HD uint32_t random_word(uint64_t seed, uint64_t element, uint32_t tensor, RandomPurpose purpose) {
  const uint64_t quad = element / 4;
  const PhiloxBlock block = philox4x32_10({{uint32_t(quad), uint32_t(quad >> 32), tensor, uint32_t(purpose)}},
                                          uint32_t(seed), uint32_t(seed >> 32));
  // Chosen, not indexed: a device would put the block into memory for that.
  const uint32_t place = uint32_t(element % 4);
  const uint32_t low = place & 1 ? block.word[1] : block.word[0],
                 high = place & 1 ? block.word[3] : block.word[2];
  return place & 2 ? high : low;
}

/// Uniform in [0, 1) with 24 bits: (word >> 8) x 2^-24.
JSQ_HD float uniform_of_word(uint32_t word) {
  return float(word >> 8) * 0x1p-24f;
}

}  // namespace jsq::element

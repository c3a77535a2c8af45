// Eight or sixteen lanes at once decode what one after the other does, whatever the tables, states and words
// are.
#include "kernels/cpu/context_eights.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <tuple>
#include <vector>

#include "tests/kernels/data.hpp"
#include "tests/kernels/simd_levels.hpp"

namespace jsq {
namespace {

struct Decoded {
  std::vector<uint8_t> symbols;
  std::vector<float> values;
  std::vector<uint32_t> states, escapes;
  size_t at = 0, count = 0;
  bool operator==(const Decoded&) const = default;
};

struct Case {
  std::vector<uint32_t> slots;
  std::vector<cpu::ComparedSymbols> compared;
  std::vector<float> values;
  std::vector<uint8_t> classes;
  std::string words;
  std::vector<uint32_t> states;
  uint32_t last = 0;
  bool alternate = false;

  cpu::ContextDecoding with() const {
    return {slots.data(), compared.data(), values.data(), last, alternate};
  }
};

/// The frequencies of `present` symbols at random, which sum to 4096; the escape is often one of them.
std::vector<uint32_t> random_frequencies(test::Random& random, uint32_t present) {
  std::vector<uint32_t> frequencies(32);
  for (uint32_t left = present, rest = 4096; left > 0;) {
    const auto s = left == present && present > 2 ? 31u : uint32_t(random.below(32));
    if (frequencies[s] > 0) continue;
    frequencies[s] = left == 1 ? rest : 1 + uint32_t(random.below((rest - left) / 2 + 1));
    rest -= frequencies[s];
    --left;
  }
  return frequencies;
}

/// `alike`: neighbours are of one class, 48 at a time.
Case random_case(uint32_t lanes, uint32_t last, bool alternate, size_t count, size_t bytes,
                 uint32_t zeros_in_ten, bool alike, uint64_t seed) {
  test::Random random(seed);
  Case made;
  made.last = last;
  made.alternate = alternate;
  for (uint32_t table = 0; table <= last; ++table) {
    const uint32_t present[] = {1, 2, 8, 9, 10, 15, 16, 17, 32};
    const std::vector<uint32_t> frequencies = random_frequencies(random, present[random.below(9)]);
    for (uint32_t s = 0; s < 32; ++s)
      for (uint32_t i = 0; i < frequencies[s]; ++i)
        made.slots.push_back(s | (frequencies[s] - 1) << 5 | i << 17);
    made.compared.push_back(cpu::make_compared_symbols(frequencies));
  }
  for (size_t i = 0; i < 256 * 32; ++i) made.values.push_back(float(i) + 0.5f);
  for (size_t i = 0; i < count; ++i) {
    const bool zero = zeros_in_ten > 0 && test::Random(seed + i / 16).below(10) < zeros_in_ten;
    const uint64_t classes = std::min(last + 9, 78u),
                   one = alike ? test::Random(seed + 100 + i / 48).below(classes) : random.below(classes);
    made.classes.push_back(zero ? uint8_t(0) : uint8_t(one));
  }
  for (size_t i = 0; i < bytes; ++i) made.words.push_back(char(random.word()));
  for (uint32_t l = 0; l < lanes; ++l) made.states.push_back(uint32_t(random.word()) | 0x10000u);
  return made;
}

/// By the definition of interleaved rANS with static tables, one element after the other.
Decoded one_by_one(const Case& made, size_t at) {
  Decoded result;
  result.symbols.assign(made.classes.size(), 99);
  result.values.assign(made.classes.size(), -1.0f);
  result.states = made.states;
  const size_t lanes = made.states.size(), groups = made.classes.size() / lanes;
  for (size_t g = 0; g < groups && at + 2 * lanes <= made.words.size(); ++g, result.count += lanes) {
    bool zeros = true;
    for (size_t l = 0; l < lanes; ++l) zeros = zeros && made.classes[lanes * g + l] == 0;
    for (size_t l = 0; l < lanes; ++l) {
      const size_t i = lanes * g + l;
      if (zeros) {
        result.symbols[i] = 0;
        result.values[i] = 0;
        continue;
      }
      uint32_t table = made.classes[i];
      if (table > made.last) {
        const bool even = (table - made.last) % 2 == 0;
        table = !made.alternate || even ? made.last : made.last - 1;
      }
      uint32_t& x = result.states[l];
      const uint32_t slot = made.slots[table * 4096 + x % 4096];
      x = ((slot / 32 % 4096) + 1) * (x / 4096) + slot / 131072;
      if (x < 65536) {
        uint16_t word;
        std::memcpy(&word, made.words.data() + at, 2);
        x = x * 65536 + word;
        at += 2;
      }
      result.symbols[i] = uint8_t(slot % 32);
      result.values[i] = made.values[size_t(made.classes[i]) * 32 + slot % 32];
      if (slot % 32 == 31) result.escapes.push_back(uint32_t(i));
    }
  }
  result.at = at;
  return result;
}

TEST(ContextEights, AreTheElementsOneByOne) {
  uint64_t seed = 1;
  for (const auto& [last, alternate] : {std::pair(22u, true), {7u, false}, {2u, true}, {1u, false}})
    for (const size_t count : {0, 7, 8, 9, 16, 640, 5000})
      for (const size_t bytes : {0, 15, 16, 17, 35, 200, 20000})
        for (const auto& [lanes, zeros, alike] : {std::tuple(8u, 0u, false),
                                                  {8u, 8u, false},
                                                  {8u, 10u, false},
                                                  {16u, 0u, false},
                                                  {16u, 0u, true},
                                                  {16u, 8u, true},
                                                  {16u, 8u, false},
                                                  {16u, 10u, false}}) {
          const Case made = random_case(lanes, last, alternate, count, bytes, zeros, alike, ++seed);
          const size_t begin = std::min<size_t>(3, bytes);
          const Decoded expected = one_by_one(made, begin);
          test::for_each_simd_level([&, last = last] {
            Decoded found;
            found.symbols.assign(count, 99);
            found.values.assign(count, -1.0f);
            found.states = made.states;
            found.at = begin;
            found.escapes.resize(count + 1);
            const cpu::ContextDecoded decoded =
                cpu::decode_context_groups(made.with(), uint32_t(made.states.size()), made.classes.data(),
                                           count, made.words.data(), bytes, found.at, found.states.data(),
                                           found.symbols.data(), found.values.data(), found.escapes.data());
            found.count = decoded.count;
            found.escapes.resize(decoded.escapes);
            EXPECT_EQ(found == expected, true)
                << last << ' ' << count << ' ' << bytes << ' ' << made.states.size();
          });
        }
}

}  // namespace
}  // namespace jsq

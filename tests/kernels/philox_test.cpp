// Philox4x32-10 against Random123: its published known answers (kat_vectors of the Random123 1.14
// distribution) and, where Debian's librandom123-dev is installed, its own code.
#include "kernels/element/philox.hpp"

#include <gtest/gtest.h>

#include <array>
#include <set>

#include "tests/kernels/data.hpp"

#if __has_include(<Random123/philox.h>)
#include <Random123/philox.h>
#define JSQ_TEST_HAS_RANDOM123 1
#endif

namespace jsq::element {
namespace {

using Words = std::array<uint32_t, 4>;

Words philox(Words counter, uint32_t key0, uint32_t key1) {
  const PhiloxBlock block = philox4x32_10({{counter[0], counter[1], counter[2], counter[3]}}, key0, key1);
  return {block.word[0], block.word[1], block.word[2], block.word[3]};
}

TEST(Philox, GivesTheKnownAnswersOfRandom123) {
  EXPECT_EQ(philox({0, 0, 0, 0}, 0, 0), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox({~0u, ~0u, ~0u, ~0u}, ~0u, ~0u), (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0xa4093822, 0x299f31d0),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

#ifdef JSQ_TEST_HAS_RANDOM123
TEST(Philox, EqualsRandom123OnRandomCountersAndKeys) {
  test::Random random(1);
  for (int i = 0; i < 20000; ++i) {
    Words counter;
    for (uint32_t& word : counter) word = uint32_t(random.word());
    const uint32_t key0 = uint32_t(random.word()), key1 = uint32_t(random.word());
    const philox4x32_ctr_t random123_counter = {{counter[0], counter[1], counter[2], counter[3]}};
    const philox4x32_key_t random123_key = {{key0, key1}};
    const philox4x32_ctr_t expected = philox4x32_R(10, random123_counter, random123_key);
    ASSERT_EQ(philox(counter, key0, key1),
              (Words{expected.v[0], expected.v[1], expected.v[2], expected.v[3]}));
  }
}
#endif

TEST(RandomWord, IsTheWordAtTheElementsPlaceInTheBlockOfItsQuad) {
  test::Random random(2);
  for (int i = 0; i < 2000; ++i) {
    const uint64_t seed = random.word(), element = random.word() >> random.below(60);
    const uint32_t tensor = uint32_t(random.word());
    for (uint32_t purpose : {1u, 2u}) {
      const uint64_t quad = element / 4;
      const Words block = philox({uint32_t(quad), uint32_t(quad >> 32), tensor, purpose}, uint32_t(seed),
                                 uint32_t(seed >> 32));
      ASSERT_EQ(random_word(seed, element, tensor, RandomPurpose(purpose)), block[element % 4]);
    }
  }
}

TEST(RandomWord, DependsOnSeedElementTensorAndPurpose) {
  std::set<uint32_t> seen;
  size_t asked = 0;
  for (uint64_t seed : {0ull, 1ull, 1ull << 32})
    for (uint64_t element : {0ull, 1ull, 4ull, 1ull << 34})
      for (uint32_t tensor : {0u, 1u})
        for (RandomPurpose purpose : {RandomPurpose::rounding, RandomPurpose::sampling}) {
          seen.insert(random_word(seed, element, tensor, purpose));
          ++asked;
        }
  EXPECT_EQ(seen.size(), asked);
}

TEST(UniformOfWord, IsTheTop24BitsAsAFractionBelowOne) {
  EXPECT_EQ(uniform_of_word(0), 0.0f);
  EXPECT_EQ(uniform_of_word(255), 0.0f);
  EXPECT_EQ(uniform_of_word(256), 0x1p-24f);
  EXPECT_EQ(uniform_of_word(0x80000000u), 0.5f);
  EXPECT_EQ(uniform_of_word(~0u), 1.0f - 0x1p-24f);
}

TEST(UniformOfWord, HasTheMeanAndVarianceOfAUniform) {
  double sum = 0, squares = 0;
  constexpr int n = 400000;
  for (int i = 0; i < n; ++i) {
    const double u = double(uniform_of_word(random_word(7, uint64_t(i), 3, RandomPurpose::rounding)));
    sum += u;
    squares += u * u;
  }
  const double mean = sum / n, variance = squares / n - mean * mean;
  EXPECT_NEAR(mean, 0.5, 4 * std::sqrt(1.0 / 12 / n));
  EXPECT_NEAR(variance, 1.0 / 12, 4 * std::sqrt(1.0 / 180 / n));
}

}  // namespace
}  // namespace jsq::element

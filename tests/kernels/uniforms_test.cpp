// Random words over arrays against random_word, element by element, on every SIMD level.
#include "kernels/cpu/uniforms.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "tests/kernels/data.hpp"
#include "tests/kernels/simd_levels.hpp"

namespace jsq::cpu {
namespace {

using element::RandomPurpose;

/// Places with every remainder by four, among them where the block counter passes 2^32 and where it ends.
constexpr uint64_t places[] = {
    0, 1, 2, 3, 4, 5, 61, 62, 63, 64, 65, 4294967291u, 17179869178, 17179869184u + 3, 1ull << 61};

TEST(FillWords, EqualsRandomWordOfEveryElementAtAnyPlaceAndSize) {
  test::for_each_simd_level([] {
    for (uint64_t first : places)
      for (size_t n : {0, 1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 127, 130, 1000}) {
        std::vector<uint32_t> words(n + 1, 0xabcdef01u);
        fill_words(0x123456789abcdef0u, first, 7, RandomPurpose::signs, {words.data(), n});
        for (size_t i = 0; i < n; ++i)
          ASSERT_EQ(words[i], element::random_word(0x123456789abcdef0u, first + i, 7, RandomPurpose::signs))
              << first << " + " << i << " of " << n;
        ASSERT_EQ(words[n], 0xabcdef01u) << "written beyond " << n;
      }
  });
}

TEST(FillUniforms, EqualsTheUniformOfEveryElementsWord) {
  test::for_each_simd_level([] {
    for (uint64_t first : places)
      for (size_t n : {0, 1, 3, 64, 65, 777}) {
        std::vector<float> uniforms(n + 1, -1.0f);
        fill_uniforms(99, first, 3, RandomPurpose::rounding, {uniforms.data(), n});
        for (size_t i = 0; i < n; ++i)
          ASSERT_EQ(uniforms[i],
                    element::uniform_of_word(element::random_word(99, first + i, 3, RandomPurpose::rounding)))
              << first << " + " << i;
        ASSERT_EQ(uniforms[n], -1.0f);
      }
  });
}

TEST(FillWords, DependsOnSeedTensorAndPurpose) {
  test::for_each_simd_level([] {
    test::Random random(4);
    for (int i = 0; i < 200; ++i) {
      const uint64_t seed = random.word(), first = random.word() >> random.below(62);
      const auto tensor = uint32_t(random.word());
      const RandomPurpose purposes[] = {
          RandomPurpose::rounding, RandomPurpose::sampling, RandomPurpose::positions, RandomPurpose::signs,
          RandomPurpose::start,    RandomPurpose::transit,  RandomPurpose::worker};
      const RandomPurpose purpose = purposes[i % 7];
      uint32_t words[70];
      fill_words(seed, first, tensor, purpose, words);
      for (uint64_t k = 0; k < 70; ++k)
        ASSERT_EQ(words[k], element::random_word(seed, first + k, tensor, purpose));
    }
  });
}

TEST(RandomPurpose, KeepsTheNumbersThatFramesRelyOn) {
  EXPECT_EQ(uint32_t(RandomPurpose::rounding), 1u);
  EXPECT_EQ(uint32_t(RandomPurpose::sampling), 2u);
  EXPECT_EQ(uint32_t(RandomPurpose::positions), 3u);
  EXPECT_EQ(uint32_t(RandomPurpose::signs), 4u);
  EXPECT_EQ(uint32_t(RandomPurpose::start), 5u);
  EXPECT_EQ(uint32_t(RandomPurpose::transit), 6u);
  EXPECT_EQ(uint32_t(RandomPurpose::worker), 7u);
}

}  // namespace
}  // namespace jsq::cpu

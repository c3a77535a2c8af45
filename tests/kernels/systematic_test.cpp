// Systematic sampling: counts are those of the definition with the stated sums, at every SIMD level and
// length, and add up.
#include "kernels/cpu/systematic.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/kernels/data.hpp"
#include "tests/kernels/simd_levels.hpp"

namespace jsq {
namespace {

std::vector<float> gradients(test::Random& random, size_t n) {
  std::vector<float> values(n);
  for (float& g : values) {
    const float uniform = float(random.below(2000001)) / 1000000 - 1;
    g = random.below(5) == 0 ? 0.0f : uniform * uniform * uniform;
  }
  return values;
}

constexpr size_t lengths[] = {0, 1, 2, 3, 4, 5, 7, 255, 256, 257, 259, 1000, 4099};

TEST(SumInFours, IsTheSumOfMagnitudes) {
  test::for_each_simd_level([] {
    test::Random random(1);
    for (size_t n : lengths) {
      const std::vector<float> values = gradients(random, n);
      long double sum = 0;
      for (float g : values) sum += std::abs((long double)g);
      EXPECT_NEAR(cpu::sum_in_fours(values), double(sum), 1e-12 * double(sum));
    }
  });
}

TEST(CountSamples, IsTheDefinitionSampleBySample) {
  test::for_each_simd_level([] {
    test::Random random(2);
    for (size_t n : lengths)
      for (double rate : {0.3, 7.0, 900.0}) {
        const std::vector<float> values = gradients(random, n);
        const double start = double(random.below(1000)) / 100,
                     offset = double(random.below(1 << 20)) / (1 << 20);
        std::vector<int32_t> counts(n);
        cpu::count_samples(values, start, rate, offset, counts);
        // Sums of one group of four after the other, and samples looked for one by one.
        double group = start;
        int64_t j = int64_t(std::ceil(std::max(0.0, start * rate - offset)));
        for (size_t i = 0; i < n; ++i) {
          const auto m = [&](size_t k) { return k < n ? std::abs(double(values[k])) : 0.0; };
          const size_t first = i / 4 * 4;
          if (i == first && i > 0) group += (m(i - 4) + m(i - 3)) + (m(i - 2) + m(i - 1));
          const double two = m(first) + m(first + 1);
          const double inside[] = {m(first), two, two + m(first + 2), two + (m(first + 2) + m(first + 3))};
          const double sum = group + inside[i - first];
          int32_t expected = 0;
          for (; double(j) < sum * rate - offset; ++j) ++expected;
          ASSERT_EQ(counts[i], std::signbit(values[i]) ? -expected : expected) << i << " of " << n;
        }
      }
  });
}

TEST(CountSamples, PiecesAddUpToTheWhole) {
  test::Random random(3);
  const std::vector<float> values = gradients(random, 5000);
  const double total = cpu::sum_in_fours(values), rate = 1000 / total;
  int64_t samples = 0;
  double start = 0;
  for (size_t at = 0; at < values.size(); at += 1000) {
    const auto piece = std::span<const float>(values).subspan(at, 1000);
    std::vector<int32_t> counts(1000);
    cpu::count_samples(piece, start, rate, 0.25, counts);
    for (int32_t count : counts) samples += std::abs(count);
    start += cpu::sum_in_fours(piece);
  }
  EXPECT_EQ(samples, 1000);
}

}  // namespace
}  // namespace jsq

// The kernel transform: the table is the cosine formula, both directions are that transform, and the integer
// inverse stays in range.
#include "lib/transforms/kernel_dct.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <vector>

#include "tests/kernels/data.hpp"

namespace jsq {
namespace {

using Extents = std::vector<uint64_t>;

double cosine_entry(uint32_t k, uint32_t u, uint32_t i) {
  return std::sqrt((u > 0 ? 2.0 : 1.0) / k) * std::cos(std::numbers::pi * (2 * i + 1) * u / (2.0 * k));
}

TEST(DctTable, IsTheRoundedCosineFormula) {
  for (uint32_t k = least_dct; k <= most_dct; ++k) {
    const auto table = dct_table(k);
    ASSERT_EQ(table.size(), size_t(k) * k);
    for (uint32_t u = 0; u < k; ++u)
      for (uint32_t i = 0; i < k; ++i)
        EXPECT_EQ(table[u * k + i], std::lround(65536 * cosine_entry(k, u, i))) << k;
  }
}

TEST(DctTable, OfThreeIsThreeButterflies) {
  const auto t = dct_table(3);
  EXPECT_EQ(t[1], t[0]);
  EXPECT_EQ(t[2], t[0]);
  EXPECT_EQ(t[4], 0);
  EXPECT_EQ(t[5], -t[3]);
  EXPECT_EQ(t[7], -2 * t[6]);
  EXPECT_EQ(t[8], t[6]);
}

TEST(KernelDct, AppliesToKernelsOfUpToThreeAxesOfTwoToSeven) {
  for (const Extents& yes : {Extents{3, 3}, {1, 7}, {2}, {5, 1, 3}, {7, 7, 7}, {1, 3, 1, 3, 3}})
    EXPECT_TRUE(KernelDct::applies(yes));
  for (const Extents& no : {Extents{}, {1}, {1, 1}, {8, 3}, {11, 11}, {2, 2, 2, 2}, {0, 3}})
    EXPECT_FALSE(KernelDct::applies(no));
}

/// The separable definition, over all axes at once.
std::vector<double> transform(const Extents& extents, const std::vector<double>& in, bool inverse) {
  std::vector<double> out(in.size());
  const auto digits = [&](size_t number) {
    std::vector<uint32_t> d(extents.size());
    for (size_t a = extents.size(); a-- > 0; number /= extents[a]) d[a] = uint32_t(number % extents[a]);
    return d;
  };
  for (size_t o = 0; o < in.size(); ++o)
    for (size_t i = 0; i < in.size(); ++i) {
      double weight = 1;
      const auto to = digits(o), from = digits(i);
      for (size_t a = 0; a < extents.size(); ++a)
        weight *= inverse ? cosine_entry(uint32_t(extents[a]), from[a], to[a])
                          : cosine_entry(uint32_t(extents[a]), to[a], from[a]);
      out[o] += weight * in[i];
    }
  return out;
}

const Extents kernels[] = {{2}, {3}, {7}, {3, 3}, {1, 5}, {4, 6}, {7, 7}, {5, 5}, {2, 3, 4}, {7, 7, 7}};

TEST(KernelDct, ForwardIsTheTransform) {
  test::Random random(1);
  for (const Extents& extents : kernels) {
    const KernelDct dct(extents);
    std::vector<float> in(3 * dct.size()), out(in.size());
    for (float& x : in) x = float(random.below(2000001)) / 1000000 - 1;
    dct.forward(in, out.data(), 3);
    for (size_t k = 0; k < 3; ++k) {
      const std::vector<double> one(in.begin() + std::ptrdiff_t(k * dct.size()),
                                    in.begin() + std::ptrdiff_t((k + 1) * dct.size()));
      const std::vector<double> expected = transform(extents, one, false);
      for (size_t i = 0; i < dct.size(); ++i) ASSERT_NEAR(out[i * 3 + k], expected[i], 1e-4);
    }
  }
}

TEST(KernelDct, InverseIsTheTransformToWithinItsTableAndHalfAUnit) {
  test::Random random(2);
  for (const Extents& extents : kernels) {
    const KernelDct dct(extents);
    std::vector<int64_t> kernel(dct.size());
    std::vector<double> in;
    for (int64_t& x : kernel) in.push_back(double(x = int64_t(random.below(20001)) - 10000));
    dct.inverse(kernel);
    const std::vector<double> expected = transform(extents, in, true);
    for (size_t i = 0; i < kernel.size(); ++i)
      ASSERT_NEAR(double(kernel[i]), expected[i], 0.6 + 10000 * 1e-4 * double(dct.axes()));
  }
}

TEST(KernelDct, AConstantKernelIsOneCoefficient) {
  const KernelDct dct(Extents{3, 3});
  std::vector<int64_t> kernel(9);
  kernel[0] = 3000;  // three times the constant
  dct.inverse(kernel);
  for (int64_t x : kernel) EXPECT_NEAR(double(x), 1000, 1);
}

TEST(KernelDct, TheLargestCoefficientsDoNotOverflow) {
  for (const Extents& extents : kernels) {
    const KernelDct dct(extents);
    std::vector<int64_t> kernel(dct.size(), KernelDct::most_coefficient);
    std::vector<double> in(kernel.begin(), kernel.end());
    dct.inverse(kernel);
    const std::vector<double> expected = transform(extents, in, true);
    for (size_t i = 0; i < kernel.size(); ++i)
      ASSERT_NEAR(double(kernel[i]) / double(KernelDct::most_coefficient),
                  expected[i] / double(KernelDct::most_coefficient), 2e-3);
  }
}

TEST(KernelDct, PlanesOfSmallAndOfLargeNumbersInvertAsOneKernelDoes) {
  test::Random random(3);
  for (const Extents& extents : kernels)
    for (const int64_t most : {int64_t(100), int64_t(1) << 24, KernelDct::most_coefficient}) {
      const KernelDct dct(extents);
      constexpr size_t count = 5, stride = cpu::padded_plane(count);
      std::vector<double> numbers(dct.size() * stride);
      std::vector<std::vector<int64_t>> expected(count, std::vector<int64_t>(dct.size()));
      for (size_t c = 0; c < count; ++c) {
        for (size_t k = 0; k < dct.size(); ++k) {
          expected[c][k] = int64_t(random.below(uint64_t(2 * most) + 1)) - most;
          numbers[k * stride + c] = double(expected[c][k]);
        }
        dct.inverse(expected[c]);
      }
      dct.inverse(cpu::Planes{numbers.data(), stride, count, dct.size()});
      for (size_t c = 0; c < count; ++c)
        for (size_t k = 0; k < dct.size(); ++k)
          ASSERT_EQ(numbers[k * stride + c], double(expected[c][k])) << most;
    }
}

}  // namespace
}  // namespace jsq

// Rate-distortion bounds against sources whose R(D) is known in closed form, and the properties that every
// R(D) has.
#include "jsq/rate_distortion.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <functional>
#include <numbers>
#include <random>

namespace jsq {
namespace {

/// The histogram of a distribution: P(|g| < x), and the mean of g^2 below x, both exact.
MagnitudeHistogram histogram_of(const std::function<double(double)>& below,
                                const std::function<double(double)>& energy_below) {
  MagnitudeHistogram histogram;
  for (uint32_t index = 1; index < 4079; ++index) {
    const double low = magnitude_bin_edge(index), high = magnitude_bin_edge(index + 1);
    const double members = below(high) - below(low), energy = energy_below(high) - energy_below(low);
    if (members > 1e-14 && energy > 0) histogram.bins.push_back({index, 1e9 * members, 1e9 * energy});
  }
  return histogram;
}

MagnitudeHistogram gaussian(double deviation = 1) {
  return histogram_of([=](double x) { return std::erf(x / deviation / std::numbers::sqrt2); },
                      [=](double x) {
                        const double z = x / deviation;
                        return deviation * deviation *
                               (std::erf(z / std::numbers::sqrt2) -
                                z * std::sqrt(2 / std::numbers::pi) * std::exp(-z * z / 2));
                      });
}

/// Scale 1: variance 2.
MagnitudeHistogram laplace() {
  return histogram_of([](double x) { return -std::expm1(-x); },
                      [](double x) { return 2 - std::exp(-x) * (x * x + 2 * x + 2); });
}

TEST(RateDistortion, OfAGaussianSourceIsTwoToTheMinusTwoBits) {
  const RateDistortion bound({gaussian()});
  for (double bits : {0.01, 0.1, 0.5, 1.0, 2.0, 4.0, 8.0}) {
    const double expected = std::exp2(-2 * bits);
    EXPECT_NEAR(bound.nmse_at(bits) / expected, 1, 1e-3) << bits;
    EXPECT_NEAR(bound.shannon_nmse_at(bits) / expected, 1, 1e-3) << bits;
    EXPECT_NEAR(bound.bits_at(expected), bits, 1e-3) << bits;
  }
  EXPECT_LT(bound.error_of_answers(), 1e-3);
}

TEST(RateDistortion, OfALaplaceSourceNearsShannonsBoundAtHighRatesAndLeavesItAtLowOnes) {
  const RateDistortion bound({laplace()});
  // h = log2(2 e) bits, so Shannon's bound is (2 e)^2 / (2 pi e) 2^-2R, over a variance of 2.
  const auto shannon = [](double bits) { return std::numbers::e / std::numbers::pi * std::exp2(-2 * bits); };
  for (double bits : {1.0, 3.0, 6.0})
    EXPECT_NEAR(bound.shannon_nmse_at(bits) / shannon(bits), 1, 1e-3) << bits;
  for (double bits : {4.0, 6.0, 8.0}) EXPECT_NEAR(bound.nmse_at(bits) / shannon(bits), 1, 2e-3) << bits;
  // Of all sources of one variance the Gaussian one is the hardest (Berger 1971).
  for (double bits : {0.05, 0.3, 1.0}) {
    EXPECT_LT(bound.nmse_at(bits), std::exp2(-2 * bits)) << bits;
    EXPECT_GT(bound.nmse_at(bits), (bits < 1 ? 1.01 : 1) * shannon(bits)) << bits;
  }
}

TEST(RateDistortion, OfOneMagnitudeAndTwoSignsIsThatOfAFairCoinAtLowRates) {
  // Smoothed over a bin of 1/16 of the magnitude, which low rates do not see.
  MagnitudeHistogram coin;
  const uint32_t index = std::bit_cast<uint32_t>(1.0f) >> 19;
  const double mean_square = std::pow((magnitude_bin_edge(index) + magnitude_bin_edge(index + 1)) / 2, 2);
  coin.bins = {{index, 1e6, 1e6 * mean_square}};
  const RateDistortion bound({coin});
  for (double error : {0.9, 0.7, 0.5}) {
    // Two reproductions +-y over a symmetric channel with crossover e: D = (1 - e)(1 - y)^2 + e (1 + y)^2 is
    // least at y = 1 - 2 e, where it is 4 e (1 - e), and R = 1 - H_b(e).
    const double e = (1 - std::sqrt(1 - error)) / 2;
    const double bits = 1 + e * std::log2(e) + (1 - e) * std::log2(1 - e);
    EXPECT_NEAR(bound.bits_at(error), bits, 5e-3) << error;
  }
}

TEST(RateDistortion, OfSparseSignsStaysBelowTheCostOfTheirPositions) {
  // 1 % of the elements are +-1: the positions cost H_b(0.01), the signs 0.01 bit, and then nothing is lost
  // but what the smoothing over a bin adds; so at that rate the error is small, and at none it is 1.
  MagnitudeHistogram sparse;
  sparse.zeros = 0.99e6;
  sparse.bins = {{std::bit_cast<uint32_t>(1.0f) >> 19, 1e4, 1e4 * 1.06}};
  const RateDistortion bound({sparse});
  const double all = -0.01 * std::log2(0.01) - 0.99 * std::log2(0.99) + 0.01;
  EXPECT_LT(bound.nmse_at(all), 0.002);
  EXPECT_GT(bound.nmse_at(all), 0);
  EXPECT_GT(bound.nmse_at(all / 2), 0.2);
  EXPECT_GT(bound.nmse_at(all / 2), bound.shannon_nmse_at(all / 2));
}

TEST(RateDistortion, SharesTheRateOfGaussianPartsByReverseWaterFilling) {
  // Variances 1 and 1/16 in equal numbers: at a distortion below 1/16 both get it; above, the small one gets
  // no bits.
  const RateDistortion bound({gaussian(1), gaussian(0.25)});
  const double variance = (1 + 1.0 / 16) / 2;
  const double low = 0.02;  // below 1/16
  EXPECT_NEAR(bound.bits_at(low / variance), 0.25 * std::log2(1 / low) + 0.25 * std::log2(1 / 16.0 / low),
              2e-3);
  const double high = 0.3;  // of the large part; the small one keeps its variance
  EXPECT_NEAR(bound.bits_at((high + 1.0 / 16) / 2 / variance), 0.25 * std::log2(1 / high), 2e-3);
}

TEST(RateDistortion, IsTheSameAtAnyScaleOfTheValues) {
  const RateDistortion one({gaussian(1)}), small({gaussian(0x1p-40)}), large({gaussian(0x1p60)});
  for (double bits : {0.2, 1.5}) {
    EXPECT_NEAR(small.nmse_at(bits) / one.nmse_at(bits), 1, 1e-9);
    EXPECT_NEAR(large.nmse_at(bits) / one.nmse_at(bits), 1, 1e-9);
  }
}

TEST(RateDistortion, FallsConvexlyFromOneAndBitsAtIsItsInverse) {
  const RateDistortion bound({laplace()});
  EXPECT_EQ(bound.nmse_at(0), 1);
  EXPECT_EQ(bound.bits_at(1), 0);
  EXPECT_TRUE(std::isinf(bound.bits_at(0)));
  double last = 1, last_fall = 1e9;
  for (double bits = 0.25; bits < 4; bits += 0.25) {
    const double error = bound.nmse_at(bits), fall = last - error;
    EXPECT_LT(error, last);
    EXPECT_LT(fall, last_fall);
    EXPECT_NEAR(bound.bits_at(error), bits, 2e-3);
    last = error;
    last_fall = fall;
  }
}

TEST(RateDistortion, OfZerosAndOfNothingIsNoError) {
  MagnitudeHistogram zeros;
  zeros.zeros = 100;
  for (const RateDistortion& bound : {RateDistortion({zeros}), RateDistortion({})}) {
    EXPECT_EQ(bound.nmse_at(1), 0);
    EXPECT_EQ(bound.bits_at(0.5), 0);
    EXPECT_EQ(bound.shannon_nmse_at(1), 0);
  }
}

TEST(RateDistortionBounds, KnowingTensorsAndScalesNeverCostsAnything) {
  // A product of row and column scales: the scales explain all that is not Gaussian.
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  constexpr size_t rows = 128, columns = 256;
  std::vector<float> row(rows), column(columns), values;
  for (float& r : row) r = std::exp2(2 * normal(random));
  for (float& c : column) c = std::exp2(normal(random));
  for (float r : row)
    for (float c : column) values.push_back(r * c * normal(random));
  TensorInfo info;
  info.shape = {rows, columns};
  const InputDump dump{"x.npy", source_of(info, values), {}, true};
  const RateDistortionBounds bounds = rate_distortion_bounds({dump}, 1);
  EXPECT_EQ(bounds.pooled.elements(), double(rows * columns));
  double geometric = 0,
         arithmetic = 0;  // of the parts' variances, in half octaves of what the scales really are
  for (float r : row)
    for (float c : column) {
      geometric += 2 * std::log(double(r) * c) / (rows * columns);
      arithmetic += double(r) * c * r * c / (rows * columns);
    }
  // With scales known the source is Gaussian with variances (r c)^2: at a rate high enough for all of them,
  // its D(R) is their geometric mean times 2^-2R. Classes of half an octave and estimated scales cost some of
  // it.
  const double limit = std::exp(geometric) / arithmetic * std::exp2(-2 * 6.0);
  EXPECT_NEAR(bounds.scales.nmse_at(6) / limit, 1, 0.1);
  EXPECT_GT(bounds.pooled.nmse_at(6), 3 * limit);
  EXPECT_NEAR(bounds.tensors.nmse_at(6) / bounds.pooled.nmse_at(6), 1, 1e-4);
  for (double bits : {0.1, 1.0}) EXPECT_LT(bounds.scales.nmse_at(bits), bounds.pooled.nmse_at(bits));
}

TEST(RateDistortionBounds, AreTheSameForAnyNumberOfThreads) {
  std::mt19937 random(8);
  std::student_t_distribution<float> heavy(3);
  std::vector<float> values(20000);
  for (float& value : values) value = heavy(random);
  TensorInfo info;
  info.shape = {values.size()};
  const InputDump dump{"x.npy", source_of(info, values), {}, true};
  EXPECT_EQ(rate_distortion_bounds({dump}, 1).scales.nmse_at(1),
            rate_distortion_bounds({dump}, 3).scales.nmse_at(1));
}

}  // namespace
}  // namespace jsq

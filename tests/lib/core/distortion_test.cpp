// Measured error of decoded values against plain sums.
#include <gtest/gtest.h>

#include <cmath>

#include "jsq/compress.hpp"
#include "tests/kernels/data.hpp"

namespace jsq {
namespace {

TEST(Distortion, IsTheSumsOfItsDefinition) {
  for (test::Kind kind : {test::Kind::heavy, test::Kind::near_max, test::Kind::subnormal, test::Kind::sparse})
    for (size_t n : {1, 17, 1000, 70000}) {
      const std::vector<float> g = test::make_data(kind, n, 1), h = test::make_data(kind, n, 2);
      long double energy = 0, squared = 0, dot = 0, decoded = 0, sum = 0, absolute = 0;
      double largest = 0;
      for (size_t i = 0; i < n; ++i) {
        const double error = double(h[i]) - double(g[i]);
        energy += (long double)g[i] * g[i];
        decoded += (long double)h[i] * h[i];
        dot += (long double)g[i] * h[i];
        squared += (long double)error * error;
        sum += error;
        absolute += std::fabs(error);
        largest = std::max(largest, std::fabs(error));
      }
      const Distortion found = distortion(g, h);
      EXPECT_EQ(found.elements, n);
      EXPECT_NEAR(found.energy, double(energy), 1e-13 * double(energy));
      EXPECT_NEAR(found.squared_error, double(squared), 1e-13 * double(squared));
      EXPECT_NEAR(found.decoded_energy, double(decoded), 1e-13 * double(decoded));
      EXPECT_NEAR(found.dot, double(dot), 1e-13 * double(energy + decoded));
      EXPECT_NEAR(found.error_sum, double(sum), 1e-13 * double(absolute));
      EXPECT_EQ(found.max_error, largest);
      if (energy == 0 || decoded == 0) continue;
      EXPECT_NEAR(found.nmse(), double(squared / energy), 1e-12 * found.nmse());
      EXPECT_NEAR(found.cosine(), double(dot / std::sqrt(energy * decoded)), 1e-9);
    }
}

TEST(Distortion, HasLimitsForZeroVectors) {
  const std::vector<float> zeros(4, 0.0f), ones(4, 1.0f);
  EXPECT_EQ(distortion(zeros, zeros).nmse(), 0.0);
  EXPECT_EQ(distortion(zeros, zeros).cosine(), 1.0);
  EXPECT_EQ(distortion(zeros, ones).nmse(), HUGE_VAL);
  EXPECT_EQ(distortion(zeros, ones).cosine(), 0.0);
  EXPECT_EQ(distortion(ones, zeros).nmse(), 1.0);
  EXPECT_EQ(distortion({}, {}).nmse(), 0.0);
}

TEST(Distortion, AddsUp) {
  const std::vector<float> g = test::make_data(test::Kind::heavy, 65536 * 2),
                           h = test::make_data(test::Kind::heavy, 65536 * 2, 9);
  Distortion parts = distortion(std::span(g).first(65536), std::span(h).first(65536));
  parts.add(distortion(std::span(g).subspan(65536), std::span(h).subspan(65536)));
  const Distortion whole = distortion(g, h);
  EXPECT_EQ(parts.elements, whole.elements);
  EXPECT_EQ(parts.squared_error, whole.squared_error);
  EXPECT_EQ(parts.max_error, whole.max_error);
}

}  // namespace
}  // namespace jsq

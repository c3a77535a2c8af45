// The modelled error of coding by classes is that of coding, within what bins of magnitudes leave open.
#include "lib/methods/jointsq_errors.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/kernels/data.hpp"

namespace jsq {
namespace {

using element::ClassQuantizer;

/// Elements of at least `low` in a class of this width up to the next one's `low`.
struct Class {
  uint32_t width = 0;
  float low = 0;
};

element::ClassPlan plan_of(const std::vector<Class>& classes, float largest) {
  element::ClassPlan plan;
  plan.classes = uint32_t(classes.size());
  for (uint32_t j = 0; j < plan.classes; ++j) {
    plan.width[j] = classes[j].width;
    plan.threshold[j] = element::magnitude_key(classes[j].low);
    plan.cutoff[j] = UINT64_MAX;
    if (plan.width[j] > 0)
      plan.scale[j] = element::make_class_scale(ClassQuantizer::cell, plan.width[j], classes[j].low,
                                                j + 1 < plan.classes ? classes[j + 1].low : largest);
  }
  return plan;
}

/// Each element by itself, magnitude by magnitude.
double squared_error(const std::vector<float>& values, const std::vector<Class>& classes, float largest) {
  double sum = 0;
  for (float value : values) {
    const double g = std::fabs(double(value));
    size_t c = 0;
    while (c + 1 < classes.size() && g >= double(classes[c + 1].low)) ++c;
    double decoded = 0;
    if (classes[c].width > 0) {
      const double low = classes[c].low, high = c + 1 < classes.size() ? classes[c + 1].low : largest;
      const double cells = std::ldexp(1.0, int(classes[c].width) - 1), step = (high - low) / cells;
      decoded = low + (std::min(std::floor((g - low) / step), cells - 1) + 0.5) * step;
    }
    sum += (g - decoded) * (g - decoded);
  }
  return sum;
}

void expect_near(const std::vector<float>& values, const std::vector<Class>& classes) {
  const SpanPopulation population(values);
  const MagnitudeIndex index(population, 0);
  const float largest = element::magnitude_of_key(population.summary().max_key);
  const double expected = squared_error(values, classes, largest);
  EXPECT_NEAR(modelled_squared_error(index, plan_of(classes, largest)), expected, 0.01 * expected);
}

TEST(JointSqErrors, AreThoseOfElementsOfManyMagnitudes) {
  for (const test::Kind kind : {test::Kind::gauss, test::Kind::heavy}) {
    const std::vector<float> values = test::make_data(kind, 200000);
    float largest = 0;
    for (float value : values) largest = std::max(largest, std::fabs(value));
    expect_near(values, {{0, 0}, {2, largest / 100}, {4, largest / 20}, {8, largest / 3}});
    expect_near(values, {{0, 0}, {2, largest / 1000}, {4, largest / 200}, {8, largest / 50}});
    expect_near(values, {{1, 0}, {3, largest / 30}});
    expect_near(values, {{0, 0}, {8, 0.99f * largest}});
  }
}

TEST(JointSqErrors, HoldTheLargestElementAsItIs) {
  std::vector<float> values = test::make_data(test::Kind::gauss, 50000);
  values[77] = -30000;
  expect_near(values, {{0, 0}, {2, 0.5f}, {4, 1.0f}, {8, 4.0f}});
  expect_near(values, {{0, 0}, {2, 100.0f}});
}

}  // namespace
}  // namespace jsq
